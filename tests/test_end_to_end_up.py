"""The command with a real cloud behind it, and the README's first five minutes, as its reader types them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import pytest

from emulation.gateway.control_client import ControlClient

README = Path(__file__).parent.parent / "README.md"
KEYS = {"AWS_ACCESS_KEY_ID": "444455556666", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The reader's shell: the commands of this Python, an empty home, and no AWS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SUNABOX_"))}
    folders = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "SUNABOX_IMAGES": str(tmp_path / "images"),
    }
    return {**kept, **folders, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def client(service: str, endpoint_url: str) -> Any:
    """A boto3 client of the account 444455556666."""
    return boto3.client(
        service,
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def now_milliseconds(endpoint_url: str) -> int:
    """The cloud's time, as CloudWatch Logs wants it."""
    return int(ControlClient(endpoint_url).clock().now.timestamp() * 1000)


def sunabox(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emulation.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def endpoint_url(environment: dict[str, str], port: int) -> Iterator[str]:
    """A Sunabox in the background, with containers in memory; taken down after the test."""
    started = sunabox(environment, "up", "--detach", f"--port={port}", "--runtime=memory")
    assert started.returncode == 0, started.stderr
    yield f"http://127.0.0.1:{port}"
    sunabox(environment, "down", f"--port={port}")


def test_what_is_up_answers_aws_clients_until_it_is_down(environment: dict[str, str], endpoint_url: str) -> None:
    """The account is the access key, the health page is there, and after `down` nothing answers."""
    sts = client("sts", endpoint_url)
    assert sts.get_caller_identity()["Account"] == "444455556666"
    sts.close()
    connection = HTTPConnection(endpoint_url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/_localstack/health")
    assert json.load(connection.getresponse())["services"]["sts"] == "running"
    connection.close()
    assert sunabox(environment, "down", "--endpoint-url", endpoint_url).returncode == 0
    with pytest.raises(ConnectionRefusedError):
        HTTPConnection(endpoint_url.removeprefix("http://"), timeout=10).connect()


def test_logs_are_printed_from_the_command_line(environment: dict[str, str], endpoint_url: str) -> None:
    """By stream, and by how long ago on the cloud's clock; a group that is not there is one line of error."""
    logs = client("logs", endpoint_url)
    logs.create_log_group(logGroupName="/app")
    milliseconds = now_milliseconds(endpoint_url)
    for stream, message, ago in (("web/1", "hello", 1_000), ("job/1", "done", 3_600_000)):
        logs.create_log_stream(logGroupName="/app", logStreamName=stream)
        event = {"timestamp": milliseconds - ago, "message": message}
        logs.put_log_events(logGroupName="/app", logStreamName=stream, logEvents=[event])
    logs.close()
    environment |= KEYS | {"AWS_ENDPOINT_URL": endpoint_url}

    def messages(*options: str) -> list[str]:
        result = sunabox(environment, "logs", "/app", *options)
        assert result.returncode == 0, result.stderr
        return [line.split(" ", 1)[1] for line in result.stdout.splitlines()]

    assert messages() == ["job/1 done", "web/1 hello"]
    assert messages("--since", "10m") == ["web/1 hello"]
    assert messages("--stream", "job/") == ["job/1 done"]
    missing = sunabox(environment, "logs", "/nothing")
    assert missing.returncode == 1
    assert "ResourceNotFoundException" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1


def test_logs_are_followed_until_ctrl_c(environment: dict[str, str], endpoint_url: str) -> None:
    """What is logged later is printed too; Ctrl-C ends it without a trace."""
    logs = client("logs", endpoint_url)
    logs.create_log_group(logGroupName="/app")
    logs.create_log_stream(logGroupName="/app", logStreamName="web")
    environment |= KEYS | {"AWS_ENDPOINT_URL": endpoint_url}
    command = [sys.executable, "-m", "emulation.cli.main", "logs", "/app", "--follow"]
    following = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert following.stdout is not None
    try:
        for message in ("first", "second"):
            event = {"timestamp": now_milliseconds(endpoint_url), "message": message}
            logs.put_log_events(logGroupName="/app", logStreamName="web", logEvents=[event])
            assert following.stdout.readline().endswith(f" web {message}\n")
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=20)
    finally:
        following.kill()
        following.communicate()
        logs.close()
    assert following.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.needs_runtime("process")
def test_the_first_five_minutes_go_as_the_readme_says(environment: dict[str, str], port: int) -> None:
    """Every command of the page is run in one shell; the trained model, its log lines and its end are really there."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -euo pipefail", *blocks])
    script = script.replace("sunabox up --detach", f"sunabox up --detach --port {port} --runtime process")
    script = script.replace(":4566", f":{port}")
    try:
        result = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            cwd=README.parent,
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        sunabox(environment, "down", f"--port={port}")
    assert result.returncode == 0, result.stdout + result.stderr
    output = result.stdout
    assert re.search(r'"STOPPED",\s+"EssentialContainerExited",\s+0', output), output
    assert "model.json" in output
    assert len(re.findall(r"furui/[0-9a-f]{32} metrics ", output)) == 2, output
    assert '"MISSING"' in output
    assert output.rstrip().endswith(f"Stopped Sunabox at http://127.0.0.1:{port}.")
