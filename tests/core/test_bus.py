"""The event bus: every subscriber gets every event in order, whatever the others do."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emulation.clock import VirtualClock, real_sleep
from emulation.core.bus import Bus, Event

START = datetime(2024, 1, 1, tzinfo=UTC)


def event(number: int) -> Event:
    return Event("aws.ecs", "ECS Task State Change", "111111111111", "eu-west-1", (), {"version": number}, START)


def run(main: Callable[[VirtualClock, Bus], Coroutine[Any, Any, None]]) -> None:
    async def with_bus() -> None:
        clock = VirtualClock(START)
        await main(clock, Bus(clock))

    asyncio.run(with_bus())


def test_events_arrive_in_order_at_functions_and_coroutines() -> None:
    """A slow subscriber sees the order too, and does not hold up a quick one."""

    async def main(clock: VirtualClock, bus: Bus) -> None:
        quick: list[object] = []
        slow: list[object] = []

        async def take_slowly(event: Event) -> None:
            await real_sleep(0.001)
            slow.append(event.detail["version"])

        bus.subscribe(take_slowly)
        bus.subscribe(lambda event: quick.append(event.detail["version"]))
        for number in range(10):
            bus.publish(event(number))
        await real_sleep(0)
        assert quick == list(range(10))
        await bus.close()
        assert slow == list(range(10))

    run(main)


def test_a_failing_subscriber_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, gets the next event, and the others get theirs."""

    async def main(clock: VirtualClock, bus: Bus) -> None:
        seen: list[object] = []
        tried: list[object] = []

        def fail(event: Event) -> None:
            tried.append(event.detail["version"])
            raise RuntimeError("broken subscriber")

        bus.subscribe(fail)
        bus.subscribe(lambda event: seen.append(event.detail["version"]))
        bus.publish(event(1))
        bus.publish(event(2))
        await bus.close()
        assert tried == [1, 2]
        assert seen == [1, 2]

    run(main)
    assert "broken subscriber" in caplog.text
    assert "ECS Task State Change of aws.ecs" in caplog.text


def test_what_a_subscriber_publishes_comes_after_what_is_there() -> None:
    """Two subscribers see the same order also when one of them answers with an event."""

    async def main(clock: VirtualClock, bus: Bus) -> None:
        seen: list[object] = []

        def answer(event_seen: Event) -> None:
            if event_seen.detail["version"] == 1:
                bus.publish(event(3))

        bus.subscribe(answer)
        bus.subscribe(lambda event: seen.append(event.detail["version"]))
        bus.publish(event(1))
        bus.publish(event(2))
        await clock.advance(timedelta(0))
        assert seen == [1, 2, 3]

    run(main)


def test_virtual_time_waits_for_deliveries() -> None:
    """A rule that matches an event starts its target at the event's time, not after the jump."""

    async def main(clock: VirtualClock, bus: Bus) -> None:
        delivered: list[datetime] = []

        async def take(event: Event) -> None:
            await real_sleep(0.02)
            delivered.append(clock.now())

        bus.subscribe(take)
        clock.call_at(START + timedelta(seconds=1), lambda: bus.publish(event(1)))
        clock.call_at(START + timedelta(seconds=2), lambda: None)
        await clock.advance(timedelta(seconds=3))
        assert delivered == [START + timedelta(seconds=1)]

    run(main)


def test_who_has_cancelled_gets_nothing_more() -> None:
    """Not even what was published before and not delivered yet."""

    async def main(clock: VirtualClock, bus: Bus) -> None:
        seen: list[Event] = []
        subscription = bus.subscribe(seen.append)
        bus.publish(event(1))
        subscription.cancel()
        subscription.cancel()
        bus.publish(event(2))
        await clock.advance(timedelta(0))
        assert seen == []

    run(main)


def test_closing_does_not_wait_for_a_stuck_subscriber() -> None:
    """After its patience the delivery is cancelled, and nothing is left running."""

    async def main(clock: VirtualClock, bus: Bus) -> None:
        async def hang(event: Event) -> None:
            await asyncio.Event().wait()

        bus.subscribe(hang)
        bus.publish(event(1))
        await bus.close(patience=0.02)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
