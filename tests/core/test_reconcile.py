"""The reconcile loop: one pass at a time, none lost, none too many, and failures that neither vanish nor spin."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulation.clock import VirtualClock, monotonic, real_sleep
from emulation.core.plan import Action, Plan
from emulation.core.reconcile import Reconciler

START = datetime(2024, 1, 1, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@dataclass(frozen=True)
class RunTask(Action):
    number: int
    cause: str


async def nothing(key: str, action: RunTask) -> None:
    raise AssertionError("no action was planned")


class Service:
    """A service that wants `desired` tasks of each key and counts what is done."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.desired: dict[str, int] = {}
        self.running: dict[str, int] = {}
        self.passes: list[str] = []
        self.before_apply: Callable[[str], Awaitable[None]] | None = None
        self.reconciler = Reconciler(self.observe, self.plan, self.apply, clock, "service")

    async def observe(self, key: str) -> tuple[int, int] | None:
        self.passes.append(key)
        if key not in self.desired:
            return None
        return self.desired[key], self.running.get(key, 0)

    def plan(self, observed: tuple[int, int], now: datetime) -> Plan[RunTask]:
        desired, running = observed
        missing = range(running, desired)
        return Plan(tuple(RunTask(number, f"runningCount {running} < desiredCount {desired}") for number in missing))

    async def apply(self, key: str, action: RunTask) -> None:
        if self.before_apply is not None:
            await self.before_apply(key)
        self.running[key] = self.running.get(key, 0) + 1


def run(main: Callable[[VirtualClock, Service], Coroutine[Any, Any, None]]) -> None:
    async def with_service() -> None:
        clock = VirtualClock(START)
        service = Service(clock)
        try:
            await main(clock, service)
        finally:
            await service.reconciler.close(0.5)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(with_service())


async def settle(clock: VirtualClock) -> None:
    await clock.advance(timedelta(0))


def test_a_wake_leads_to_what_is_desired() -> None:
    """Observe, plan, apply: the actions of the plan are done in order."""

    async def main(clock: VirtualClock, service: Service) -> None:
        service.desired["web"] = 3
        service.reconciler.wake("web")
        await settle(clock)
        assert service.running == {"web": 3}

    run(main)


def test_wakes_before_a_pass_are_one() -> None:
    """A hundred events at once cost one pass."""

    async def main(clock: VirtualClock, service: Service) -> None:
        service.desired["web"] = 0
        for _ in range(100):
            service.reconciler.wake("web")
        await settle(clock)
        assert len(service.passes) == 1

    run(main)


def test_a_wake_during_a_pass_leads_to_one_more() -> None:
    """What changes after it was observed is not overlooked, and passes of a key do not overlap."""

    async def main(clock: VirtualClock, service: Service) -> None:
        at_once = 0

        async def meanwhile(key: str) -> None:
            nonlocal at_once
            at_once += 1
            assert at_once == 1
            await real_sleep(0.001)
            if service.desired[key] == 1:
                service.desired[key] = 2
                service.reconciler.wake(key)
                service.reconciler.wake(key)
            at_once -= 1

        service.before_apply = meanwhile
        service.desired["web"] = 1
        service.reconciler.wake("web")
        await settle(clock)
        assert service.running == {"web": 2}
        assert len(service.passes) == 2

    run(main)


def test_keys_do_not_wait_for_each_other() -> None:
    """A service whose pass hangs holds up no other service."""

    async def main(clock: VirtualClock, service: Service) -> None:
        go_on = asyncio.Event()

        async def hang(key: str) -> None:
            if key == "slow":
                await go_on.wait()

        service.before_apply = hang
        service.desired = {"slow": 1, "quick": 1}
        service.reconciler.wake("slow")
        service.reconciler.wake("quick")
        while "quick" not in service.running:
            await real_sleep(0)
        assert "slow" not in service.running
        go_on.set()
        await settle(clock)
        assert service.running == {"slow": 1, "quick": 1}

    run(main)


def test_virtual_time_waits_for_a_pass() -> None:
    """An advance moves on only after the passes that it led to have been applied."""

    async def main(clock: VirtualClock, service: Service) -> None:
        applied_at: list[datetime] = []

        async def work(key: str) -> None:
            await real_sleep(0.02)
            applied_at.append(clock.now())

        service.before_apply = work
        service.desired["web"] = 1
        clock.call_at(START + seconds(10), lambda: service.reconciler.wake("web"))
        clock.call_at(START + seconds(11), lambda: None)
        await clock.advance(seconds(60))
        assert applied_at == [START + seconds(10)]

    run(main)


def test_a_plan_wakes_at_its_moment() -> None:
    """wake_at is honoured exactly, and replaced by that of the next pass."""

    async def main(clock: VirtualClock, service: Service) -> None:
        passes: list[float] = []
        wake_after = [30.0, 90.0]

        async def observe(key: str) -> str:
            return key

        def plan(observed: str, now: datetime) -> Plan[RunTask]:
            passes.append((now - START).total_seconds())
            return Plan((), now + seconds(wake_after.pop(0)) if wake_after else None)

        reconciler = Reconciler(observe, plan, nothing, clock, "job")
        reconciler.wake("one")
        await clock.advance(seconds(10))
        reconciler.wake("one")
        await clock.advance(seconds(1000))
        assert passes == [0, 10, 100]
        assert reconciler.keys == ()

    run(main)


def test_an_idle_or_forgotten_key_costs_nothing() -> None:
    """Nothing is kept for a resource that is gone, or for which nothing is to be done."""

    async def main(clock: VirtualClock, service: Service) -> None:
        service.desired["web"] = 1
        for key in ["web", "gone"]:
            service.reconciler.wake(key)
        await settle(clock)
        assert service.reconciler.keys == ()
        assert clock.next_deadline() is None

    run(main)


def test_a_failed_pass_is_logged_with_its_plan_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is not lost: after a second, then two, then four."""

    async def main(clock: VirtualClock, service: Service) -> None:
        tried: list[float] = []

        async def fail_twice(key: str) -> None:
            tried.append((clock.now() - START).total_seconds())
            if len(tried) <= 3:
                raise RuntimeError("the runtime is away")

        service.before_apply = fail_twice
        service.desired["web"] = 1
        service.reconciler.wake("web")
        await clock.advance(seconds(60))
        assert tried == [0, 1, 3, 7]
        assert service.running == {"web": 1}
        assert service.reconciler.keys == ()

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "the runtime is away" in caplog.text
    assert "RunTask 0 — runningCount 0 < desiredCount 1" in caplog.text
    assert "3 in a row" in caplog.text


@pytest.mark.parametrize("wake_itself", [False, True])
def test_a_pass_that_always_fails_does_not_spin(wake_itself: bool) -> None:
    """Not even one that wakes its own resource before it fails: an hour sees some seventy attempts."""

    async def main(clock: VirtualClock, service: Service) -> None:
        async def fail(key: str) -> None:
            if wake_itself:
                service.reconciler.wake(key)
            raise RuntimeError("broken")

        service.before_apply = fail
        service.desired["web"] = 1
        service.reconciler.wake("web")
        await clock.advance(timedelta(hours=1))
        assert 60 <= len(service.passes) <= 70

    run(main)


def test_a_wake_cuts_the_pause_short_a_few_times() -> None:
    """Somebody who mends what was wrong need not wait; somebody who wakes all the time does not cause a busy loop."""

    async def main(clock: VirtualClock, service: Service) -> None:
        async def fail(key: str) -> None:
            raise RuntimeError("broken")

        service.before_apply = fail
        service.desired["web"] = 1
        for _ in range(100):
            service.reconciler.wake("web")
            await settle(clock)
        assert len(service.passes) == 5
        service.before_apply = None
        await clock.advance(timedelta(minutes=1))
        assert service.running == {"web": 1}

    run(main)


def test_a_cancelled_inner_operation_is_a_failure_like_any(caplog: pytest.LogCaptureFixture) -> None:
    """A pass that waits for something that is cancelled is tried again, too."""

    async def main(clock: VirtualClock, service: Service) -> None:
        async def cancelled_once(key: str) -> None:
            if len(service.passes) == 1:
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future

        service.before_apply = cancelled_once
        service.desired["web"] = 1
        service.reconciler.wake("web")
        await clock.advance(seconds(2))
        assert service.running == {"web": 1}

    run(main)
    assert "tried again" in caplog.text


def test_a_plan_that_wakes_in_the_past_is_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    """It would be a busy loop; it is treated like any failure instead."""

    async def main(clock: VirtualClock, service: Service) -> None:
        async def observe(key: str) -> str:
            return key

        passes: list[datetime] = []

        def plan(observed: str, now: datetime) -> Plan[RunTask]:
            passes.append(now)
            return Plan((), now)

        reconciler = Reconciler(observe, plan, nothing, clock, "job")
        reconciler.wake("one")
        await clock.advance(seconds(10))
        assert len(passes) == 4
        await reconciler.close()

    run(main)
    assert "which is not after" in caplog.text


def test_closing_waits_for_passes_and_cancels_late_ones() -> None:
    """No pass begins after it, none is left running, and no timer either."""

    async def main(clock: VirtualClock, service: Service) -> None:
        story: list[str] = []

        async def work(key: str) -> None:
            try:
                await (real_sleep(0.01) if key == "short" else asyncio.Event().wait())
                story.append(f"{key} done")
            except asyncio.CancelledError:
                story.append(f"{key} cancelled")
                raise

        service.before_apply = work
        service.desired = {"short": 1, "endless": 1}
        service.reconciler.wake("short")
        service.reconciler.wake("endless")
        await real_sleep(0)
        await service.reconciler.close(patience=0.1)
        service.reconciler.wake("short")
        assert story == ["short done", "endless cancelled"]
        assert service.reconciler.keys == ()
        assert clock.next_deadline() is None

    run(main)


def test_closing_forgets_the_retry_of_a_failed_pass() -> None:
    """A reconciler that is closed in a pause leaves no timer on the clock."""

    async def main(clock: VirtualClock, service: Service) -> None:
        async def fail(key: str) -> None:
            raise RuntimeError("broken")

        service.before_apply = fail
        service.desired["web"] = 1
        service.reconciler.wake("web")
        await settle(clock)
        assert clock.next_deadline() == START + seconds(1)
        await service.reconciler.close()
        assert clock.next_deadline() is None

    run(main)


STEPS = st.lists(
    st.tuples(st.sampled_from(["desire", "kill", "fail", "advance"]), st.sampled_from("ab"), st.integers(0, 3)),
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_any_history_ends_at_what_is_desired(steps: list[tuple[str, str, int]]) -> None:
    """Whatever changes and fails in between, once it is quiet for a while every service runs what it should."""

    async def main(clock: VirtualClock, service: Service) -> None:
        failures = 0

        async def fail_sometimes(key: str) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise RuntimeError("now and then")

        service.before_apply = fail_sometimes
        for step, key, number in steps:
            match step:
                case "desire":
                    service.desired[key] = number
                    service.reconciler.wake(key)
                case "kill":
                    service.running[key] = 0
                    service.reconciler.wake(key)
                case "fail":
                    failures += number
                case _:
                    await clock.advance(seconds(number))
        await clock.advance(timedelta(hours=2))
        for key, desired in service.desired.items():
            assert service.running.get(key, 0) >= desired
        assert service.reconciler.keys == ()

    logging.disable(logging.CRITICAL)
    try:
        run(main)
    finally:
        logging.disable(logging.NOTSET)


def test_a_thousand_loops_are_cheap() -> None:
    """1,000 services with 20 ticks each take about a second, not minutes."""

    async def main(clock: VirtualClock, service: Service) -> None:
        ticks = 0

        async def observe(key: int) -> int:
            return key

        def plan(observed: int, now: datetime) -> Plan[RunTask]:
            nonlocal ticks
            ticks += 1
            return Plan((), now + seconds(30))

        async def apply(key: int, action: RunTask) -> None:
            raise AssertionError("no action was planned")

        reconciler = Reconciler(observe, plan, apply, clock, "service")
        for key in range(1000):
            reconciler.wake(key)
        began = monotonic()
        await clock.advance(seconds(30 * 19))
        assert ticks == 20_000
        assert monotonic() - began < 15
        await reconciler.close()

    run(main)
