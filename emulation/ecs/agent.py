"""The agent beside each task: knows which container asks at 169.254.170.2, and what it may be told.

Source: Amazon ECS Developer Guide, Task metadata endpoint version 4; Task IAM role.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from emulation.ecs.credentials import PATH as CREDENTIALS
from emulation.ecs.credentials import CredentialStore, role_arn
from emulation.ecs.definition import ContainerDefinition
from emulation.ecs.metadata import (
    ContainerMetadata,
    Json,
    NetworkMetadata,
    PortMetadata,
    TaskMetadata,
    fargate_docker_id,
)
from emulation.ecs.observation import ContainerObserved, Health
from emulation.ecs.record import TaskRecord, container_status

ADDRESS = "169.254.170.2"


class TaskAgent:
    """Implements `surroundings.Agent` and `metadata_app.MetadataLookup`. Lives on the event loop."""

    def __init__(self, credentials: CredentialStore, new_id: Callable[[], object] = uuid.uuid4) -> None:
        self._credentials, self._new_id = credentials, new_id
        self._containers: dict[str, tuple[TaskRecord, str]] = {}
        self._of_task: dict[str, tuple[list[str], str]] = {}

    def introduce(self, record: TaskRecord) -> Mapping[str, Mapping[str, str]]:
        request, granted = record.request, ""
        environment: dict[str, str] = {}
        if request.task_role_arn:
            arn = role_arn(request.task_role_arn, account=request.account, partition=request.partition)
            granted = self._credentials.grant(arn, task_id=request.task_id, region=request.region)
            environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = f"{CREDENTIALS.rstrip('/')}/{granted}"
        keys, told = [], {}
        for container in record.containers:
            key = f"{request.task_id}-{str(self._new_id())[:8]}"
            keys.append(key)
            self._containers[key] = (record, container.name)
            told[container.name] = {
                **environment,
                "ECS_CONTAINER_METADATA_URI": f"http://{ADDRESS}/v3/{key}",
                "ECS_CONTAINER_METADATA_URI_V4": f"http://{ADDRESS}/v4/{key}",
            }
        self._of_task[record.task_arn] = (keys, granted)
        return told

    def forget(self, record: TaskRecord) -> None:
        keys, granted = self._of_task.pop(record.task_arn, ([], ""))
        for key in keys:
            del self._containers[key]
        if granted:
            self._credentials.revoke(granted)

    def task(self, key: str) -> tuple[TaskMetadata, str] | None:
        known = self._containers.get(key)
        return None if known is None else (task_metadata(known[0]), known[1])

    async def stats(self, key: str) -> Mapping[str, Json]:
        # Emulation: containers are not measured yet; AWS gives Docker's stats of each.
        return {}

    async def credentials(self, credentials_id: str) -> Json | None:
        return await self._credentials.get(credentials_id)


def task_metadata(record: TaskRecord) -> TaskMetadata:
    request, seen = record.request, record.seen
    return TaskMetadata(
        cluster_arn=request.cluster_arn,
        task_arn=request.arn,
        family=request.family,
        revision=request.revision,
        desired_status=record.desired_status,
        known_status=str(record.last_status),
        launch_type=request.launch_type,
        service_name=request.group.removeprefix("service:") if request.service_arn else "",
        containers=tuple(_container_metadata(record, container) for container in record.containers),
        availability_zone=seen.attachment.availability_zone,
        vcpus=int(request.cpu) / 1024 if request.cpu else None,
        memory_mib=int(request.memory) if request.memory else None,
        pull_started_at=seen.times.get("pullStartedAt"),
        pull_stopped_at=seen.times.get("pullStoppedAt"),
        execution_stopped_at=seen.times.get("executionStoppedAt"),
        ephemeral_storage_mib=request.ephemeral_storage["sizeInGiB"] * 1024,
    )


def _container_metadata(record: TaskRecord, container: ContainerDefinition) -> ContainerMetadata:
    request, facts = record.request, record.seen.facts[container.name]
    observed = record.seen.observed.containers.get(container.name, ContainerObserved())
    shown: dict[str, Any] = {}
    if container.log is not None:
        shown = {"log_driver": container.log.driver, "log_options": container.log.options}
        shown["log_stream"] = facts.log_stream
    return ContainerMetadata(
        docker_id=facts.runtime_id or fargate_docker_id(request.task_id, container.name),
        name=container.name,
        docker_name=container.name,
        image=container.image,
        image_id=facts.image_digest,
        container_arn=facts.arn,
        desired_status=record.desired_status,
        known_status=container_status(observed, record.last_status),
        cpu=container.cpu_units,
        memory_mib=container.memory_mib,
        created_at=observed.started_at,
        started_at=observed.started_at,
        exit_code=observed.exit_code,
        health=str(observed.health) if observed.health is not Health.UNKNOWN else "",
        labels=container.labels,
        networks=(_network_metadata(record),),
        ports=tuple(PortMetadata(port, port) for port in container.ports),
        **shown,
    )


def _network_metadata(record: TaskRecord) -> NetworkMetadata:
    attachment = record.seen.attachment
    details = dict(attachment.details)
    return NetworkMetadata(
        network_mode="awsvpc",
        ipv4_addresses=(attachment.private_ip,),
        attachment_index=0,
        mac_address=details.get("macAddress", ""),
        private_dns_name=details.get("privateDnsName", ""),
    )
