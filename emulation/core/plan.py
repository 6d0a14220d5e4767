"""Plans: what a service has decided to do, as values that print.

A planner is a pure function, `plan_service(desired, observed, now) -> Plan`. The plan is the only thing that it gives
out, so what the debug log shows, what a person is told and what a test compares are the same words:

    RunTask web:3 — runningCount 1 < desiredCount 2
"""

from dataclasses import dataclass, fields
from datetime import datetime
from inspect import get_annotations
from typing import Generic

from typing_extensions import TypeVar


class Action:
    """One thing to do, named after what AWS does. Each kind is a frozen dataclass that has, as its last field, a cause:

    @dataclass(frozen=True)
    class StopTask(Action):
        task: str
        cause: str

    `cause` says why, written for people; ECS service events, the log and the console show it. It is no dataclass field
    here, so that a subclass's own fields come before it.
    """

    __slots__ = ()

    cause: str

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not any("cause" in get_annotations(kind) for kind in cls.__mro__ if kind is not Action):
            raise TypeError(f"{cls.__name__} has no field `cause: str`. Every action says why it is done; add it.")

    @property
    def subject(self) -> str:
        """What the action is done to: the values of its fields but the cause. Kinds that read badly so override it."""
        values = (getattr(self, field.name) for field in fields(self) if field.name != "cause")  # type: ignore[arg-type]
        return " ".join(_printed(value) for value in values if value is not None)

    def __str__(self) -> str:
        done = f"{type(self).__name__} {self.subject}".rstrip()
        return f"{done} — {self.cause}"


A_co = TypeVar("A_co", bound=Action, default=Action, covariant=True)


@dataclass(frozen=True, slots=True)
class Plan(Generic[A_co]):
    """Actions in the order in which to do them, and the next moment at which the plan could change by itself.

    `wake_at` is later than the `now` that was planned for; None where only events can change the plan. A service names
    the kinds of its actions, `Plan[RunTask | StopTask]`, so that mypy sees whether `apply` handles them all.
    """

    actions: tuple[A_co, ...] = ()
    wake_at: datetime | None = None

    def __str__(self) -> str:
        return "\n".join(map(str, self.actions)) or "(nothing to do)"


def _printed(value: object) -> str:
    if isinstance(value, tuple | list | set | frozenset):
        parts = [str(part) for part in value]
        return ",".join(sorted(parts) if isinstance(value, set | frozenset) else parts)
    return str(value)
