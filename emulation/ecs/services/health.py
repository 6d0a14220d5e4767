"""Whether a task of a service counts as healthy. Pure.

A task without any health check counts 40 seconds after it has started; others once their containers and all of their
targets are healthy. Bad news of a health check is ignored during the service's grace period.

Source: Amazon ECS API reference, DeploymentConfiguration (minimumHealthyPercent), CreateService
(healthCheckGracePeriodSeconds).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from emulation.ecs.observation import Health, TaskStatus

UNCHECKED_TASKS_COUNT_AFTER = timedelta(seconds=40)

_ON_THE_WAY = (TaskStatus.PROVISIONING, TaskStatus.PENDING, TaskStatus.ACTIVATING)


@dataclass(frozen=True, slots=True)
class TargetSeen:
    """A target of the task. `state` is ELB's: initial, healthy, unhealthy, unused, draining, unavailable."""

    target_group_arn: str
    port: int
    state: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A task as its service sees it.

    `stopping`: it has been asked to stop, or stops by itself; `failed_checks`: because it was unhealthy. `checked`: an
    essential container has a health check, with the result `health`. `was_healthy` and `accounted` are what the service
    remembers: that the task once counted as healthy, and that its end has been taken into account.
    """

    id: str
    deployment_id: str
    status: TaskStatus
    created_at: datetime
    started_at: datetime | None = None
    stopping: bool = False
    stop_code: str = ""
    failed_checks: bool = False
    checked: bool = False
    health: Health = Health.UNKNOWN
    targets: tuple[TargetSeen, ...] = ()
    zone: str = ""
    provider: str = ""
    was_healthy: bool = False
    accounted: bool = False

    @property
    def alive(self) -> bool:
        return not self.stopping and (self.status is TaskStatus.RUNNING or self.on_the_way)

    @property
    def on_the_way(self) -> bool:
        return self.status in _ON_THE_WAY


class Verdict(StrEnum):
    HEALTHY = "healthy"
    WAITING = "waiting"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`changes_at`: when time alone may change the verdict. `target`: the one that is unhealthy, where it is one."""

    verdict: Verdict
    changes_at: datetime | None = None
    target: TargetSeen | None = None


def judge(task: TaskSeen, grace_period: timedelta, now: datetime) -> Judgement:
    """The verdict on a task that is alive."""
    if task.on_the_way or task.started_at is None:
        return Judgement(Verdict.WAITING)
    bad = next((t for t in task.targets if t.state == "unhealthy"), None)
    if bad is not None or (task.checked and task.health is Health.UNHEALTHY):
        grace_ends = task.started_at + grace_period
        if now < grace_ends:
            return Judgement(Verdict.WAITING, grace_ends)
        return Judgement(Verdict.UNHEALTHY, target=bad)
    if not task.targets and not task.checked:
        counts_from = task.started_at + UNCHECKED_TASKS_COUNT_AFTER
        return Judgement(Verdict.HEALTHY) if now >= counts_from else Judgement(Verdict.WAITING, counts_from)
    # `unavailable`: health checks are switched off for the target group.
    passed = all(t.state in ("healthy", "unavailable") for t in task.targets)
    if passed and (not task.checked or task.health is Health.HEALTHY):
        return Judgement(Verdict.HEALTHY)
    return Judgement(Verdict.WAITING)
