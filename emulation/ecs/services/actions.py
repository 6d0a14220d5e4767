"""What the service scheduler does, as values. `cause` is what a stopped task, the log and the console show."""

from dataclasses import dataclass
from datetime import datetime

from emulation.core.plan import Action


@dataclass(frozen=True)
class StartTasks(Action):
    """A task for each of `providers` ('' where there is no strategy), `replaced` of them for unhealthy ones."""

    deployment: str
    providers: tuple[str, ...]
    replaced: int
    cause: str

    @property
    def subject(self) -> str:
        used = " ".join(sorted({p for p in self.providers if p}))
        return f"{self.deployment} {len(self.providers)} {used}".rstrip()


@dataclass(frozen=True)
class StopTasks(Action):
    """Tasks that are too many. A superseded deployment keeps as many fewer from now on."""

    deployment: str
    tasks: tuple[str, ...]
    pending: bool
    cause: str

    @property
    def subject(self) -> str:
        return f"{self.deployment} {','.join(self.tasks)}"


@dataclass(frozen=True)
class StopUnhealthyTask(Action):
    """`target_group_arn` is '' where it is the container that failed its checks."""

    deployment: str
    task: str
    port: int
    target_group_arn: str
    reason: str
    cause: str

    @property
    def subject(self) -> str:
        return f"{self.deployment} {self.task}"


@dataclass(frozen=True)
class AccountTask(Action):
    """A task has ended: what its deployment has come to by it."""

    deployment: str
    task: str
    failed_tasks: int
    failed_starts: int
    paused_until: datetime | None
    cause: str

    @property
    def subject(self) -> str:
        return f"{self.deployment} {self.task} failedTasks={self.failed_tasks}"


@dataclass(frozen=True)
class AcceptTask(Action):
    """A task counts as healthy for the first time."""

    deployment: str
    task: str
    cause: str


@dataclass(frozen=True)
class AccountPlacement(Action):
    """No task could be placed at all."""

    deployment: str
    failed_tasks: int
    paused_until: datetime
    cause: str

    @property
    def subject(self) -> str:
        return f"{self.deployment} failedTasks={self.failed_tasks}"


@dataclass(frozen=True)
class CompleteDeployment(Action):
    deployment: str
    cause: str


@dataclass(frozen=True)
class FailDeployment(Action):
    deployment: str
    cause: str


@dataclass(frozen=True)
class RollBack(Action):
    """`to` becomes PRIMARY again."""

    deployment: str
    to: str
    cause: str


@dataclass(frozen=True)
class RetireDeployment(Action):
    """A superseded deployment without tasks is shown no more."""

    deployment: str
    cause: str


IMPAIRED = "impaired"
BLOCKED = "blocked"
PLACEMENT = "placement"


@dataclass(frozen=True)
class Report(Action):
    """A trouble of a kind (IMPAIRED, BLOCKED, PLACEMENT) is told of."""

    kind: str
    cause: str


@dataclass(frozen=True)
class ReportSteadyState(Action):
    cause: str


@dataclass(frozen=True)
class BecomeInactive(Action):
    """A deleted service has no tasks any more."""

    cause: str


ServiceAction = (
    StartTasks
    | StopTasks
    | StopUnhealthyTask
    | AccountTask
    | AcceptTask
    | AccountPlacement
    | CompleteDeployment
    | FailDeployment
    | RollBack
    | RetireDeployment
    | Report
    | ReportSteadyState
    | BecomeInactive
)
