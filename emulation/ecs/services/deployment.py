"""What a service is asked to be: its deployments, and the limits within which one replaces the other.

Values only. Source: Amazon ECS API reference, Service, Deployment, DeploymentConfiguration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class DeploymentStatus(StrEnum):
    PRIMARY = "PRIMARY"
    ACTIVE = "ACTIVE"


class RolloutState(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One release of a service. `desired_count` is what it keeps; a superseded one keeps less and less.

    `failed_tasks` failed one after the other; `failed_starts` of them never came as far as RUNNING. No task is started
    before `paused_until`.
    """

    id: str
    created_at: datetime
    updated_at: datetime
    desired_count: int
    status: DeploymentStatus = DeploymentStatus.PRIMARY
    rollout: RolloutState = RolloutState.IN_PROGRESS
    rollout_reason: str = ""
    failed_tasks: int = 0
    failed_starts: int = 0
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    enable: bool = False
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """DeploymentConfiguration. The upper limit is rounded down, the lower one up."""

    maximum_percent: int = 200
    minimum_healthy_percent: int = 100

    def upper(self, desired_count: int) -> int:
        """How many tasks may be RUNNING or on the way there."""
        return desired_count * self.maximum_percent // 100

    def lower(self, desired_count: int) -> int:
        """How many healthy tasks must be left when the scheduler stops one."""
        return -(-desired_count * self.minimum_healthy_percent // 100)


@dataclass(frozen=True, slots=True)
class ProviderShare:
    """An item of a capacity provider strategy."""

    provider: str
    weight: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class ServiceDesired:
    """All that the scheduler is asked for.

    `deployments` has the PRIMARY one first. `last_completed` is what a rollback goes back to, also where it is not
    among `deployments` any more. `reported` says when a trouble was last told of, by its kind. `steady_at` is when the
    service was last found steady, None since it left that state. `no_capacity` says, in AWS's words, why no task can be
    placed.
    """

    name: str
    desired_count: int
    deployments: tuple[Deployment, ...]
    active: bool = True
    limits: Limits = Limits()
    breaker: CircuitBreaker = CircuitBreaker()
    grace_period: timedelta = timedelta(0)
    strategy: tuple[ProviderShare, ...] = ()
    last_completed: Deployment | None = None
    steady_at: datetime | None = None
    reported: Mapping[str, datetime] = field(default_factory=dict)
    no_capacity: str = ""

    @property
    def primary(self) -> Deployment:
        return self.deployments[0]

    def deployment(self, deployment_id: str) -> Deployment | None:
        return next((d for d in self.deployments if d.id == deployment_id), None)
