"""Transition tables: what is not in them does not happen, and whoever tries is told the history."""

from datetime import UTC, datetime
from enum import StrEnum

import pytest

from emulation.core.states import Lifecycle, Table
from emulation.errors import InvalidTransition

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Status(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


TASK = Table(
    "task",
    {
        (Status.PENDING, "Started"): Status.RUNNING,
        (Status.PENDING, "Stop"): Status.STOPPED,
        (Status.RUNNING, "Stop"): Status.STOPPED,
    },
)


def test_an_event_leads_to_the_state_in_the_table() -> None:
    """The states that come out are those that went in, of the same type."""
    assert TASK.next(Status.PENDING, "Started") is Status.RUNNING
    assert TASK.allows(Status.RUNNING, "Stop")
    assert not TASK.allows(Status.STOPPED, "Stop")


def test_states_are_known_from_the_table() -> None:
    """The first row says where a record begins; a state that nothing leaves is final."""
    assert TASK.initial == "PENDING"
    assert TASK.states == ("PENDING", "RUNNING", "STOPPED")
    assert TASK.final == ("STOPPED",)


def test_an_unknown_transition_raises_with_the_history() -> None:
    """The message names the record, what was asked, what would have been allowed, and what happened before."""
    task = Lifecycle(TASK, "task 1a2b")
    task.happen("Started", NOW)
    with pytest.raises(InvalidTransition) as refusal:
        task.happen("Started", NOW)
    assert str(refusal.value) == (
        "task 1a2b: task: RUNNING does not know Started (it knows: Stop → STOPPED); "
        "history: PENDING -Started→ RUNNING (2024-01-01T00:00:00.000+00:00)"
    )
    assert task.state is Status.RUNNING


def test_a_final_state_knows_nothing() -> None:
    """Nothing happens to a stopped task any more."""
    with pytest.raises(InvalidTransition, match=r"STOPPED does not know Stop \(it knows: nothing\); history: none"):
        TASK.next(Status.STOPPED, "Stop")


def test_a_long_life_keeps_its_last_changes_only() -> None:
    """A load balancer's target that flaps for a year does not fill the memory."""
    flapping = Table("target", {("healthy", "Failed"): "unhealthy", ("unhealthy", "Passed"): "healthy"})
    target = Lifecycle(flapping, "target 10.0.1.5")
    for _ in range(1000):
        target.happen("Failed", NOW)
        target.happen("Passed", NOW)
    assert len(target.history) == 50
    assert target.history[-1].after == "healthy"


def test_a_table_draws_itself() -> None:
    """The diagram in the documentation is generated; a state's own string is shown where it is no identifier."""
    table = Table("attachment", {("attaching", "Attached"): "in-use", ("in-use", "Detach"): "available"})
    assert table.mermaid() == (
        "stateDiagram-v2\n"
        '    state "in-use" as in_use\n'
        "    [*] --> attaching\n"
        "    attaching --> in_use: Attached\n"
        "    in_use --> available: Detach\n"
        "    available --> [*]\n"
    )


def test_an_empty_table_is_refused() -> None:
    """It would have no state to begin with."""
    with pytest.raises(ValueError, match="The table of nothing is empty"):
        Table("nothing", {})
