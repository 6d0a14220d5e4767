"""Plans print; what they print is what people and tests read."""

from dataclasses import dataclass

import pytest

from emulation.core.plan import Action, Plan


@dataclass(frozen=True)
class RunTask(Action):
    task_definition: str
    cause: str


@dataclass(frozen=True)
class RegisterTargets(Action):
    target_group: str
    targets: tuple[str, ...]
    port: int | None
    cause: str


def test_a_plan_prints_one_line_for_each_action() -> None:
    """The kind, what it is done to, and why; None is left out."""
    plan = Plan(
        (
            RunTask("web:3", "runningCount 1 < desiredCount 2"),
            RegisterTargets("web", ("10.0.1.5", "10.0.1.6"), None, "the tasks are RUNNING"),
        )
    )
    assert str(plan) == (
        "RunTask web:3 — runningCount 1 < desiredCount 2\nRegisterTargets web 10.0.1.5,10.0.1.6 — the tasks are RUNNING"
    )


def test_an_empty_plan_says_so() -> None:
    """A person who reads the log is not left with an empty line."""
    assert str(Plan()) == "(nothing to do)"


def test_equal_plans_are_equal() -> None:
    """Plans are values, which tests may compare as such."""
    assert Plan((RunTask("web:3", "why"),)) == Plan((RunTask("web:3", "why"),))
    assert Plan((RunTask("web:3", "why"),)) != Plan((RunTask("web:3", "another"),))


def test_an_action_without_a_cause_cannot_be_defined() -> None:
    """Forgetting the field is noticed when the module is imported."""
    with pytest.raises(TypeError, match="StopTask has no field `cause: str`"):
        type("StopTask", (Action,), {"__annotations__": {"task": str}})


def test_kinds_may_share_a_base_that_has_the_cause() -> None:
    """The cause may be inherited from another kind of action."""

    @dataclass(frozen=True)
    class RunAnyTask(RunTask):
        pass

    assert str(RunAnyTask("web:3", "why")) == "RunAnyTask web:3 — why"
