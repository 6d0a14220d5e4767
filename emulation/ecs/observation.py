"""What a task wants to be and what it is: the two values from which `plan_task` decides.

Source: Amazon ECS task lifecycle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from emulation.ecs.definition import ContainerDefinition


class TaskStatus(StrEnum):
    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    ACTIVATING = "ACTIVATING"
    RUNNING = "RUNNING"
    DEACTIVATING = "DEACTIVATING"
    STOPPING = "STOPPING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"


class Health(StrEnum):
    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


class Progress(StrEnum):
    """How far a step is that takes a while: the interface, the preparation, a container's start or stop."""

    NOT_BEGUN = "NOT_BEGUN"
    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a task stops. `code` is AWS's stopCode."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskDesired:
    """What the API has been asked for. `stop` is set once somebody asked that the task should stop.

    `target_containers` are those that a load balancer sends requests to.
    """

    task_id: str
    containers: tuple[ContainerDefinition, ...]
    stop: Stop | None = None
    target_containers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ContainerObserved:
    """One container of the task. `exit_code` is None also where it stopped without ever having run."""

    start: Progress = Progress.NOT_BEGUN
    stopping: bool = False
    stopped: bool = False
    exit_code: int | None = None
    reason: str = ""
    health: Health = Health.UNKNOWN
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskObserved:
    """`interface` and `preparation` (secrets, log streams, images) are DONE when they ended; `failure` says why.

    `registration` and `deregistration` are those of its targets; the latter is DONE when they have drained. `released`
    is DONE when the task's interface, processes and files are gone. Dependencies are waited for from `prepared_at` on.
    """

    status: TaskStatus
    interface: Progress = Progress.NOT_BEGUN
    preparation: Progress = Progress.NOT_BEGUN
    released: Progress = Progress.NOT_BEGUN
    failure: Stop | None = None
    containers: Mapping[str, ContainerObserved] = field(default_factory=dict)
    prepared_at: datetime | None = None
    registration: Progress = Progress.NOT_BEGUN
    deregistration: Progress = Progress.NOT_BEGUN
