"""The task metadata endpoint, version 4: what a task may read about itself. Values in, JSON out.

Source: Amazon ECS Developer Guide, Task metadata endpoint version 4 (JSON response; for tasks on Fargate; examples).
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

_LABEL = "com.amazonaws.ecs."


@dataclass(frozen=True, slots=True)
class NetworkMetadata:
    """A network of a container. What is below `ipv4_addresses` exists with network mode awsvpc only."""

    network_mode: str
    ipv4_addresses: tuple[str, ...]
    attachment_index: int | None = None
    mac_address: str = ""
    ipv4_subnet_cidr_block: str = ""
    domain_name_servers: tuple[str, ...] = ()
    domain_name_search_list: tuple[str, ...] = ()
    private_dns_name: str = ""
    subnet_gateway_ipv4_address: str = ""


@dataclass(frozen=True, slots=True)
class PortMetadata:
    container_port: int
    host_port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    """A container. `cpu` is in units of 1/1024 vCPU, `memory_mib` its hard limit. `status` are AWS's strings.

    `labels` are those of the container definition. `log_options` are the driver's options, `log_stream` the stream that
    they led to.
    """

    docker_id: str
    name: str
    docker_name: str
    image: str
    image_id: str
    container_arn: str
    desired_status: str
    known_status: str
    cpu: int = 0
    memory_mib: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    health: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[NetworkMetadata, ...] = ()
    ports: tuple[PortMetadata, ...] = ()
    log_driver: str = ""
    log_options: Mapping[str, str] = field(default_factory=dict)
    log_stream: str = ""


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """A task. `vcpus` and `memory_mib` are its own limits; `launch_type` is FARGATE or EC2. Only EC2 shows `vpc_id`."""

    cluster_arn: str
    task_arn: str
    family: str
    revision: str
    desired_status: str
    known_status: str
    launch_type: str
    containers: tuple[ContainerMetadata, ...]
    availability_zone: str = ""
    vcpus: float | None = None
    memory_mib: int | None = None
    pull_started_at: datetime | None = None
    pull_stopped_at: datetime | None = None
    execution_stopped_at: datetime | None = None
    service_name: str = ""
    vpc_id: str = ""
    ephemeral_storage_mib: int | None = None

    @property
    def cluster(self) -> str:
        """The cluster's ARN on Fargate, its name on EC2, as in AWS's examples."""
        return self.cluster_arn if self.launch_type == "FARGATE" else self.cluster_arn.rpartition("/")[2]

    def container(self, name: str) -> ContainerMetadata:
        return next(container for container in self.containers if container.name == name)


def fargate_docker_id(task_id: str, container_name: str) -> str:
    """On Fargate a container's DockerId is <task id>-<number>. The number is the same for the same container."""
    return f"{task_id}-{zlib.crc32(container_name.encode()):010d}"


def render_task(task: TaskMetadata) -> Json:
    """The answer to ${ECS_CONTAINER_METADATA_URI_V4}/task."""
    return _present(
        {
            "Cluster": task.cluster,
            "TaskARN": task.task_arn,
            "Family": task.family,
            "Revision": task.revision,
            "ServiceName": task.service_name,
            "DesiredStatus": task.desired_status,
            "KnownStatus": task.known_status,
            "Limits": _present({"CPU": task.vcpus, "Memory": task.memory_mib}),
            "PullStartedAt": _time(task.pull_started_at),
            "PullStoppedAt": _time(task.pull_stopped_at),
            "ExecutionStoppedAt": _time(task.execution_stopped_at),
            "AvailabilityZone": task.availability_zone,
            "VPCID": task.vpc_id if task.launch_type == "EC2" else "",
            "LaunchType": task.launch_type,
            "Containers": [render_container(task, container) for container in task.containers],
            "EphemeralStorageMetrics": _present({"Reserved": task.ephemeral_storage_mib}),
        }
    )


def render_container(task: TaskMetadata, container: ContainerMetadata) -> Json:
    """The answer to ${ECS_CONTAINER_METADATA_URI_V4}."""
    return _present(
        {
            "DockerId": container.docker_id,
            "Name": container.name,
            "DockerName": container.docker_name,
            "Image": container.image,
            "ImageID": container.image_id,
            "Ports": [
                {"ContainerPort": port.container_port, "Protocol": port.protocol, "HostPort": port.host_port}
                for port in container.ports
            ],
            "Labels": {
                **container.labels,
                f"{_LABEL}cluster": task.cluster,
                f"{_LABEL}container-name": container.name,
                f"{_LABEL}task-arn": task.task_arn,
                f"{_LABEL}task-definition-family": task.family,
                f"{_LABEL}task-definition-version": task.revision,
            },
            "DesiredStatus": container.desired_status,
            "KnownStatus": container.known_status,
            "ExitCode": container.exit_code,
            "Limits": {"CPU": container.cpu, **_present({"Memory": container.memory_mib})},
            "CreatedAt": _time(container.created_at),
            "StartedAt": _time(container.started_at),
            "FinishedAt": _time(container.finished_at),
            "Type": "NORMAL",
            "Health": {"status": container.health} if container.health else None,
            "LogDriver": container.log_driver,
            "LogOptions": _log_options(container),
            "ContainerARN": container.container_arn,
            "Networks": [_network(network) for network in container.networks],
        }
    )


def render_task_stats(task: TaskMetadata, stats: Mapping[str, Json]) -> Json:
    """The answer to …/task/stats: Docker's stats by the containers' DockerIds, null for those that have none yet."""
    return {container.docker_id: stats.get(container.docker_id) for container in task.containers}


def _network(network: NetworkMetadata) -> Json:
    return _present(
        {
            "NetworkMode": network.network_mode,
            "IPv4Addresses": list(network.ipv4_addresses),
            "AttachmentIndex": network.attachment_index,
            "MACAddress": network.mac_address,
            "IPv4SubnetCIDRBlock": network.ipv4_subnet_cidr_block,
            "DomainNameServers": list(network.domain_name_servers),
            "DomainNameSearchList": list(network.domain_name_search_list),
            "PrivateDNSName": network.private_dns_name,
            "SubnetGatewayIpv4Address": network.subnet_gateway_ipv4_address,
        }
    )


def _log_options(container: ContainerMetadata) -> Json:
    shown = {
        name: value
        for name, value in container.log_options.items()
        if name in ("awslogs-group", "awslogs-region", "awslogs-create-group")
    }
    if container.log_stream:
        shown["awslogs-stream"] = container.log_stream
    return dict(sorted(shown.items()))


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _present(members: Json) -> Json:
    """Without what is not known: AWS omits it."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}
