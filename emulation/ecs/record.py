"""The task as the API knows it: what was asked for, and the last that was seen of it.

What was asked for (`stop`) is written on the API thread only, what was seen (`seen`) by the task's loop only, which
replaces the whole frozen value, so that either side may read the other's at any time.

Source: Amazon ECS API reference, Task, Container, Attachment.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from emulation.ecs.definition import ContainerDefinition, parse_container
from emulation.ecs.observation import ContainerObserved, Health, Progress, Stop, TaskDesired, TaskObserved, TaskStatus

_ARM = platform.machine() in ("aarch64", "arm64")
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


@dataclass(frozen=True, slots=True)
class TaskTarget:
    """A target that the task is to be: the group, and the container that listens on the port."""

    target_group_arn: str
    container: str
    port: int


@dataclass(frozen=True)
class TaskRequest:
    """What RunTask was given. `definition` is the task definition's JSON; `cpu` and `memory` are AWS's strings.

    `service_arn` and `targets` are those of the service that the task belongs to.
    """

    account: str
    region: str
    arn: str
    task_id: str
    cluster_arn: str
    cluster_name: str
    definition_arn: str
    definition: Mapping[str, Any]
    created_at: datetime
    overrides: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    started_by: str = ""
    launch_type: str = "FARGATE"
    capacity_provider: str = ""
    platform_version: str = "1.4.0"
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    assign_public_ip: bool = False
    cpu: str = ""
    memory: str = ""
    service_arn: str = ""
    targets: tuple[TaskTarget, ...] = ()

    @property
    def partition(self) -> str:
        return self.arn.split(":")[1]

    @property
    def family(self) -> str:
        return str(self.definition["family"])

    @property
    def revision(self) -> str:
        return self.definition_arn.rpartition(":")[2]

    @property
    def task_role_arn(self) -> str:
        return str(self.overrides.get("taskRoleArn") or self.definition.get("taskRoleArn") or "")

    @property
    def execution_role_arn(self) -> str:
        return str(self.overrides.get("executionRoleArn") or self.definition.get("executionRoleArn") or "")

    @property
    def ephemeral_storage(self) -> Mapping[str, int]:
        """In the API's JSON."""
        given = self.overrides.get("ephemeralStorage") or self.definition.get("ephemeralStorage")
        return given or {"sizeInGiB": 20}

    def containers(self) -> tuple[ContainerDefinition, ...]:
        overrides = {o["name"]: o for o in self.overrides.get("containerOverrides") or () if "name" in o}
        return tuple(parse_container(d, overrides.get(d["name"])) for d in self.definition["containerDefinitions"])


@dataclass(frozen=True)
class Attachment:
    """The task's network interface as the task shows it. `details` are AWS's names and values."""

    attachment_id: str
    status: str = "PRECREATED"
    private_ip: str = ""
    availability_zone: str = ""
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ContainerFacts:
    """What is known of a container besides its state."""

    arn: str
    runtime_id: str = ""
    image_digest: str = ""
    log_stream: str = ""


@dataclass(frozen=True)
class Seen:
    """The last that was seen of a task. `times` are by the names of the API (`startedAt`, `pullStartedAt`, …)."""

    observed: TaskObserved
    attachment: Attachment
    facts: Mapping[str, ContainerFacts]
    times: Mapping[str, datetime] = field(default_factory=dict)
    version: int = 1


class TaskRecord:
    """A task in moto's place: moto reads `tags`, `task_arn`, `cluster_arn` and their like of it."""

    def __init__(self, request: TaskRequest, seen: Seen, tags: list[dict[str, str]]) -> None:
        self.request = request
        self.containers = request.containers()
        self.seen = seen
        self.stop: Stop | None = None
        self.tags = tags
        self.task_arn = request.arn
        self.cluster_arn = request.cluster_arn
        self.task_definition_arn = request.definition_arn
        self.started_by = request.started_by
        self.container_instance_arn: str | None = None

    @property
    def desired(self) -> TaskDesired:
        targets = frozenset(target.container for target in self.request.targets)
        return TaskDesired(self.request.task_id, self.containers, self.stop, targets)

    @property
    def last_status(self) -> TaskStatus:
        return self.seen.observed.status

    @property
    def desired_status(self) -> str:
        stopping = self.stop is not None or self.seen.observed.failure is not None
        return "STOPPED" if stopping or self.last_status is TaskStatus.STOPPED else "RUNNING"

    def describe(self, *, with_tags: bool = True) -> dict[str, Any]:
        """The task in the API's JSON, with datetimes as datetimes."""
        request, seen = self.request, self.seen
        stop = self.stop or seen.observed.failure
        task: dict[str, Any] = {
            "taskArn": request.arn,
            "clusterArn": request.cluster_arn,
            "taskDefinitionArn": request.definition_arn,
            "group": request.group,
            "launchType": request.launch_type,
            "lastStatus": str(self.last_status),
            "desiredStatus": self.desired_status,
            "healthStatus": str(task_health(self.containers, seen.observed)),
            "createdAt": request.created_at,
            "connectivity": "CONNECTED",
            "cpu": request.cpu,
            "memory": request.memory,
            "platformVersion": request.platform_version,
            "platformFamily": "Linux",
            "ephemeralStorage": request.ephemeral_storage,
            "enableExecuteCommand": False,
            "attributes": [{"name": "ecs.cpu-architecture", "value": "arm64" if _ARM else "x86_64"}],
            "overrides": _overrides(request),
            "attachments": [_attachment(seen.attachment)],
            "containers": [self._container(c) for c in self.containers],
            "version": seen.version,
            "tags": self.tags if with_tags else [],
            **seen.times,
        }
        if request.started_by:
            task["startedBy"] = request.started_by
        if request.capacity_provider:
            task["capacityProviderName"] = request.capacity_provider
        if seen.attachment.availability_zone:
            task["availabilityZone"] = seen.attachment.availability_zone
        if stop is not None:
            task |= {"stopCode": stop.code, "stoppedReason": stop.reason}
        return {name: value for name, value in task.items() if value != ""}

    def _container(self, container: ContainerDefinition) -> dict[str, Any]:
        observed = self.seen.observed.containers.get(container.name, ContainerObserved())
        facts, attachment = self.seen.facts[container.name], self.seen.attachment
        shown: dict[str, Any] = {
            "containerArn": facts.arn,
            "taskArn": self.task_arn,
            "name": container.name,
            "image": container.image,
            "imageDigest": facts.image_digest,
            "runtimeId": facts.runtime_id,
            "lastStatus": container_status(observed, self.last_status),
            "reason": observed.reason,
            "networkBindings": [],
            "networkInterfaces": [
                {"attachmentId": attachment.attachment_id, "privateIpv4Address": attachment.private_ip}
            ]
            if attachment.private_ip
            else [],
            "healthStatus": str(observed.health),
            "cpu": str(container.cpu_units),
            "memory": str(container.memory_mib or ""),
            "memoryReservation": str(container.memory_reservation_mib or ""),
        }
        if observed.exit_code is not None:
            shown["exitCode"] = observed.exit_code
        return {name: value for name, value in shown.items() if value != ""}


def container_status(container: ContainerObserved, task: TaskStatus) -> str:
    if container.stopped or task is TaskStatus.STOPPED:
        return "STOPPED"
    return "RUNNING" if container.start is Progress.DONE else "PENDING"


def task_health(containers: tuple[ContainerDefinition, ...], observed: TaskObserved) -> Health:
    """UNHEALTHY as soon as one essential container is, HEALTHY when all that have a check are. Source: HealthCheck."""
    checked = [
        observed.containers.get(c.name, ContainerObserved()).health
        for c in containers
        if c.essential and c.health_check is not None
    ]
    if not checked or (Health.UNKNOWN in checked and Health.UNHEALTHY not in checked):
        return Health.UNKNOWN
    return Health.UNHEALTHY if Health.UNHEALTHY in checked else Health.HEALTHY


def _attachment(attachment: Attachment) -> dict[str, Any]:
    return {
        "id": attachment.attachment_id,
        "type": "ElasticNetworkInterface",
        "status": attachment.status,
        "details": [{"name": name, "value": value} for name, value in attachment.details],
    }


def _overrides(request: TaskRequest) -> dict[str, Any]:
    given = {o["name"]: o for o in request.overrides.get("containerOverrides") or () if "name" in o}
    every = [given.get(d["name"], {"name": d["name"]}) for d in request.definition["containerDefinitions"]]
    return {
        **{key: value for key, value in request.overrides.items() if key != "containerOverrides"},
        "containerOverrides": every,
        "inferenceAcceleratorOverrides": request.overrides.get("inferenceAcceleratorOverrides") or [],
    }
