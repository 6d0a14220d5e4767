"""The one way in which tests wait."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from emulation.testing.eventually import eventually


def after(calls: int, value: object, before: object = None) -> Callable[[], object]:
    """A finder that finds `value` at its nth call."""
    count = iter(range(1, 1000))

    def find() -> object:
        return value if next(count) >= calls else before

    return find


def test_it_gives_what_the_check_found() -> None:
    """Values that are false mean "not yet"."""
    assert eventually(after(3, "task"), within=5) == "task"
    assert eventually(after(3, ["task"], before=[]), within=timedelta(seconds=5)) == ["task"]


def test_asserts_are_tried_until_they_hold() -> None:
    """A check made of asserts passes when it no longer raises AssertionError."""
    states = iter(["PENDING", "ACTIVATING", "RUNNING"])

    def check() -> None:
        assert next(states) == "RUNNING"

    eventually(check, within=5)
    assert next(states, None) is None


@pytest.mark.parametrize("find", [lambda: None, after(1, None), after(1, [])])
def test_finding_nothing_does_not_pass(find: Callable[[], object]) -> None:
    """None from a function that is there to return something is no success."""
    with pytest.raises(AssertionError, match="not within 0.05 s"):
        eventually(find, within=0.05)


def test_the_last_failure_is_told() -> None:
    """The message says how long, how often, and what was wrong the last time."""

    def check() -> None:
        raise AssertionError("the target is still initial")

    with pytest.raises(AssertionError, match=r"not within 0.1 s \(checked \d+ times\); last: the target is still init"):
        eventually(check, within=0.1)
    with pytest.raises(AssertionError, match="last: it returned False"):
        eventually(lambda: False, within=timedelta(milliseconds=20))


def test_a_check_is_made_even_without_time() -> None:
    """Nothing to wait for is not a failure."""
    assert eventually(lambda: True, within=0)
    with pytest.raises(AssertionError, match="checked once"):
        eventually(lambda: False, within=0)


def test_a_broken_check_fails_at_once() -> None:
    """Other exceptions than AssertionError are not waited out."""
    calls = []

    def check() -> None:
        calls.append(1)
        raise KeyError("typo")

    with pytest.raises(KeyError):
        eventually(check, within=60)
    assert len(calls) == 1
