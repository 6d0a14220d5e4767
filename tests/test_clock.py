"""The clock: deadlines in order, each once, and time that never goes back."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.clock import SystemClock, Timeline, VirtualClock, monotonic, real_sleep

START = datetime(2024, 1, 1, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def virtual(patience: float = 30) -> VirtualClock:
    return VirtualClock(START, patience=seconds(patience))


def since_start(clock: Timeline) -> float:
    return (clock.now() - START).total_seconds()


class Machine:
    """The machine's steady clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


# --- A timeline's time


def test_a_virtual_clock_stands_still() -> None:
    """Real time passes without a virtual clock taking notice."""
    machine = Machine()
    clock = Timeline(START, 0, monotonic=machine)
    machine.seconds += 3600
    assert clock.now() == START


def test_a_system_clock_starts_at_the_machines_time() -> None:
    """Without further ado the emulation's time is the user's, in UTC."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta(0)


def test_speed_multiplies_what_passes() -> None:
    """At speed 60 half a second of the machine is half a minute."""
    machine = Machine()
    clock = Timeline(START, 60, monotonic=machine)
    machine.seconds += 0.5
    assert since_start(clock) == 30


def test_a_new_speed_counts_from_now_on() -> None:
    """What has passed at the old speed is kept when the speed changes, is frozen and resumed."""
    machine = Machine()
    clock = Timeline(START, 60, monotonic=machine)
    machine.seconds += 1
    clock.set_speed(1)
    machine.seconds += 1
    assert since_start(clock) == 61
    clock.freeze()
    machine.seconds += 1000
    assert since_start(clock) == 61
    clock.resume()
    machine.seconds += 1
    assert since_start(clock) == 62
    assert clock.speed == 1


def test_a_virtual_clock_that_is_resumed_runs_at_real_speed() -> None:
    """A clock that never ran has no speed to go back to but the machine's."""
    clock = virtual()
    clock.resume()
    assert clock.speed == 1


@given(st.lists(st.tuples(st.floats(0, 1e5), st.sampled_from([0, 0.1, 1, 60, 86400.5]))))
def test_time_never_goes_back_whatever_the_speeds(history: list[tuple[float, float]]) -> None:
    """now() is monotone over any sequence of waiting and changes of speed."""
    machine = Machine()
    clock = Timeline(START, 1, monotonic=machine)
    seen = [clock.now()]
    for passed, speed in history:
        machine.seconds += passed
        seen.append(clock.now())
        clock.set_speed(speed)
        seen.append(clock.now())
    assert seen == sorted(seen)


def test_other_threads_never_see_time_go_back() -> None:
    """moto's thread reads the clock while the loop changes its speed."""
    clock = SystemClock(speed=1000)
    done = threading.Event()
    steps_back: list[tuple[datetime, datetime]] = []

    def read() -> None:
        last = clock.now()
        while not done.is_set():
            now = clock.now()
            if now < last:
                steps_back.append((last, now))
            last = now

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(5000):
        clock.set_speed(1000 if number % 2 else 1)
    done.set()
    reader.join()
    assert steps_back == []


@pytest.mark.parametrize("speed", [-1, float("inf"), float("nan")])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    """A clock runs forward, at a speed that is a number."""
    with pytest.raises(ValueError, match="cannot run at speed"):
        virtual().set_speed(speed)


def test_a_time_without_a_zone_is_refused() -> None:
    """A naive datetime would mean another moment on each machine."""
    with pytest.raises(ValueError, match="no time zone"):
        VirtualClock(datetime(2024, 1, 1))  # noqa: DTZ001 (the mistake that is tested)


# --- Advancing


@given(
    st.lists(st.integers(0, 100), max_size=30),
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
)
def test_every_deadline_fires_once_in_order_at_its_time(delays: list[int], jumps: list[int]) -> None:
    """Exact deadlines run in the order of their times, each when now() is exactly that, however the jumps fall."""

    async def main() -> None:
        clock = virtual()
        fired: list[tuple[float, int]] = []
        for number, delay in enumerate(delays):
            clock.call_at(START + seconds(delay), lambda number=number: fired.append((since_start(clock), number)))
        total = 0
        for jump in jumps:
            await clock.advance(seconds(jump))
            total += jump
            assert since_start(clock) == total
        assert fired == sorted((delay, number) for number, delay in enumerate(delays) if delay <= total)

    run(main)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4)), min_size=1, max_size=8), st.integers(1, 50))
def test_sleepers_wake_at_exactly_their_times(sleepers: list[tuple[int, int]], jump: int) -> None:
    """A coroutine that sleeps several times in one jump wakes each time at the moment it asked for."""

    async def main() -> None:
        clock = virtual()
        woken: list[float] = []

        async def sleep(duration: int, times: int) -> None:
            for _ in range(times):
                due = since_start(clock) + duration
                await clock.sleep(seconds(duration))
                assert since_start(clock) == due
                woken.append(due)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(sleep(*sleeper)) for sleeper in sleepers]
            await clock.advance(seconds(jump))
            for task in tasks:
                task.cancel()
        wanted = [duration * turn for duration, times in sleepers for turn in range(1, times + 1)]
        assert woken == sorted(moment for moment in wanted if moment <= jump)

    run(main)


def test_a_day_fires_an_hourly_schedule_24_times() -> None:
    """Deadlines that callbacks add within the jump are walked too."""

    async def main() -> None:
        clock = virtual()
        fired: list[float] = []

        def fire() -> None:
            fired.append(since_start(clock) / 3600)
            clock.call_at(clock.now() + timedelta(hours=1), fire)

        clock.call_at(START + timedelta(hours=1), fire)
        await clock.advance(timedelta(days=1))
        assert fired == list(range(1, 25))

    run(main)


def test_a_poll_runs_once_at_the_end_of_a_jump() -> None:
    """However many intervals of a health check a jump passes, the target is asked once, and later as usual."""

    async def main() -> None:
        clock = virtual()
        polled: list[float] = []

        def poll() -> None:
            polled.append(since_start(clock))
            clock.call_at(clock.now() + seconds(30), poll, exact=False)

        clock.call_at(START + seconds(30), poll, exact=False)
        await clock.advance(timedelta(hours=1))
        assert polled == [3600]
        await clock.advance(seconds(29))
        assert polled == [3600]
        await clock.advance(seconds(1))
        assert polled == [3600, 3630]

    run(main)


def test_what_a_poll_makes_due_at_once_is_done_within_the_jump() -> None:
    """A health check at the end of a jump may end a deployment at that same moment."""

    async def main() -> None:
        clock = virtual()
        done: list[str] = []
        clock.call_at(
            START + seconds(30),
            lambda: clock.call_at(clock.now(), lambda: done.append("deployed")),
            exact=False,
        )
        await clock.advance(seconds(30))
        assert done == ["deployed"]

    run(main)


def test_a_cancelled_deadline_does_not_fire() -> None:
    """Neither when cancelled beforehand nor by another callback of the same moment."""

    async def main() -> None:
        clock = virtual()
        fired: list[str] = []
        early = clock.call_at(START + seconds(1), lambda: fired.append("early"))
        early.cancel()
        clock.call_at(START + seconds(2), lambda: twin.cancel())
        twin = clock.call_at(START + seconds(2), lambda: fired.append("twin"))
        await clock.advance(seconds(5))
        twin.cancel()
        assert fired == []
        assert clock.next_deadline() is None

    run(main)


def test_many_cancelled_deadlines_are_forgotten() -> None:
    """Time-outs that are set and cancelled all day long do not pile up."""

    async def main() -> None:
        clock = virtual()
        for number in range(10_000):
            clock.call_at(START + seconds(number), lambda: None).cancel()
        assert len(clock._exact._heap) < 200

    run(main)


def test_a_failing_callback_does_not_hurt_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and time goes on."""

    async def main() -> None:
        clock = virtual()
        fired: list[str] = []

        def fail() -> None:
            raise RuntimeError("broken")

        clock.call_at(START + seconds(1), fail)
        clock.call_at(START + seconds(1), lambda: fired.append("other"))
        await clock.advance(seconds(1))
        assert fired == ["other"]

    run(main)
    assert "broken" in caplog.text


def test_going_back_is_refused() -> None:
    """There is no negative advance."""
    with pytest.raises(ValueError, match="does not go back"):
        run(lambda: virtual().advance(seconds(-1)))


def test_a_callback_that_asks_for_the_same_moment_forever_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The jump ends all the same, and what is due later on the way is done."""

    async def main() -> None:
        clock = virtual()
        fired: list[float] = []

        def again() -> None:
            clock.call_at(clock.now(), again)

        clock.call_at(START + seconds(1), again)
        clock.call_at(START + seconds(2), lambda: fired.append(since_start(clock)))
        await clock.advance(seconds(3))
        assert since_start(clock) == 3
        assert fired == [2]

    run(main)
    assert "again and again" in caplog.text


def test_two_advances_follow_each_other() -> None:
    """Two people who turn the clock at once get the sum."""

    async def main() -> None:
        clock = virtual()
        await asyncio.gather(clock.advance(seconds(5)), clock.advance(seconds(7)))
        assert since_start(clock) == 12

    run(main)


def test_an_advance_that_is_cancelled_lets_the_clock_go_on() -> None:
    """A client that hangs up during `sunabox clock advance` leaves a clock that can be turned again."""

    async def main() -> None:
        clock = virtual()
        clock.call_at(START + seconds(1), lambda: advance.cancel())
        advance = asyncio.create_task(clock.advance(seconds(10)))
        with pytest.raises(asyncio.CancelledError):
            await advance
        assert since_start(clock) == 1
        await clock.advance(seconds(1))
        assert since_start(clock) == 2

    run(main)


def test_a_running_clock_can_be_advanced_too() -> None:
    """It jumps by exactly the duration, walks the deadlines on their times, and runs on afterwards."""

    async def main() -> None:
        machine = Machine()
        clock = Timeline(START, 1, monotonic=machine)
        fired: list[float] = []

        def fire() -> None:
            machine.seconds += 5
            fired.append(since_start(clock))

        clock.call_at(START + seconds(100), fire)
        await clock.advance(seconds(200))
        assert fired == [100]
        assert since_start(clock) == 200
        machine.seconds += 1
        assert since_start(clock) == 201

    run(main)


def test_ten_thousand_sleepers_are_cheap() -> None:
    """A simulation with thousands of tasks spends its time on them, not on the clock."""

    async def main() -> None:
        clock = virtual()
        tasks = [asyncio.create_task(clock.sleep(seconds(number % 500))) for number in range(10_000)]
        began = monotonic()
        await clock.advance(seconds(500))
        assert all(task.done() for task in tasks)
        assert monotonic() - began < 5

    run(main)


# --- Running by itself


def test_a_running_clock_wakes_sleepers_by_itself() -> None:
    """At speed 1000 an exact sleep and a poll of ten seconds take ten milliseconds."""

    async def main() -> None:
        clock = SystemClock(speed=1000)
        began = clock.now()
        await asyncio.wait_for(asyncio.gather(clock.sleep(seconds(10)), clock.sleep(seconds(10), exact=False)), 5)
        assert clock.now() - began >= seconds(10)

    run(main)


def test_a_sleeper_notices_a_change_of_speed() -> None:
    """Who sleeps an hour on a frozen clock wakes soon after it is made to run fast."""

    async def main() -> None:
        clock = virtual()
        sleeper = asyncio.create_task(clock.sleep(timedelta(hours=1)))
        await asyncio.sleep(0)
        clock.set_speed(360_000)
        await asyncio.wait_for(sleeper, 5)

    run(main)


def test_what_is_due_already_happens_on_a_frozen_clock() -> None:
    """A frozen clock holds back the future, not the present."""

    async def main() -> None:
        clock = virtual()
        called = asyncio.Event()
        clock.call_at(START - seconds(1), called.set)
        await asyncio.wait_for(called.wait(), 5)
        await asyncio.wait_for(clock.sleep(seconds(0)), 5)

    run(main)


def test_a_cancelled_sleeper_leaves_no_deadline() -> None:
    """A loop that is closed takes its timers with it."""

    async def main() -> None:
        clock = virtual()
        sleeper = asyncio.create_task(clock.sleep(seconds(5)))
        await asyncio.sleep(0)
        assert clock.next_deadline() == START + seconds(5)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        assert clock.next_deadline() is None

    run(main)


# --- Settling


def test_time_waits_for_work_in_the_real_world() -> None:
    """The second deadline of a jump comes after the work that the first one set off."""

    async def main() -> None:
        clock = virtual()
        story: list[str] = []

        async def work() -> None:
            with clock.working("job"):
                await real_sleep(0.02)
                story.append(f"worked at {since_start(clock):g}")

        tasks: list[asyncio.Task[None]] = []
        clock.call_at(START + seconds(1), lambda: tasks.append(asyncio.create_task(work())))
        clock.call_at(START + seconds(2), lambda: story.append("next"))
        await clock.advance(seconds(3))
        assert story == ["worked at 1", "next"]

    run(main)


def test_time_waits_for_work_on_another_thread() -> None:
    """A thread may say that it works, and its end is noticed at once."""

    async def main() -> None:
        clock = virtual()
        story: list[str] = []
        entered, leave = threading.Event(), threading.Event()

        def work() -> None:
            with clock.working("thread"):
                entered.set()
                leave.wait(5)
                story.append("worked")

        thread = threading.Thread(target=work)
        thread.start()
        entered.wait(5)
        asyncio.get_running_loop().call_later(0.02, leave.set)
        await clock.advance(seconds(1))
        story.append("advanced")
        thread.join()
        assert story == ["worked", "advanced"]

    run(main)


def test_time_waits_for_chains_of_callbacks() -> None:
    """A hundred tasks that wake each other are through before time goes on, without anyone saying so."""

    async def main() -> None:
        clock = virtual()
        done: list[float] = []

        async def chain(length: int) -> None:
            if length:
                await asyncio.create_task(chain(length - 1))
            else:
                done.append(since_start(clock))

        tasks: list[asyncio.Task[None]] = []
        clock.call_at(START + seconds(1), lambda: tasks.append(asyncio.create_task(chain(100))))
        await clock.advance(seconds(10))
        assert done == [1]

    run(main)


def test_time_waits_for_hooks() -> None:
    """What a hook says must have come to rest has, before each next deadline."""

    async def main() -> None:
        clock = virtual()
        story: list[str] = []

        async def hook() -> None:
            await real_sleep(0)
            story.append(f"settled {since_start(clock):g}")

        clock.settled.append(hook)
        clock.call_at(START + seconds(1), lambda: story.append("one"))
        clock.call_at(START + seconds(2), lambda: story.append("two"))
        await clock.advance(seconds(2))
        story = [entry for number, entry in enumerate(story) if entry not in story[:number]]
        assert story == ["settled 0", "one", "settled 1", "two", "settled 2"]

    run(main)


def test_who_works_too_long_is_named_and_left_behind_once(caplog: pytest.LogCaptureFixture) -> None:
    """A hold that never ends costs one patience, not one for each deadline."""

    async def main() -> None:
        clock = virtual(patience=0.1)
        fired: list[float] = []
        for number in range(1, 50):
            clock.call_at(START + seconds(number), lambda: fired.append(since_start(clock)))
        began = monotonic()
        hold = clock.working("pulling an image for ever")
        thread = threading.Thread(target=hold.__enter__)
        thread.start()
        thread.join()
        await clock.advance(seconds(60))
        assert len(fired) == 49
        assert monotonic() - began < 3

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text.count("pulling an image for ever") == 1


def test_a_hook_that_hangs_is_named_and_left_behind_once(caplog: pytest.LogCaptureFixture) -> None:
    """So is a failing one; time goes on."""

    async def main() -> None:
        clock = virtual(patience=0.1)

        async def hanging_hook() -> None:
            await asyncio.Event().wait()

        async def failing_hook() -> None:
            raise RuntimeError("broken hook")

        clock.settled += [hanging_hook, failing_hook]
        for number in range(1, 20):
            clock.call_at(START + seconds(number), lambda: None)
        began = monotonic()
        await clock.advance(seconds(60))
        assert monotonic() - began < 3

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text.count("goes on without: <function") == 1
    assert "broken hook" in caplog.text


def test_who_sleeps_on_the_clock_does_not_hold_it_up(caplog: pytest.LogCaptureFixture) -> None:
    """Work that itself waits for time to pass lets it, and counts again when it wakes."""

    async def main() -> None:
        clock = virtual(patience=5)
        story: list[str] = []

        async def work() -> None:
            with clock.working("stop a container"):
                await clock.sleep(seconds(30))
                await real_sleep(0.02)
                story.append(f"killed at {since_start(clock):g}")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        clock.call_at(START + seconds(31), lambda: story.append("next"))
        await clock.advance(seconds(60))
        await task
        assert story == ["killed at 30", "next"]

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text == ""


def test_who_advances_the_clock_does_not_hold_it_up(caplog: pytest.LogCaptureFixture) -> None:
    """A request that turns the clock may itself be counted as work."""

    async def main() -> None:
        clock = virtual(patience=0.2)
        with clock.working("a request"):
            await clock.advance(seconds(1))

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text == ""


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20), st.integers(1, 40))
def test_now_never_goes_back_during_a_jump(deadlines: list[tuple[int, bool]], jump: int) -> None:
    """Exact deadlines and polls together show a time that only moves on."""

    async def main() -> None:
        clock = virtual()
        seen = [clock.now()]
        for delay, exact in deadlines:
            clock.call_at(START + seconds(delay), lambda: seen.append(clock.now()), exact=exact)
        await clock.advance(seconds(jump))
        seen.append(clock.now())
        assert all(one <= other for one, other in pairwise(seen))
        assert len(seen) == 2 + sum(delay <= jump for delay, _ in deadlines)

    run(main)
