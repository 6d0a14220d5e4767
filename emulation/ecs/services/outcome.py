"""What an action or a request makes of a service. Pure: the values before in, those after out."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from emulation.ecs.services import actions as a
from emulation.ecs.services.deployment import Deployment, DeploymentStatus, RolloutState, ServiceDesired


def in_progress(deployment_id: str) -> str:
    return f"ECS deployment {deployment_id} in progress."


def deployed(desired: ServiceDesired, deployment_id: str, now: datetime) -> ServiceDesired:
    """A new PRIMARY deployment supersedes all there are. What was going wrong before counts no more."""
    new = Deployment(deployment_id, now, now, desired.desired_count, rollout_reason=in_progress(deployment_id))
    old = tuple(replace(d, status=DeploymentStatus.ACTIVE) for d in desired.deployments)
    return replace(desired, deployments=(new, *old), steady_at=None, reported={})


def scaled(desired: ServiceDesired, desired_count: int, now: datetime) -> ServiceDesired:
    if desired_count == desired.desired_count:
        return desired
    primary, *old = desired.deployments
    changed = replace(primary, desired_count=desired_count, updated_at=now)
    less = (replace(d, desired_count=min(d.desired_count, desired_count)) for d in old)
    return replace(desired, desired_count=desired_count, deployments=(changed, *less), steady_at=None)


def deleted(desired: ServiceDesired, now: datetime) -> ServiceDesired:
    return replace(scaled(desired, 0, now), active=False, steady_at=None)


def after(desired: ServiceDesired, action: a.ServiceAction, now: datetime) -> ServiceDesired:
    """The service after the scheduler has done something."""
    match action:
        case a.StartTasks():
            return replace(desired, steady_at=None)
        case a.StopTasks(deployment=deployment, tasks=tasks):
            return replace(_keeping_less(desired, deployment, len(tasks), now), steady_at=None)
        case a.StopUnhealthyTask(deployment=deployment):
            return replace(_keeping_less(desired, deployment, 1, now), steady_at=None)
        case a.AccountTask(deployment=deployment, failed_tasks=failed, failed_starts=starts, paused_until=pause):
            return replace(
                _with(
                    desired,
                    deployment,
                    lambda d: replace(d, failed_tasks=failed, failed_starts=starts, paused_until=pause),
                ),
                steady_at=None,
            )
        case a.AcceptTask(deployment=deployment):
            calm = {kind: at for kind, at in desired.reported.items() if kind == a.BLOCKED}
            accepted = _with(
                desired, deployment, lambda d: replace(d, failed_tasks=0, failed_starts=0, paused_until=None)
            )
            return replace(accepted, reported=calm)
        case a.AccountPlacement(deployment=deployment, failed_tasks=failed, paused_until=pause):
            return _with(desired, deployment, lambda d: replace(d, failed_tasks=failed, paused_until=pause))
        case a.CompleteDeployment(deployment=deployment):
            return _completed(desired, deployment, now)
        case a.FailDeployment(deployment=deployment):
            reason = "ECS deployment circuit breaker: tasks failed to start."
            return _with(
                desired,
                deployment,
                lambda d: replace(d, rollout=RolloutState.FAILED, rollout_reason=reason, updated_at=now),
            )
        case a.RollBack(deployment=deployment, to=to):
            return _rolled_back(desired, deployment, to, now)
        case a.RetireDeployment(deployment=deployment):
            return replace(desired, deployments=tuple(d for d in desired.deployments if d.id != deployment))
        case a.Report(kind=kind):
            return replace(desired, reported={**desired.reported, kind: now})
        case a.ReportSteadyState():
            return replace(desired, steady_at=now, reported={})
        case a.BecomeInactive():
            return replace(desired, deployments=desired.deployments[:1])
        case _:
            assert_never(action)


def _with(desired: ServiceDesired, deployment_id: str, change: Callable[[Deployment], Deployment]) -> ServiceDesired:
    return replace(desired, deployments=tuple(change(d) if d.id == deployment_id else d for d in desired.deployments))


def _keeping_less(desired: ServiceDesired, deployment_id: str, count: int, now: datetime) -> ServiceDesired:
    """A superseded deployment keeps as many fewer tasks; the PRIMARY one still has to have all."""
    if deployment_id == desired.primary.id:
        return desired
    return _with(
        desired,
        deployment_id,
        lambda d: replace(d, desired_count=max(d.desired_count - count, 0), updated_at=now),
    )


def _completed(desired: ServiceDesired, deployment_id: str, now: datetime) -> ServiceDesired:
    reason = f"ECS deployment {deployment_id} completed."
    changed = _with(
        desired,
        deployment_id,
        lambda d: replace(
            d, rollout=RolloutState.COMPLETED, rollout_reason=reason, updated_at=now, failed_tasks=0, failed_starts=0
        ),
    )
    return replace(changed, last_completed=changed.deployment(deployment_id))


def _rolled_back(desired: ServiceDesired, failed: str, to: str, now: datetime) -> ServiceDesired:
    """Until it has completed again, the release that is rolled back to is not gone back to a second time."""
    good = desired.deployment(to) or desired.last_completed
    assert good is not None, "a rollback goes back to a deployment that has completed"
    reason = f"ECS deployment circuit breaker: rolling back to deploymentId {to}."
    again = replace(
        good,
        status=DeploymentStatus.PRIMARY,
        rollout=RolloutState.IN_PROGRESS,
        rollout_reason=reason,
        desired_count=desired.desired_count,
        updated_at=now,
        failed_tasks=0,
        failed_starts=0,
        paused_until=None,
    )
    rest = tuple(replace(d, status=DeploymentStatus.ACTIVE) for d in desired.deployments if d.id != to)
    gone = tuple(replace(d, desired_count=0) if d.id == failed else d for d in rest)
    return replace(desired, deployments=(again, *gone), last_completed=None, steady_at=None, reported={})
