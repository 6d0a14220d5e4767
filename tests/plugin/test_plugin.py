"""The pytest plugin, as suites use it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emulation.gateway.control_client import ControlClient, NotRunning

if TYPE_CHECKING:
    from tests.plugin.conftest import RunSuite

README = Path(__file__).parent.parent.parent / "README.md"


def test_a_suite_that_does_not_use_it_does_not_pay_for_it(run_suite: RunSuite) -> None:
    """Without a fixture of ours nothing of Sunabox, moto or boto3 is loaded, and no thread runs."""
    run_suite(
        """
        import sys, threading

        def test_nothing_is_loaded():
            loaded = {name for name in sys.modules if name.split(".")[0] in ("moto", "boto3", "botocore", "emulation")}
            assert loaded == {"emulation", "emulation.pytest_plugin"}
            assert threading.active_count() == 1
        """
    ).assert_outcomes(passed=1)


def test_each_test_has_an_account_of_its_own(run_suite: RunSuite) -> None:
    """What one test makes the next does not see; its access key is its account; programs can use it too."""
    run_suite(
        """
        import json, os, subprocess, sys
        import pytest

        seen = set()

        @pytest.mark.parametrize("turn", range(2))
        def test_account(aws, cloud, turn):
            assert aws.client("sts").get_caller_identity()["Account"] == aws.account_id
            assert aws.account_id not in seen and len(aws.account_id) == 12
            seen.add(aws.account_id)
            assert aws.client("sqs").list_queues().get("QueueUrls", []) == []
            queue = aws.resource("sqs").create_queue(QueueName="jobs")
            assert aws.account_id in queue.url
            assert aws.client("sqs", region_name="eu-west-1").list_queues().get("QueueUrls", []) == []
            program = "import boto3; print(boto3.client('sqs').list_queues()['QueueUrls'])"
            found = subprocess.run([sys.executable, "-c", program], env={**os.environ, **aws.environment()},
                                   capture_output=True, text=True, check=True).stdout
            assert queue.url in found
            assert aws.client("ecs") is aws.client("ecs")

        def test_what_is_in_the_environment_does_not_matter(aws, cloud, monkeypatch):
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            monkeypatch.setenv("AWS_PROFILE", "missing")
            assert aws.client("sts").get_caller_identity()["Account"] == aws.account_id
            assert os.environ["AWS_PROFILE"] == "missing"
            assert cloud.status()["runtime"] == cloud.runtime == "memory"
        """,
        "--runtime=memory",
    ).assert_outcomes(passed=3)


def test_the_example_of_the_readme_passes(run_suite: RunSuite) -> None:
    """What the page shows of the plugin works as it stands."""
    (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    run_suite(example, "--runtime=memory").assert_outcomes(passed=1)


def test_workers_of_xdist_have_a_cloud_each(run_suite: RunSuite, tmp_path: Path) -> None:
    """Two workers, two endpoints, and no account twice; all of it is gone afterwards."""
    run_suite(
        f"""
        import pathlib, time
        import pytest

        folder = pathlib.Path({str(tmp_path)!r})

        @pytest.mark.parametrize("turn", range(4))
        def test_account(aws, cloud, worker_id, turn, eventually):
            (folder / f"{{worker_id}}-{{turn}}").write_text(f"{{cloud.endpoint_url}} {{aws.account_id}}")
            # Neither worker takes all tests: each waits until the other has begun.
            eventually(lambda: len({{path.name.split("-")[0] for path in folder.glob("gw*")}}) == 2, within=60)
        """,
        "--runtime=memory",
        "-n2",
    ).assert_outcomes(passed=4)
    records = {path.name: path.read_text().split() for path in tmp_path.glob("gw*")}
    assert len({account for _, account in records.values()}) == 4
    endpoints = {url for url, _ in records.values()}
    assert len(endpoints) == 2
    for url in endpoints:
        with pytest.raises(NotRunning):
            ControlClient(url).status()


def test_the_clock_is_turned_and_gets_its_speed_back(run_suite: RunSuite) -> None:
    """Advancing is exact on a frozen clock; the next test finds real time again."""
    run_suite(
        """
        from datetime import timedelta

        def test_turn(clock):
            clock.freeze()
            before = clock.now()
            assert clock.advance(timedelta(hours=5, microseconds=3)) - before == timedelta(hours=5, microseconds=3)
            assert clock.now() - before == timedelta(hours=5, microseconds=3)
            clock.speed(50)
            assert clock.state().speed == 50

        def test_next(clock):
            assert clock.state().speed == 1
        """,
        "--runtime=memory",
    ).assert_outcomes(passed=2)


def test_a_suite_may_say_how_its_cloud_is_started(run_suite: RunSuite, pytester: pytest.Pytester) -> None:
    """Overriding `cloud_options` is how it gets a virtual clock; that one stays frozen after a test sped it up."""
    pytester.makeconftest(
        """
        import pytest
        from emulation.cloud import CloudOptions

        @pytest.fixture(scope="session")
        def cloud_options():
            return CloudOptions(port=0, runtime="memory", virtual_clock=True)
        """
    )
    run_suite(
        """
        def test_virtual(clock):
            assert clock.state().frozen
            clock.speed(2)

        def test_next(clock):
            assert clock.state().frozen
        """
    ).assert_outcomes(passed=2)


def test_tasks_that_a_test_leaves_are_stopped(run_suite: RunSuite) -> None:
    """When a test is over its tasks are told to stop, in every region that it used."""
    run_suite(
        """
        import boto3
        from emulation.testing.account import AwsAccount

        left = []

        def test_leaves_a_task(aws):
            for region in ("us-east-1", "eu-west-1"):
                ecs = aws.client("ecs", region_name=region)
                ecs.create_cluster(clusterName="c")
                ecs.register_task_definition(
                    family="f", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
                    containerDefinitions=[{"name": "main", "image": "app", "essential": True}],
                )
                subnet = aws.client("ec2", region_name=region).describe_subnets()["Subnets"][0]["SubnetId"]
                answer = ecs.run_task(
                    cluster="c", taskDefinition="f", launchType="FARGATE",
                    networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet]}},
                )
                assert not answer["failures"]
                left.append((ecs, answer["tasks"][0]["taskArn"]))

        def test_finds_it_stopped(eventually):
            for ecs, task in left:
                def stopped() -> None:
                    found = ecs.describe_tasks(cluster="c", tasks=[task])["tasks"][0]
                    assert found["lastStatus"] == "STOPPED", found["lastStatus"]
                    assert found["stoppedReason"] == "the test is over"
                eventually(stopped, within=20)
        """,
        "--runtime=memory",
    ).assert_outcomes(passed=2)


@pytest.fixture
def running() -> Iterator[str]:
    """The endpoint of a Sunabox that is already there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emulation.cli.main", "up", "--port=0", "--runtime=memory"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        url = process.stdout.readline().strip()
        while process.stdout.readline() != "Ready.\n":
            assert process.poll() is None
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_suite_runs_against_a_sunabox_that_is_already_there(run_suite: RunSuite, running: str) -> None:
    """With --endpoint-url none is started: not even the code for it is loaded."""
    run_suite(
        f"""
        import sys
        from datetime import timedelta

        def test_there(aws, cloud, clock):
            assert cloud.endpoint_url == {running!r}
            assert aws.client("sts").get_caller_identity()["Account"] == aws.account_id
            before = clock.now()
            assert clock.advance(timedelta(hours=1)) >= before + timedelta(hours=1)
            assert "emulation.cloud" not in sys.modules and "moto" not in sys.modules
        """,
        f"--endpoint-url={running}/",
    ).assert_outcomes(passed=1)
    assert ControlClient(running).status()["pid"] != os.getpid()


@pytest.mark.parametrize("more", [(), ("-n2",)])
def test_a_wrong_endpoint_is_one_clear_error(run_suite: RunSuite, more: tuple[str, ...]) -> None:
    """No test runs; the error says what to do, once, and without a trace."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = run_suite("def test_it(aws): pass", f"--endpoint-url={url}", *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    output = result.stdout.str() + result.stderr.str()
    assert len(re.findall(re.escape(f"No Sunabox answers at {url}"), output)) == 1
    assert "Traceback" not in output


def test_a_runtime_cannot_be_asked_of_a_sunabox_that_is_already_there(run_suite: RunSuite) -> None:
    """--runtime and --endpoint-url exclude each other."""
    result = run_suite("def test_it(aws): pass", "--endpoint-url=http://127.0.0.1:1", "--runtime=memory")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_cloud_that_cannot_start_says_why(run_suite: RunSuite, pytester: pytest.Pytester) -> None:
    """Each test that needs it gets the reason as its error, without a trace through Sunabox."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        pytester.makeconftest(
            f"""
            import pytest
            from emulation.cloud import CloudOptions

            @pytest.fixture(scope="session")
            def cloud_options():
                return CloudOptions(port={port}, runtime="memory")
            """
        )
        result = run_suite("def test_it(aws): pass\ndef test_other(): pass")
    result.assert_outcomes(errors=1, passed=1)
    output = result.stdout.str()
    assert f"Sunabox did not start. 127.0.0.1:{port} is taken" in output
    assert "cloud_thread.py" not in output
