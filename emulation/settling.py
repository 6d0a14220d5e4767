"""What virtual time waits for before it goes on: declared work, the event loop's ready callbacks, and hooks.

Part of `emulation.clock`, whose `advance` settles between two deadlines. Nothing is waited for without end: who takes
longer than `patience` is named in the log and waited for no more.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

log = logging.getLogger(__name__)

Hook = Callable[[], Awaitable[None]]

_QUIET_ROUNDS = 2
"""How often in a row nothing may be found under way before time goes on: work handed to a thread comes back once."""
_LONGEST_CHAIN = 500
"""Turns of the event loop that are waited for to become idle. Under steady traffic it never does; time goes on."""
_TURNS_WITHOUT_LOOKING = 20


class Hold:
    """Someone's word that they are at work, from entering to leaving this context."""

    __slots__ = ("_settling", "ignored", "resting", "since", "task", "why")

    def __init__(self, settling: "Settling", why: str) -> None:
        self._settling = settling
        self.why = why
        self.task: asyncio.Task[object] | None = None
        self.since = 0.0
        self.resting = False
        self.ignored = False

    def __enter__(self) -> None:
        self._settling.take(self)

    def __exit__(self, *exc: object) -> None:
        self._settling.release(self)


class Settling:
    """Who is at work. Holds may be taken and released on any thread; `settle` runs on the event loop's.

    `patience` is the real time that one moment may take; `monotonic` gives the machine's seconds.
    """

    def __init__(self, patience: timedelta, monotonic: Callable[[], float]) -> None:
        self.hooks: list[Hook] = []
        self._patience = patience.total_seconds()
        self._monotonic = monotonic
        self._holds: dict[int, Hold] = {}
        self._lock = threading.Lock()
        self._released: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._hooks_given_up: list[Hook] = []

    def take(self, hold: Hold) -> None:
        hold.since = self._monotonic()
        hold.task = _current_task()
        with self._lock:
            self._holds[id(hold)] = hold

    def release(self, hold: Hold) -> None:
        with self._lock:
            self._holds.pop(id(hold), None)
        self._tell()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Whoever waits for time to pass does not hold it up: what the current task holds does not count meanwhile."""
        task = _current_task()
        with self._lock:
            mine = [hold for hold in self._holds.values() if hold.task is task and not hold.resting]
        for hold in mine:
            hold.resting = True
        if mine:
            self._tell()
        try:
            yield
        finally:
            for hold in mine:
                hold.resting = False

    async def settle(self, now: datetime) -> None:
        """Returns when nothing is under way any more, or patience is over. `now` is what the log calls this moment."""
        until = self._monotonic() + self._patience
        quiet = 0
        while quiet <= _QUIET_ROUNDS:
            await _turn_until_idle()
            if self._at_work():
                quiet = 0
                if not await self._wait_for_release(now, until):
                    return
            else:
                quiet += 1
                if quiet <= _QUIET_ROUNDS:
                    await self._run_hooks(now, until)

    def forgive(self) -> None:
        """Hooks that took too long are asked again from now on."""
        self._hooks_given_up.clear()

    def _at_work(self) -> list[Hold]:
        with self._lock:
            return [hold for hold in self._holds.values() if not (hold.resting or hold.ignored)]

    def _tell(self) -> None:
        if (waiting := self._released) is not None:
            loop, event = waiting
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def _wait_for_release(self, now: datetime, until: float) -> bool:
        event = asyncio.Event()
        self._released = (asyncio.get_running_loop(), event)
        try:
            while at_work := self._at_work():
                event.clear()
                try:
                    await asyncio.wait_for(event.wait(), max(0.0, until - self._monotonic()))
                except TimeoutError:
                    self._give_up(at_work, now)
                    return False
            return True
        finally:
            self._released = None

    def _give_up(self, at_work: list[Hold], now: datetime) -> None:
        for hold in at_work:
            hold.ignored = True
        names = ", ".join(f"{hold.why} (for {self._monotonic() - hold.since:.1f} s)" for hold in at_work)
        log.warning("At %s the clock waited %g s and goes on without: %s", now, self._patience, names)

    async def _run_hooks(self, now: datetime, until: float) -> None:
        for hook in self.hooks:
            if hook in self._hooks_given_up:
                continue
            try:
                await asyncio.wait_for(hook(), max(0.01, until - self._monotonic()))
            except TimeoutError:
                self._hooks_given_up.append(hook)
                log.warning("At %s the clock waited %g s and goes on without: %r", now, self._patience, hook)
            except Exception:
                log.exception("At %s the clock asked %r whether all has settled, which failed", now, hook)


async def _turn_until_idle() -> None:
    """Lets the event loop go through its ready callbacks, and those that become ready by them."""
    # asyncio has no public word for "idle". Without its private one (on other loops) a number of turns must do.
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    for turn in range(_LONGEST_CHAIN):
        await asyncio.sleep(0)
        if turn >= 2 and (not ready if ready is not None else turn >= _TURNS_WITHOUT_LOOKING):
            return


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
