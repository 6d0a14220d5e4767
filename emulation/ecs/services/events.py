"""What the event bus is told of services. Source: Amazon ECS service action events; service deployment state change
events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from emulation.core.bus import Event
from emulation.ecs.services import actions as a
from emulation.ecs.services.deployment import Deployment
from emulation.ecs.services.record import ServiceRecord

_ACTION, _DEPLOYMENT = "ECS Service Action", "ECS Deployment State Change"


@dataclass(frozen=True)
class Told:
    """An event that is yet to be published. `detail` holds what is not the same for all of its type."""

    detail_type: str
    event_type: str
    event_name: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def steady_state() -> Told:
    return Told(_ACTION, "INFO", "SERVICE_STEADY_STATE")


def trouble(kind: str, cause: str) -> Told | None:
    if kind == a.IMPAIRED:
        return Told(_ACTION, "WARN", "SERVICE_TASK_START_IMPAIRED")
    if kind == a.PLACEMENT:
        return Told(_ACTION, "ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", {"reason": cause})
    return None


def deployment(state: str, of: Deployment, now: datetime) -> Told:
    """`state` is IN_PROGRESS, COMPLETED or FAILED."""
    detail = {"deploymentId": of.id, "updatedAt": _text(now), "reason": of.rollout_reason}
    return Told(_DEPLOYMENT, "ERROR" if state == "FAILED" else "INFO", f"SERVICE_DEPLOYMENT_{state}", detail)


def event(told: Told, service: ServiceRecord, now: datetime) -> Event:
    detail = {"eventType": told.event_type, "eventName": told.event_name, **told.detail}
    if told.detail_type == _ACTION:
        detail |= {"clusterArn": service.cluster_arn, "createdAt": _text(now)}
    return Event(
        source="aws.ecs",
        detail_type=told.detail_type,
        account=service.account,
        region=service.region,
        resources=(service.arn,),
        detail=detail,
        time=now,
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
