"""Time: the only place that asks the machine what time it is, or waits for it to pass.

AWS durations (a health-check interval, a deregistration delay, a cron schedule) are durations of a `Clock`, not of the
machine. `SystemClock` runs at the machine's pace or faster; `VirtualClock` stands still. Both are one `Timeline`, which
can be set to another speed, frozen, resumed and advanced:

    time = base + (elapsed since the anchor) x speed

Theory of operation of `advance`: it stands the time still, lets what is under way settle, and then walks the deadlines.
Each *exact* deadline (a schedule, a time-out, a sleeping coroutine) has its callback run while `now()` is exactly its
time, and whatever that sets off is done before time goes on, including new deadlines within the jump. *Coalescing*
deadlines (polls such as health checks; `exact=False`) that the jump passes run once, at its end, however long it was.

What the clock cannot know is whether something outside of the event loop (a socket, a process, a thread) is still at
work. Who does such work says so: `with clock.working("health check of 10.0.1.5:7777"): …`. Time waits for it, but never
forever: who holds it too long is named in the log and waited for no more. The programs inside containers live in real
time; no clock of ours changes theirs.
"""

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from emulation.settling import Hold, Hook, Settling

log = logging.getLogger(__name__)

_ZERO = timedelta(0)
_SAME_MOMENT = 20
"""How often in a row new deadlines may be asked for at the very moment that it is."""


def monotonic() -> float:
    """Seconds on the machine's own steady clock: for technical waits and measurements, never for AWS durations."""
    return time.monotonic()


async def real_sleep(seconds: float) -> None:
    """Waits on the machine's own clock, whatever the emulation's clock does: for technical waits only."""
    await asyncio.sleep(seconds)


class Timer(Protocol):
    """A callback that a clock will call."""

    @property
    def when(self) -> datetime: ...

    def cancel(self) -> None:
        """The callback is not called any more. Harmless when it was already."""
        ...


class Clock(Protocol):
    """What the emulation may know of time. `now` and `working` may be used from any thread, the rest on the loop's."""

    def now(self) -> datetime:
        """The time of the emulated cloud, aware, in UTC. It never goes back."""
        ...

    async def sleep(self, duration: timedelta, *, exact: bool = True) -> None:
        """Returns when `duration` has passed on this clock. Who sleeps is not `working` meanwhile."""
        ...

    async def sleep_until(self, when: datetime, *, exact: bool = True) -> None: ...

    def call_at(self, when: datetime, callback: Callable[[], object], *, exact: bool = True) -> Timer:
        """Calls `callback` on the event loop at `when`, or as soon as possible where that has passed.

        With `exact=False` it is a poll, which a jump of the clock runs once; it computes its next time from `now()`.
        """
        ...

    def working(self, why: str) -> "Working":
        """Says, as long as the context is open, that something is being done that virtual time must wait for."""
        ...


class Working(Protocol):
    """A context manager that is given back by `Clock.working`."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> None: ...


class _Deadline:
    """A timer of a timeline."""

    __slots__ = ("callback", "queue", "when")

    def __init__(self, when: datetime, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback
        self.queue: _Queue | None = None

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            if self.queue is not None:
                self.queue.dropped += 1


class _Queue:
    """Deadlines of one kind, soonest first; those of the same moment in the order in which they were asked for."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, _Deadline]] = []
        self._order = itertools.count()
        self.dropped = 0

    def add(self, deadline: _Deadline) -> None:
        if self.dropped > 64 and self.dropped * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self.dropped = 0
        deadline.queue = self
        heapq.heappush(self._heap, (deadline.when, next(self._order), deadline))

    def next(self) -> datetime | None:
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
            self.dropped -= 1
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: datetime) -> list[_Deadline]:
        due = []
        while (when := self.next()) is not None and when <= now:
            deadline = heapq.heappop(self._heap)[2]
            deadline.queue = None
            due.append(deadline)
        return due


class Timeline:
    """A clock that can be turned. See the module's docstring.

    `patience` is how long, in real time, one moment of an advance may take before whoever still works is named in the
    log and left behind. `settled` holds what else must have come to rest before time goes on, each awaited between two
    deadlines: for example that the API thread has done what it was given.
    """

    def __init__(
        self,
        start: datetime,
        speed: float,
        *,
        patience: timedelta = timedelta(seconds=30),
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        _check_aware(start)
        _check_speed(speed)
        self._settling = Settling(patience, monotonic)
        self.settled: list[Hook] = self._settling.hooks
        self._monotonic = monotonic
        self._base = start.astimezone(UTC)
        self._anchor = monotonic()
        self._speed = speed
        self._speed_before_freeze = speed or 1.0
        self._advancing = False
        self._lock = threading.Lock()
        self._exact = _Queue()
        self._polls = _Queue()
        self._alarm: asyncio.Handle | None = None
        self._alarm_at: datetime | None = None
        self._one_advance = asyncio.Lock()

    # --- What time it is

    def now(self) -> datetime:
        with self._lock:
            return self._read()

    def _read(self) -> datetime:
        if self._advancing or not self._speed:
            return self._base
        return self._base + timedelta(seconds=(self._monotonic() - self._anchor) * self._speed)

    @property
    def speed(self) -> float:
        """How many seconds pass on this clock in one of the machine's; 0 when it is frozen."""
        return self._speed

    def next_deadline(self) -> datetime | None:
        """When the next timer or sleeper of any kind is due; None when nobody waits."""
        return min((when for when in (self._exact.next(), self._polls.next()) if when is not None), default=None)

    # --- Turning it

    def set_speed(self, speed: float) -> None:
        """From now on, `speed` seconds pass in one of the machine's. 0 freezes. ValueError where it is negative."""
        _check_speed(speed)
        with self._lock:
            self._base = self._read()
            self._anchor = self._monotonic()
            self._speed = speed
        if speed:
            self._speed_before_freeze = speed
        self._arm()

    def freeze(self) -> None:
        """Time stands still, until `resume`, `set_speed` or for what `advance` is asked."""
        self.set_speed(0)

    def resume(self) -> None:
        """Goes on at the speed it had before it was frozen (1 where it never ran)."""
        self.set_speed(self._speed or self._speed_before_freeze)

    async def advance(self, duration: timedelta) -> None:
        """Moves time on by exactly `duration` and returns when all that came due on the way has been done.

        Time stands still apart from the steps, on a running clock too. Advances asked for meanwhile follow this one.
        ValueError where `duration` is negative.
        """
        if duration < _ZERO:
            raise ValueError(f"time does not go back: advance({duration}). Give a duration of zero or more.")
        with self._settling.resting():
            async with self._one_advance:
                self._stand()
                try:
                    await self._walk(self._base + duration)
                finally:
                    self._go_on()

    async def _walk(self, target: datetime) -> None:
        await self._settling.settle(self._base)
        while (when := self._exact.next()) is not None and when <= target:
            await self._step(when)
        await self._step(target)
        if passed := self._polls.pop_due(target):
            _run(passed)
            await self._settling.settle(self._base)
            await self._step(target)

    async def _step(self, when: datetime) -> None:
        """Makes it `when`, and does what is due then and what is made due by that."""
        with self._lock:
            self._base = max(self._base, when)
        for _ in range(_SAME_MOMENT):
            if not (due := self._exact.pop_due(self._base)):
                return
            _run(due)
            await self._settling.settle(self._base)
        # Someone asks for the same moment again and again. At the end of the jump it is their turn once more.
        for deadline in self._exact.pop_due(self._base):
            log.warning("At %s the clock cannot go on for %r, which is due again and again", when, deadline.callback)
            self._polls.add(deadline)

    def _stand(self) -> None:
        with self._lock:
            self._base = self._read()
            self._advancing = True
        self._settling.forgive()
        self._disarm()

    def _go_on(self) -> None:
        with self._lock:
            self._anchor = self._monotonic()
            self._advancing = False
        self._arm()

    # --- Waiting for it

    def call_at(self, when: datetime, callback: Callable[[], object], *, exact: bool = True) -> Timer:
        _check_aware(when)
        deadline = _Deadline(when, callback)
        (self._exact if exact else self._polls).add(deadline)
        if self._alarm_at is None or when < self._alarm_at:
            self._arm()
        return deadline

    async def sleep(self, duration: timedelta, *, exact: bool = True) -> None:
        await self.sleep_until(self.now() + duration, exact=exact)

    async def sleep_until(self, when: datetime, *, exact: bool = True) -> None:
        if when <= self.now():
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_at(when, wake, exact=exact)
        try:
            with self._settling.resting():
                await woken
        finally:
            timer.cancel()

    def _arm(self) -> None:
        """Sets the one timer of the event loop that a timeline needs: for its soonest deadline."""
        self._disarm()
        soonest = self._exact.next() if self._advancing else self.next_deadline()
        if soonest is None:
            return
        now = self.now()
        if soonest <= now:
            self._alarm = asyncio.get_running_loop().call_soon(self._ring)
        elif self._speed and not self._advancing:
            seconds = (soonest - now).total_seconds() / self._speed
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._ring)
        else:
            return
        self._alarm_at = soonest

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_at = None

    def _ring(self) -> None:
        """Runs what is due. In a jump that is what was asked for at once; polls wait for the jump's end."""
        self._alarm = self._alarm_at = None
        now = self.now()
        _run(self._exact.pop_due(now))
        if not self._advancing:
            _run(self._polls.pop_due(now))
        self._arm()

    # --- What it waits for

    def working(self, why: str) -> Working:
        return Hold(self._settling, why)


class SystemClock(Timeline):
    """Starts at the machine's time and runs `speed` times as fast (`speed=60`: a minute in a second).

    It does not follow later changes of the machine's date, nor does it count the time that a laptop sleeps.
    """

    def __init__(self, speed: float = 1.0, *, patience: timedelta = timedelta(seconds=30)) -> None:
        super().__init__(datetime.now(UTC), speed, patience=patience)


class VirtualClock(Timeline):
    """Stands still until it is advanced. Starts at `start`, or at the machine's time, cut to the second.

    The default is no fixed date because clients compare what they read with their own time (`awslogs --start 5m`).
    """

    def __init__(self, start: datetime | None = None, *, patience: timedelta = timedelta(seconds=30)) -> None:
        super().__init__(start or datetime.now(UTC).replace(microsecond=0), 0, patience=patience)


def _run(due: list[_Deadline]) -> None:
    for deadline in due:
        callback, deadline.callback = deadline.callback, None
        if callback is None:  # cancelled by one before it
            continue
        try:
            callback()
        except Exception:
            log.exception("A callback of the clock failed: %r, due at %s", callback, deadline.when)


def _check_aware(when: datetime) -> None:
    if when.tzinfo is None:
        raise ValueError(f"{when!r} has no time zone. Give an aware datetime: datetime(2024, 1, 1, tzinfo=UTC).")


def _check_speed(speed: float) -> None:
    if not 0 <= speed < float("inf"):
        raise ValueError(f"a clock cannot run at speed {speed}. Give 0 (frozen), 1 (real time) or more.")
