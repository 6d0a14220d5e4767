"""Chapter 8, the beginning: the program is pushed to ECR, and trains its model as a task on Fargate.

The engineer's program has run on his own machine so far. Now it becomes an image; AWS runs it on a machine that he
never sees, and all he has of it is what it writes: lines in CloudWatch Logs, a model in S3, an exit code.
"""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from checks import At, is_up
from fargate import FIXTURES, Fargate
from program import Program

from emulation.testing.account import AwsAccount

pytestmark = pytest.mark.needs_runtime("process", "docker")

Eventually = Callable[..., Any]
PORT = 7777
BUCKET = "furui-models"


@pytest.fixture
def examples(aws: AwsAccount) -> str:
    """The examples, put into S3 by hand: their URI."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=f"{BUCKET}-{aws.account_id}")
    s3.upload_file(str(FIXTURES / "data" / "foldoc.tsv"), f"{BUCKET}-{aws.account_id}", "examples.tsv")
    return f"s3://{BUCKET}-{aws.account_id}/examples.tsv"


def test_what_is_pushed_must_be_what_ecr_shows(fargate: Fargate, aws: AwsAccount) -> None:
    """ECR is a registry: an address that `docker push` takes as it stands, and an API that lists what came.

    Look at `aws ecr describe-images`: the digest is the one that the push printed, on any machine and at any time.
    """
    uri, digest = fargate.push("furui:1", "furui")

    (shown,) = aws.client("ecr").describe_images(repositoryName="furui")["imageDetails"]

    assert shown["imageDigest"] == digest
    assert shown["imageTags"] == ["1"]
    assert shown["imageSizeInBytes"] > 1_000_000
    assert uri.endswith("/furui:1")


def test_a_task_must_train_the_model_and_leave_it_in_s3(
    fargate: Fargate, furui_image: str, examples: str, aws: AwsAccount, furui_on: Callable[..., Program]
) -> None:
    """RunTask starts a container on Fargate; its role, not a key in its environment, opens S3 to it.

    On AWS a task goes through PROVISIONING (its network interface is made), PENDING (the image is pulled), RUNNING, and
    to STOPPED when its essential container exits. Look at the last lines of its log stream: the metrics of the model.
    """
    model = examples.replace("examples.tsv", "model.json")
    train = ["furui", "train", "--import", examples]
    definition = fargate.register("train", furui_image, train, environment=[{"name": "MODEL_S3_URI", "value": model}])

    task = fargate.stopped(fargate.run(definition))

    assert task["stopCode"] == "EssentialContainerExited"
    assert task["containers"][0]["exitCode"] == 0
    lines = fargate.lines(task["taskArn"])
    (metrics,) = [line for line in lines if line.startswith("metrics ")]
    scores = {name: float(value) for name, _, value in (pair.partition("=") for pair in metrics.split()[1:])}
    assert scores["f"] >= 0.7
    at_home = furui_on({"MODEL_S3_URI": model, **aws.environment()})
    at_home.must("import", FIXTURES / "data" / "foldoc.tsv")
    assert len(at_home.must("recommend").lines("recommend")) == 10


def test_a_line_must_be_readable_while_the_task_runs(
    fargate: Fargate, furui_image: str, eventually: Eventually
) -> None:
    """The awslogs driver carries each line to CloudWatch Logs as it is printed; `awslogs get --watch` follows it.

    Look at the stream's name: prefix/container/task id.
    """
    definition = fargate.register("web", furui_image, portMappings=[{"containerPort": PORT}])
    arn = fargate.run(definition, fargate.security_group("web", PORT))
    eventually(lambda: fargate.status(arn) == "RUNNING", within=20)

    following = fargate.awslogs("--watch", "--no-group", "--watch-interval", "1")
    try:
        assert following.stdout is not None
        line = following.stdout.readline()
    finally:
        following.kill()
        following.communicate()

    assert line.startswith(f"web/furui/{arn.rpartition('/')[2]} serve ")
    assert fargate.status(arn) == "RUNNING"


def test_two_tasks_must_each_have_the_port_to_themselves(
    fargate: Fargate, furui_image: str, eventually: Eventually
) -> None:
    """In network mode awsvpc every task has an interface of its own, so both listen on 0.0.0.0:7777.

    Look at the public addresses: each task has one, and the host is the internet that reaches it.
    """
    definition = fargate.register("web", furui_image, portMappings=[{"containerPort": PORT}])
    group = fargate.security_group("web", PORT)
    tasks = [fargate.run(definition, group) for _ in range(2)]
    for arn in tasks:
        eventually(lambda arn=arn: fargate.status(arn) == "RUNNING", within=20)

    addresses = [fargate.public_ip(arn) for arn in tasks]

    assert len(set(addresses)) == 2
    for address in addresses:
        eventually(lambda address=address: is_up(At(address)), within=20)


def test_a_security_group_without_the_port_must_answer_nothing(
    fargate: Fargate, furui_image: str, eventually: Eventually
) -> None:
    """The engineer opened the page and it loaded, and loaded. A closed security group does not refuse: it is silent.

    Look at what changes it: one rule, while the task runs.
    """
    definition = fargate.register("web", furui_image, portMappings=[{"containerPort": PORT}])
    group = fargate.security_group("closed")
    arn = fargate.run(definition, group)
    eventually(lambda: fargate.status(arn) == "RUNNING", within=20)
    address = fargate.public_ip(arn)

    with pytest.raises(TimeoutError):
        socket.create_connection((address, PORT), timeout=1)

    fargate.open(group, PORT)
    eventually(lambda: is_up(At(address)), within=20)


def test_a_stopped_task_must_be_asked_before_it_is_killed(
    fargate: Fargate, furui_image: str, eventually: Eventually
) -> None:
    """StopTask sends SIGTERM; the web application finishes its requests and exits by itself, with 0.

    Look at the reason: it is the one that the caller gave.
    """
    definition = fargate.register("web", furui_image, portMappings=[{"containerPort": PORT}])
    arn = fargate.run(definition, fargate.security_group("web", PORT))
    eventually(lambda: fargate.status(arn) == "RUNNING", within=20)
    address = fargate.public_ip(arn)
    eventually(lambda: is_up(At(address)), within=20)

    fargate.ecs.stop_task(cluster=fargate.cluster, task=arn, reason="the day is over")
    task = fargate.stopped(arn)

    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "the day is over")
    assert task["containers"][0]["exitCode"] == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, PORT), timeout=5)


def test_a_task_that_eats_its_memory_must_be_killed(fargate: Fargate, furui_image: str) -> None:
    """The container's hard limit is kept: what goes beyond it is killed, and the task says so.

    Look at the container's reason and at its exit code, 137: 128 and signal 9.
    """
    hungry = ["python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 20))"]
    definition = fargate.register("hungry", furui_image, hungry, memory=64)

    task = fargate.stopped(fargate.run(definition))

    container = task["containers"][0]
    assert container["exitCode"] == 137
    assert container["reason"] == "OutOfMemoryError: Container killed due to memory usage"


def test_an_image_that_nobody_pushed_must_stop_the_task(fargate: Fargate, furui_image: str) -> None:
    """A wrong tag is found out when the image is pulled, not before: RunTask has answered long since.

    Look at stoppedReason: CannotPullContainerError, and which image it was.
    """
    missing = furui_image.rpartition(":")[0] + ":2"
    definition = fargate.register("wrong", missing)

    task = fargate.stopped(fargate.run(definition))

    assert task["stopCode"] == "TaskFailedToStart"
    assert task["stoppedReason"].startswith("CannotPullContainerError: ")
    assert f"{missing}: not found" in task["stoppedReason"]
    assert "exitCode" not in task["containers"][0]
