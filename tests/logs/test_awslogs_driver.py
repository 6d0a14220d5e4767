"""The awslogs driver: live, ordered, complete, and held up by nobody else's pace."""

import asyncio
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emulation.clock import SystemClock, VirtualClock, monotonic, real_sleep
from emulation.logs import api as logs_api
from emulation.logs.driver import AwslogsDriver, LogDriverError, LogStream
from emulation.runtime.base import Line, Stream

REGION = "eu-central-1"
OPTIONS = {
    "awslogs-group": "/ecs/web",
    "awslogs-region": REGION,
    "awslogs-stream-prefix": "ecs",
    "awslogs-create-group": "true",
}


def out(text: bytes, complete: bool = True) -> Line:
    return Line(Stream.STDOUT, text, complete)


@pytest.fixture
def driver(service: Any) -> AwslogsDriver:
    return AwslogsDriver(service.api, SystemClock())


@pytest.fixture
def opened(service: Any, driver: AwslogsDriver, account: str) -> Callable[..., LogStream]:
    def open_with(**options: str) -> LogStream:
        stream: LogStream = service.run(
            driver.open(
                {**OPTIONS, **{name.replace("_", "-"): value for name, value in options.items()}},
                account=account,
                region=REGION,
                task_id="0f1e2d3c",
                container_name="web",
            )
        )
        return stream

    return open_with


def messages(client: Any) -> list[str]:
    events, token = [], {}
    while True:
        page = client.filter_log_events(logGroupName="/ecs/web", **token)
        events += [event["message"] for event in page["events"]]
        if "nextToken" not in page:
            return events
        token = {"nextToken": page["nextToken"]}


def within(seconds: float, condition: Callable[[], bool], service: Any) -> bool:
    begin = monotonic()
    while monotonic() - begin < seconds:
        if condition():
            return True
        service.run(real_sleep(0.005))
    return condition()


def test_a_line_can_be_read_within_200_milliseconds(service: Any, opened: Any, client: Any) -> None:
    """Also by a client that polls, in the stream prefix/container/task, with the time of the clock."""
    stream = opened()
    latencies = []
    for number in range(1, 6):
        before = SystemClock().now()
        service.run(stream.write(out(b"hello")))
        assert within(10, lambda number=number: len(messages(client)) == number, service)
        latencies.append(SystemClock().now() - before)
        events = client.get_log_events(logGroupName="/ecs/web", logStreamName="ecs/web/0f1e2d3c")["events"]
        assert 0 <= events[-1]["timestamp"] - int(before.timestamp() * 1000) <= 1000
    # The median, because other tests may run on this machine at the same time.
    assert statistics.median(latencies) < timedelta(milliseconds=200)


def test_lines_keep_their_order_and_empty_ones_are_dropped(service: Any, opened: Any, client: Any) -> None:
    """Standard output and error go to one stream in the order in which they arrive."""
    stream = opened(mode="blocking")

    async def print_lines() -> None:
        for number in range(3000):
            await stream.write(Line(Stream.STDERR if number % 3 else Stream.STDOUT, b"%d" % number))
            await stream.write(out(b""))
        await stream.close()

    service.run(print_lines())
    assert messages(client) == [str(number) for number in range(3000)]


def test_close_stores_what_was_written_also_an_unfinished_line(service: Any, opened: Any, client: Any) -> None:
    """Nothing is missing once close has returned, and nothing is taken any more."""
    stream = opened()

    async def print_and_die() -> None:
        await stream.write(out(b"first"))
        await stream.write(out(b"sec", complete=False))
        await stream.close()
        await stream.write(out(b"too late"))
        await stream.close()

    service.run(print_and_die())
    assert messages(client) == ["first", "sec"]


def test_a_line_of_50_megabytes_passes_whole_and_holds_up_nobody(service: Any, opened: Any) -> None:
    """It becomes events of the size limit; meanwhile the event loop goes on."""
    stream = opened(mode="blocking")
    part = b"0123456789abcdef" * 16384

    async def print_it() -> float:
        longest = 0.0

        async def other_work() -> None:
            nonlocal longest
            while True:
                begin = monotonic()
                await real_sleep(0.001)
                longest = max(longest, monotonic() - begin)

        watcher = asyncio.get_running_loop().create_task(other_work())
        for number in range(200):
            await stream.write(out(part, complete=number == 199))
        await stream.close()
        watcher.cancel()
        return longest

    longest = service.run(print_it())
    group = logs_api.logs_backends[stream.account][REGION].groups["/ecs/web"]
    events = service.run(service.api.call(lambda: list(group.streams[stream.name].events)))
    assert [event.size for event in events[:-1]] == [1024 * 1024] * 50
    assert "".join(event.message for event in events) == (part * 200).decode()
    assert longest < 1


def test_a_fast_container_waits_in_blocking_mode(service: Any, opened: Any, client: Any) -> None:
    """While the API thread is busy write does not return, so that the runtime reads no further; nothing is lost."""
    stream = opened(mode="blocking")

    async def print_while_the_api_is_busy() -> tuple[int, int]:
        loop, free = asyncio.get_running_loop(), asyncio.Event()
        release = asyncio.run_coroutine_threadsafe
        busy = loop.create_task(service.api.call(lambda: release(free.wait(), loop).result(30)))
        written = 0

        async def container() -> None:
            nonlocal written
            for _ in range(100):
                await stream.write(out(b"x" * 100_000))
                written += 1

        printing = loop.create_task(container())
        await asyncio.wait([printing], timeout=0.3)
        held_up_at = written
        free.set()
        await busy
        await printing
        await stream.close()
        return held_up_at, written

    held_up_at, written = service.run(print_while_the_api_is_busy())
    assert 5 < held_up_at < 20
    assert written == 100
    assert len(messages(client)) == 100
    assert stream.lost_lines == 0


def test_non_blocking_mode_loses_what_the_buffer_does_not_hold(service: Any, opened: Any, client: Any) -> None:
    """The container goes on; further lines are lost as long as the buffer is full, and the loss is counted."""
    stream = opened(mode="non-blocking", max_buffer_size="1k")

    async def print_while_the_api_is_busy() -> None:
        loop, free = asyncio.get_running_loop(), asyncio.Event()
        busy = loop.create_task(
            service.api.call(lambda: asyncio.run_coroutine_threadsafe(free.wait(), loop).result(30))
        )
        for number in range(100):
            await stream.write(out(b"%04d" % number))
        free.set()
        await busy
        await stream.close()

    service.run(print_while_the_api_is_busy())
    assert messages(client) == [f"{number:04d}" for number in range(1024 // 30)]
    assert stream.lost_lines == 100 - 1024 // 30


def test_a_multi_line_event_can_be_read_soon_after_its_last_line(service: Any, opened: Any, client: Any) -> None:
    """Lines that the pattern does not match continue the event; a pause ends it."""
    stream = opened(awslogs_multiline_pattern=r"^\S")

    async def print_trace() -> None:
        for line in (b"ERROR failed", b"  at Main", b"  at Other", b"INFO fine"):
            await stream.write(out(line))

    service.run(print_trace())
    expected = ["ERROR failed\n  at Main\n  at Other\n", "INFO fine\n"]
    # 200 ms are the promise; the rest is the test's own polling on a busy machine.
    assert within(0.4, lambda: messages(client) == expected, service)
    service.run(stream.write(out(b"  later")))
    service.run(stream.close())
    assert messages(client) == [*expected, "  later\n"]


def test_an_event_that_is_continued_without_end_is_cut(
    service: Any, opened: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even without a pause a multi-line event does not wait longer than Docker's driver lets it."""
    monkeypatch.setattr("emulation.logs.driver._MULTILINE_PATIENCE_SECONDS", 0.3)
    stream = opened(awslogs_multiline_pattern="^never")

    async def print_on() -> None:
        while not stored.is_set():
            await stream.write(out(b"more"))
            await real_sleep(0.02)

    stored = asyncio.Event()
    printing = asyncio.run_coroutine_threadsafe(print_on(), service.loop)
    assert within(5, lambda: bool(messages(client)), service)
    service.loop.call_soon_threadsafe(stored.set)
    printing.result(10)
    service.run(stream.close())


def test_a_missing_group_is_the_tasks_stop_reason(service: Any, driver: AwslogsDriver, account: str) -> None:
    """Without awslogs-create-group the task fails to start, in AWS's words."""
    options = {name: value for name, value in OPTIONS.items() if name != "awslogs-create-group"}
    where = {"account": account, "region": REGION, "task_id": "t", "container_name": "web"}
    words = (
        "failed to create Cloudwatch log stream: operation error CloudWatch Logs: CreateLogStream, "
        "https response error StatusCode: 400, RequestID: [0-9a-f-]{36}, "
        "ResourceNotFoundException: The specified log group does not exist."
    )
    fargate = (
        "ResourceInitializationError: failed to validate logger args: "
        f"create stream has been retried 1 times: {words} : exit status 1"
    )
    with pytest.raises(LogDriverError, match=f"^{fargate}$"):
        service.run(driver.open(options, **where))
    ec2 = f"CannotStartContainerError: Error response from daemon: failed to initialize logging driver: {words}"
    with pytest.raises(LogDriverError, match=f"^{ec2}$"):
        service.run(driver.open(options, **where, fargate=False))


def test_wrong_options_are_the_tasks_stop_reason(service: Any, driver: AwslogsDriver, account: str) -> None:
    """What RegisterTaskDefinition did not see fails the start of the task."""
    options = {**OPTIONS, "awslogs-multiline-pattern": "("}
    with pytest.raises(LogDriverError, match="^ResourceInitializationError: failed to validate logger args: awslogs"):
        service.run(driver.open(options, account=account, region=REGION, task_id="t", container_name="web"))


def test_a_region_that_does_not_exist_is_said(service: Any, driver: AwslogsDriver, account: str) -> None:
    """As on AWS, the endpoint's name is not found."""
    options = {**OPTIONS, "awslogs-region": "moon-1"}
    with pytest.raises(LogDriverError, match=r"lookup logs\.moon-1\.amazonaws\.com: no such host"):
        service.run(driver.open(options, account=account, region=REGION, task_id="t", container_name="web"))


def test_logs_go_to_the_region_of_the_options(service: Any, driver: AwslogsDriver, account: str, client: Any) -> None:
    """awslogs-region may be another than the task's."""
    service.run(driver.open(OPTIONS, account=account, region="us-east-1", task_id="t", container_name="web"))
    assert client.describe_log_streams(logGroupName="/ecs/web")["logStreams"][0]["logStreamName"] == "ecs/web/t"


def test_a_container_that_starts_again_goes_on_with_its_stream(service: Any, opened: Any, client: Any) -> None:
    """A stream that exists is no error."""
    for text in (b"one", b"two"):
        stream = opened()
        service.run(stream.write(out(text)))
        service.run(stream.close())
    assert messages(client) == ["one", "two"]


def test_a_group_deleted_meanwhile_does_not_hold_up_the_container(
    service: Any, opened: Any, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The lines are lost, and the log says why; once, however many lines there are."""
    stream = opened(mode="blocking")
    client.delete_log_group(logGroupName="/ecs/web")
    for _ in range(3):
        service.run(stream.write(out(b"into nothing")))
        service.run(stream._stored.wait())
    service.run(stream.close())
    assert "Log events of ecs/web/0f1e2d3c are lost from here on: ResourceNotFoundException" in caplog.text
    assert len([record for record in caplog.records if "are lost" in record.getMessage()]) == 1


def test_virtual_time_waits_until_printed_lines_are_stored(service: Any, account: str) -> None:
    """Who reads the log after an advance finds what was printed before, with the time at which it was printed."""
    clock = VirtualClock(datetime(2030, 1, 1, tzinfo=UTC))

    async def story() -> list[tuple[int, str]]:
        driver = AwslogsDriver(service.api, clock)
        stream = await driver.open(OPTIONS, account=account, region=REGION, task_id="t", container_name="web")
        await stream.write(out(b"noon"))
        await clock.advance(clock.now() - clock.now())
        events = logs_api.logs_backends[account][REGION].groups["/ecs/web"].streams["ecs/web/t"].events
        return [(event.timestamp, event.message) for event in events]

    assert service.run(story()) == [(int(clock.now().timestamp() * 1000), "noon")]
