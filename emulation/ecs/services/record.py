"""The service as the API knows it. Written on the API thread only; `desired` is replaced whole, so that the scheduler
may read it at any time.

Source: Amazon ECS API reference, Service, Deployment, ServiceEvent.
"""

import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from emulation.ecs.observation import TaskStatus
from emulation.ecs.record import TaskRecord, TaskTarget
from emulation.ecs.services.deployment import (
    CircuitBreaker,
    Deployment,
    Limits,
    ProviderShare,
    ServiceDesired,
)
from emulation.ecs.services.outcome import deployed
from emulation.ecs.services.wording import NO_INSTANCES

Json = Mapping[str, Any]

EVENTS_KEPT = 100
_PENDING = (TaskStatus.PROVISIONING, TaskStatus.PENDING, TaskStatus.ACTIVATING)


@dataclass(frozen=True)
class Release:
    """What the tasks of one deployment are. `network` is awsvpcConfiguration; `definition_tags` may be propagated.

    `asked` holds the members of the API's JSON that it was made of.
    """

    definition_arn: str
    definition: Json
    cpu: str
    memory: str
    launch_type: str
    strategy: tuple[ProviderShare, ...] = ()
    platform_version: str = "1.4.0"
    network: Json = field(default_factory=dict)
    load_balancers: tuple[Json, ...] = ()
    definition_tags: tuple[Mapping[str, str], ...] = ()
    asked: Json = field(default_factory=dict, compare=False)

    @property
    def targets(self) -> tuple[TaskTarget, ...]:
        used = self.load_balancers
        return tuple(TaskTarget(lb["targetGroupArn"], lb["containerName"], int(lb["containerPort"])) for lb in used)


class ServiceRecord:
    """A service in moto's place: moto reads `arn`, `name`, `cluster_name`, `physical_resource_id` and `tags` of it.

    `generation` counts the API's requests: the scheduler does nothing that it planned before the last of them.
    `launch` starts one task of a release and gives its record; `created_by` is the JSON of the first request, and
    `settings` that of all of them.
    """

    def __init__(
        self,
        *,
        account: str,
        region: str,
        arn: str,
        name: str,
        cluster_arn: str,
        cluster_name: str,
        settings: dict[str, Any],
        desired_count: int,
        release: Release,
        launch: Callable[["ServiceRecord", str, str], TaskRecord],
        now: datetime,
    ) -> None:
        self.account, self.region, self.arn, self.name = account, region, arn, name
        self.cluster_arn, self.cluster_name = cluster_arn, cluster_name
        self.physical_resource_id = arn
        self.tags: list[dict[str, str]] = list(settings.get("tags") or [])
        self.settings, self.created_at, self.launch = settings, now, launch
        self.created_by = dict(settings)
        self.status = "ACTIVE"
        self.generation = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self.tasks: dict[str, TaskRecord] = {}
        self.releases: dict[str, Release] = {}
        self.desired = ServiceDesired(name, desired_count, ())
        self.configure(settings)
        self.deploy(release, now)

    # ---- what requests change ----

    def configure(self, settings: dict[str, Any]) -> None:
        """Takes over what needs no new deployment."""
        self.settings = settings
        configuration = settings.get("deploymentConfiguration") or {}
        breaker = configuration.get("deploymentCircuitBreaker") or {}
        self._change(
            limits=Limits(
                configuration.get("maximumPercent", self.default_maximum_percent),
                configuration.get("minimumHealthyPercent", self.default_minimum_healthy_percent),
            ),
            breaker=CircuitBreaker(bool(breaker.get("enable")), bool(breaker.get("rollback"))),
            grace_period=timedelta(seconds=settings.get("healthCheckGracePeriodSeconds") or 0),
        )

    def deploy(self, release: Release, now: datetime) -> str:
        """A new PRIMARY deployment: its id."""
        deployment_id = f"ecs-svc/{uuid.uuid4().int % 10**19:019d}"
        self.releases[deployment_id] = release
        # Emulation: there are no container instances yet, so AWS's own words for a cluster without any are true.
        self._change(no_capacity="" if release.launch_type == "FARGATE" else NO_INSTANCES, strategy=release.strategy)
        self.desired = deployed(self.desired, deployment_id, now)
        return deployment_id

    def _change(self, **changes: Any) -> None:
        self.desired = replace(self.desired, **changes)

    @property
    def daemon(self) -> bool:
        return self.settings.get("schedulingStrategy") == "DAEMON"

    @property
    def default_maximum_percent(self) -> int:
        return 100 if self.daemon else 200

    @property
    def default_minimum_healthy_percent(self) -> int:
        return 0 if self.daemon else 100

    @property
    def release(self) -> Release:
        """That of the PRIMARY deployment."""
        return self.releases[self.desired.primary.id]

    def forget_releases(self) -> None:
        """Drops what no deployment can need any more."""
        needed = {d.id for d in self.desired.deployments}
        if self.desired.last_completed is not None:
            needed.add(self.desired.last_completed.id)
        for gone in self.releases.keys() - needed:
            del self.releases[gone]

    def tell(self, message: str, now: datetime) -> None:
        """A service event; the newest is shown first, and 100 are kept."""
        self.events.appendleft({"id": str(uuid.uuid4()), "createdAt": now, "message": message})

    # ---- what is shown ----

    def describe(self, *, with_tags: bool = True) -> dict[str, Any]:
        """The service in the API's JSON, with datetimes as datetimes."""
        for arn in [arn for arn, task in self.tasks.items() if task.last_status is TaskStatus.STOPPED]:
            del self.tasks[arn]
        settings, desired, release = self.settings, self.desired, self.release
        tasks = list(self.tasks.values())
        service: dict[str, Any] = {
            "serviceArn": self.arn,
            "serviceName": self.name,
            "clusterArn": self.cluster_arn,
            "status": self.status,
            "desiredCount": desired.desired_count,
            **_counts(tasks),
            "taskDefinition": release.definition_arn,
            "loadBalancers": [dict(lb) for lb in release.load_balancers],
            "serviceRegistries": [],
            "deploymentConfiguration": {
                "deploymentCircuitBreaker": {"enable": desired.breaker.enable, "rollback": desired.breaker.rollback},
                "maximumPercent": desired.limits.maximum_percent,
                "minimumHealthyPercent": desired.limits.minimum_healthy_percent,
                "strategy": "ROLLING",
                "bakeTimeInMinutes": 0,
            },
            "deploymentController": {"type": "ECS"},
            "deployments": self._deployments(tasks),
            "events": list(self.events),
            "createdAt": self.created_at,
            "createdBy": f"arn:{self.arn.split(':')[1]}:iam::{self.account}:root",
            "placementConstraints": list(settings.get("placementConstraints") or []),
            "placementStrategy": list(settings.get("placementStrategy") or []),
            "schedulingStrategy": settings.get("schedulingStrategy") or "REPLICA",
            "enableECSManagedTags": bool(settings.get("enableECSManagedTags")),
            "propagateTags": settings.get("propagateTags") or "NONE",
            "enableExecuteCommand": bool(settings.get("enableExecuteCommand")),
            "availabilityZoneRebalancing": settings.get("availabilityZoneRebalancing") or "DISABLED",
            **_kind(release),
        }
        if release.launch_type == "FARGATE":
            service["platformVersion"] = release.asked.get("platformVersion") or "LATEST"
        if release.load_balancers:
            role = "role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
            service["roleArn"] = f"arn:{self.arn.split(':')[1]}:iam::{self.account}:{role}"
        grace = settings.get("healthCheckGracePeriodSeconds")
        if grace is not None or release.load_balancers:
            service["healthCheckGracePeriodSeconds"] = grace or 0
        if with_tags and self.tags:
            service["tags"] = self.tags
        return service

    def _deployments(self, tasks: Sequence[TaskRecord]) -> list[dict[str, Any]]:
        shown = self.desired.deployments if self.status != "INACTIVE" else ()
        return [self._deployment(d, [t for t in tasks if t.started_by == d.id]) for d in shown]

    def _deployment(self, deployment: Deployment, tasks: Sequence[TaskRecord]) -> dict[str, Any]:
        release = self.releases[deployment.id]
        return {
            "id": deployment.id,
            "status": str(deployment.status),
            "taskDefinition": release.definition_arn,
            "desiredCount": deployment.desired_count,
            **_counts(tasks),
            "failedTasks": deployment.failed_tasks,
            "createdAt": deployment.created_at,
            "updatedAt": deployment.updated_at,
            "rolloutState": str(deployment.rollout),
            "rolloutStateReason": deployment.rollout_reason,
            **_kind(release),
        }


def _counts(tasks: Sequence[TaskRecord]) -> dict[str, int]:
    states = [t.last_status for t in tasks]
    return {"runningCount": states.count(TaskStatus.RUNNING), "pendingCount": sum(s in _PENDING for s in states)}


def _kind(release: Release) -> dict[str, Any]:
    """Where and how the tasks run: a launch type or a capacity provider strategy, and the network."""
    shown: dict[str, Any] = {}
    if release.strategy:
        shown["capacityProviderStrategy"] = [
            {"capacityProvider": s.provider, "weight": s.weight, "base": s.base} for s in release.strategy
        ]
    else:
        shown["launchType"] = release.launch_type
    if release.launch_type == "FARGATE":
        shown |= {"platformVersion": release.platform_version, "platformFamily": "Linux"}
    if release.network:
        network = {"securityGroups": [], "assignPublicIp": "DISABLED", **release.network}
        shown["networkConfiguration"] = {"awsvpcConfiguration": network}
    return shown
