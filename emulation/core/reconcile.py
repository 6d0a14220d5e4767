"""The loop that every living service has: observe → plan → apply.

Theory of operation. A reconciler knows resources by a key. `wake(key)` says that something about it may have changed;
what changed does not matter, for a pass looks at all of it. Wakes that come before the pass has begun are one; wakes
that come during it lead to one more. An idle key costs nothing: no task, no record, at most a timer of the clock.

A pass that fails is logged together with its plan and tried again after a pause that grows. A wake cuts the pause
short only while the failures are few, and never when it comes from within the failing pass, so that a defect cannot
turn into a busy loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from emulation.clock import Clock, Timer, real_sleep
from emulation.core.plan import Action, Plan

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
A = TypeVar("A", bound=Action)

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(minutes=1)
_PATIENT_FAILURES = 5
"""After so many failures in a row, a wake does not cut the pause short any more."""


class _Loop:
    """What is known of a key that is not idle."""

    __slots__ = ("again", "failures", "pausing", "task", "timer")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.again = False
        self.timer: Timer | None = None
        self.failures = 0
        self.pausing = False


class Reconciler(Generic[K, T, A]):
    """Keeps resources as they should be. All methods belong to the event loop's thread.

    `observe(key)` reads everything that the plan depends on, None where the resource is gone and to be forgotten.
    `plan(observed, now)` is pure. `apply(key, action)` does one action and decides nothing. `name` is for the log.
    """

    def __init__(
        self,
        observe: Callable[[K], Awaitable[T | None]],
        plan: Callable[[T, datetime], Plan[A]],
        apply: Callable[[K, A], Awaitable[None]],
        clock: Clock,
        name: str,
    ) -> None:
        self._observe = observe
        self._plan = plan
        self._apply = apply
        self._clock = clock
        self._name = name
        self._loops: dict[K, _Loop] = {}
        self._closed = False

    def wake(self, key: K) -> None:
        """Something about `key` may have changed. Cheap; ignored once the reconciler is closed."""
        if self._closed:
            return
        loop = self._loops.get(key)
        if loop is None:
            loop = self._loops[key] = _Loop()
        if loop.task is not None:
            loop.again = True
        elif not (loop.pausing and loop.failures >= _PATIENT_FAILURES):
            self._start(key, loop)

    @property
    def keys(self) -> tuple[K, ...]:
        """The resources that a pass runs for, or for which one is planned at a time."""
        return tuple(self._loops)

    async def close(self, patience: float = 5.0) -> None:
        """No pass begins any more; those that run may end within `patience` real seconds, and are cancelled then."""
        self._closed = True
        for loop in self._loops.values():
            self._stop_timer(loop)
        tasks = [loop.task for loop in self._loops.values() if loop.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._loops.clear()

    def _start(self, key: K, loop: _Loop) -> None:
        self._stop_timer(loop)
        loop.pausing = False
        loop.task = asyncio.get_running_loop().create_task(self._run(key, loop), name=f"{self._name} {key}")

    async def _run(self, key: K, loop: _Loop) -> None:
        wake_at: datetime | None = None
        try:
            with self._clock.working(f"{self._name} {key}"):
                while True:
                    loop.again = False
                    wake_at = await self._pass(key, loop)
                    if loop.pausing or not loop.again or self._closed:
                        return
                    await real_sleep(0)  # a resource that is woken all the time leaves the event loop to others
        finally:
            loop.task = None
            self._rest(key, loop, wake_at)

    async def _pass(self, key: K, loop: _Loop) -> datetime | None:
        """One pass. Gives when the next one is due by itself."""
        plan: Plan[A] | None = None
        try:
            observed = await self._observe(key)
            if observed is None:
                loop.failures = 0
                return None
            now = self._clock.now()
            plan = self._plan(observed, now)
            if plan.wake_at is not None and plan.wake_at <= now:
                raise ValueError(f"the plan wants to wake at {plan.wake_at}, which is not after {now}")
            if plan.actions:
                log.debug("%s %s: %s", self._name, key, plan)
            for action in plan.actions:
                await self._apply(key, action)
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._fail(key, loop, plan, cancelled)  # what the pass waited for was cancelled, not the pass
        except Exception as error:
            return self._fail(key, loop, plan, error)
        loop.failures = 0
        return plan.wake_at

    def _fail(self, key: K, loop: _Loop, plan: Plan[A] | None, error: BaseException) -> datetime:
        loop.failures += 1
        loop.pausing = True
        pause = min(_FIRST_PAUSE * (1 << min(loop.failures - 1, 10)), _LONGEST_PAUSE)
        log.error(
            "%s %s: the pass failed (%d in a row) and is tried again in %s. Its plan: %s",
            *(self._name, key, loop.failures, pause, "(not made)" if plan is None else plan),
            exc_info=error,
        )
        return self._clock.now() + pause

    def _rest(self, key: K, loop: _Loop, wake_at: datetime | None) -> None:
        if wake_at is not None and not self._closed:
            loop.timer = self._clock.call_at(wake_at, lambda: self._start(key, loop))
        elif self._loops.get(key) is loop:
            del self._loops[key]

    def _stop_timer(self, loop: _Loop) -> None:
        if loop.timer is not None:
            loop.timer.cancel()
            loop.timer = None
