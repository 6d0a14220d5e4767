"""Following a log group: with the awslogs tool, and with our own."""

import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.clock import SystemClock, monotonic, real_sleep
from emulation.logs.driver import AwslogsDriver
from emulation.logs.follow import log_lines
from emulation.runtime.base import Line, Stream

REGION = "eu-central-1"
OPTIONS = {
    "awslogs-group": "/ecs/train",
    "awslogs-region": REGION,
    "awslogs-stream-prefix": "ecs",
    "awslogs-create-group": "true",
}


@pytest.fixture
def stream(service: Any, account: str) -> Any:
    driver = AwslogsDriver(service.api, SystemClock())
    return service.run(driver.open(OPTIONS, account=account, region=REGION, task_id="0f1e", container_name="train"))


def write(service: Any, stream: Any, *lines: str) -> None:
    for line in lines:
        service.run(stream.write(Line(Stream.STDOUT, line.encode())))


def test_the_awslogs_tool_follows_a_group_live(service: Any, account: str, stream: Any) -> None:
    """`awslogs get GROUP --watch` prints what was there and each line that comes, once and in order."""
    write(service, stream, "epoch 1", "epoch 2")
    arguments = ["get", "/ecs/train", "--watch", "--watch-interval", "1", "--color", "never"]
    tool = subprocess.Popen(
        [sys.executable, "-c", "from awslogs.bin import main; main()", *arguments],
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": service.endpoint_url,
            "AWS_ACCESS_KEY_ID": account,
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    too_long = threading.Timer(60, tool.kill)
    too_long.start()
    try:
        assert tool.stdout is not None
        assert [tool.stdout.readline() for _ in range(2)] == [
            "/ecs/train ecs/train/0f1e epoch 1\n",
            "/ecs/train ecs/train/0f1e epoch 2\n",
        ]
        for number in range(3, 6):
            write(service, stream, f"epoch {number}", f"accuracy {number}")
            begin = monotonic()
            assert tool.stdout.readline() == f"/ecs/train ecs/train/0f1e epoch {number}\n"
            assert tool.stdout.readline() == f"/ecs/train ecs/train/0f1e accuracy {number}\n"
            assert monotonic() - begin < 10
    finally:
        too_long.cancel()
        tool.kill()
        tool.communicate()


def test_following_gives_each_line_once(service: Any, client: Any, stream: Any) -> None:
    """log_lines yields what is there, and with `wait` what comes, also events that arrive out of order."""
    write(service, stream, "one", "two")
    service.run(real_sleep(0.1))
    printed: list[str] = []
    looks = 0

    class Enough(Exception):
        pass

    def wait() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise Enough
        late = client.get_log_events(logGroupName="/ecs/train", logStreamName=stream.name)["events"][0]["timestamp"]
        client.put_log_events(
            logGroupName="/ecs/train",
            logStreamName=stream.name,
            logEvents=[{"timestamp": late, "message": f"late {looks}"}],
        )

    def follow() -> None:
        for line in log_lines(client, "/ecs/train", wait=wait):
            printed.append(line.message)

    with pytest.raises(Enough):
        follow()
    assert printed == ["one", "two", "late 1", "late 2"]


def test_reading_can_be_narrowed(service: Any, client: Any, stream: Any) -> None:
    """Streams by prefix, a beginning, and a pattern; without `wait` it ends."""
    write(service, stream, "one", "two")
    service.run(stream.close())
    assert [line.message for line in log_lines(client, "/ecs/train", filter_pattern="two")] == ["two"]
    assert list(log_lines(client, "/ecs/train", stream_prefix="other/")) == []
    (first, second) = log_lines(client, "/ecs/train")
    assert first.stream == "ecs/train/0f1e"
    assert all(line.timestamp >= second.timestamp for line in log_lines(client, "/ecs/train", since=second.timestamp))
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        list(log_lines(client, "/nothing"))
