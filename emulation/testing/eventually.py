"""Waiting for what must come about: the only polling that tests need."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import TypeVar

from emulation.clock import monotonic

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.2


def eventually(check: Callable[[], T], within: timedelta | float = 10.0) -> T:
    """Calls `check` until it passes, and gives what it returned. `within` is real time (a number means seconds).

    A check passes when it returns something true. One that is made of asserts, and so returns None, passes when they
    hold; a lambda, or a function that is annotated to return something, has to return it. AssertionErrors and false
    values mean "not yet"; other exceptions end the waiting at once. Raises AssertionError with the last failure.
    """
    __tracebackhide__ = True
    seconds = within.total_seconds() if isinstance(within, timedelta) else within
    none_passes = _made_of_asserts(check)
    until = monotonic() + seconds
    pause, calls = _FIRST_PAUSE_SECONDS, 0
    while True:
        calls += 1
        failure: AssertionError | None = None
        try:
            value = check()
        except AssertionError as error:
            failure = error
            last = str(error) or "an assert without a message failed"
        else:
            if value or (value is None and none_passes):
                return value
            last = f"it returned {value!r}"
        left = until - monotonic()
        if left <= 0:
            times = "once" if calls == 1 else f"{calls} times"
            raise AssertionError(f"not within {seconds:g} s (checked {times}); last: {last}") from failure
        # Real time on purpose: what is waited for happens in threads and processes.
        Event().wait(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _made_of_asserts(check: Callable[[], object]) -> bool:
    if getattr(check, "__name__", "") == "<lambda>":
        return False
    try:
        returns = inspect.signature(check).return_annotation
    except (TypeError, ValueError):
        return False
    return returns in (None, "None", inspect.Signature.empty)
