"""What RegisterTaskDefinition and RunTask refuse. Pure: the API's JSON in, an EcsError or nothing out.

Source: Amazon ECS task definition parameters for Fargate (task CPU and memory); Amazon ECS API failure messages.
"""

import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulation.ecs.failures import EcsError, client_error, invalid_parameter

Json = Mapping[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}")
_CONDITIONS = ("START", "COMPLETE", "SUCCESS", "HEALTHY")
_FARGATE_LOG_DRIVERS = ("awslogs", "splunk", "awsfirelens")
_MAX_STOP_TIMEOUT_SECONDS = 120
_HEALTH_CHECK_RANGES = {"interval": (5, 300), "timeout": (2, 60), "retries": (1, 10), "startPeriod": (0, 300)}
"""Seconds, but for the retries. Source: API reference, HealthCheck."""
_PLATFORM_VERSIONS = ("LATEST", "1.4.0", "1.3.0")
_LONGEST_DEFINITION_BYTES = 65536
_LONGEST_OVERRIDES = 8192
_MOST_CONTAINERS = 10


def _gib(*sizes: float) -> frozenset[int]:
    return frozenset(int(size * 1024) for size in sizes)


FARGATE_SIZES: Mapping[int, frozenset[int]] = {
    256: _gib(0.5, 1, 2),
    512: _gib(*range(1, 5)),
    1024: _gib(*range(2, 9)),
    2048: _gib(*range(4, 17)),
    4096: _gib(*range(8, 31)),
    8192: _gib(*range(16, 61, 4)),
    16384: _gib(*range(32, 121, 8)),
    32768: _gib(60, 120, 180, 244),
}
"""Memory in MiB by CPU units that Fargate offers."""


def normalise_size(value: Any, unit: str) -> str:
    """Task-level cpu or memory in the form in which ECS keeps it: "1 vCPU" is "1024", "2 GB" is "2048"."""
    text = str(value or "").strip()
    match = re.fullmatch(r"(\d*\.?\d+)\s*(vcpu|gb)?", text, re.IGNORECASE)
    if not text:
        return ""
    if (
        match is None
        or (match.group(2) or unit).lower() != unit.lower()
        or ("." in match.group(1) and not match.group(2))
    ):
        raise client_error(f"Invalid '{'cpu' if unit == 'vCPU' else 'memory'}' setting for task.")
    return str(int(float(match.group(1)) * 1024)) if match.group(2) else str(int(match.group(1)))


def check_definition(definition: Json) -> None:
    """RegisterTaskDefinition. Raises EcsError."""
    if not _NAME.fullmatch(definition.get("family") or ""):
        raise client_error(
            "Family contains invalid characters." if definition.get("family") else "Family can not be blank."
        )
    length = len(json.dumps(definition, separators=(",", ":"), ensure_ascii=False, default=str).encode())
    if length > _LONGEST_DEFINITION_BYTES:
        raise client_error(f"Actual length: '{length}'. Max allowed length is '{_LONGEST_DEFINITION_BYTES}' bytes.")
    containers: Sequence[Json] = definition.get("containerDefinitions") or ()
    if not containers:
        raise client_error("Container list cannot be empty.")
    for container in containers:
        _check_container(container)
    if len(containers) > _MOST_CONTAINERS:
        raise client_error(f"A task definition may have at most {_MOST_CONTAINERS} containers.")
    names = [c["name"] for c in containers]
    if len(set(names)) < len(names):
        raise client_error("Container names must be unique within a task definition.")
    if not any(c.get("essential", True) is not False for c in containers):
        raise client_error("Invalid 'essential' setting for the task. At least one container must be essential.")
    _check_dependencies(containers, names)
    _check_volumes(definition, containers)
    if "FARGATE" in (definition.get("requiresCompatibilities") or ()):
        _check_fargate(definition, containers)
    elif definition.get("networkMode") == "awsvpc":
        _check_awsvpc_containers(containers)


def _check_container(container: Json) -> None:
    for name in ("name", "image"):
        if not str(container.get(name) or "").strip():
            raise client_error(f"Container.{name} should not be null or empty.")
    name = container["name"]
    if any(not variable.get("name") for variable in container.get("environment") or ()):
        raise client_error(f"Invalid environment variable in container '{name}': its name should not be null or empty.")
    if not _NAME.fullmatch(name):
        raise client_error(f"Invalid container name '{name}': it may have letters, digits, hyphens and underscores.")
    memory, reserved = container.get("memory"), container.get("memoryReservation")
    if memory is not None and memory < 6:
        raise client_error(f"Invalid setting for container '{name}'. 'memory' must be at least 6 MiB.")
    if memory and reserved and reserved > memory:
        raise client_error(
            f"Invalid setting for container '{name}'. 'memoryReservation' must be less than or equal to 'memory'."
        )
    _check_health_check(name, container.get("healthCheck") or {})
    timeout = container.get("stopTimeout")
    if timeout is not None and timeout > _MAX_STOP_TIMEOUT_SECONDS:
        raise client_error(f"Invalid setting for container '{name}'. 'stopTimeout' must be at most 120 seconds.")


def _check_health_check(name: str, check: Json) -> None:
    for member, (least, most) in _HEALTH_CHECK_RANGES.items():
        value = check.get(member)
        if value is not None and not least <= value <= most:
            raise client_error(
                f"Invalid setting for container '{name}'. healthCheck '{member}' must be between {least} and {most}."
            )


def _check_dependencies(containers: Sequence[Json], names: Sequence[str]) -> None:
    edges: dict[str, list[str]] = {}
    for container in containers:
        name, edges[container["name"]] = container["name"], []
        for dependency in container.get("dependsOn") or ():
            on, condition = dependency.get("containerName"), dependency.get("condition")
            if on not in names:
                raise client_error(
                    f"Container '{name}' depends on container '{on}', which is not in the task definition."
                )
            if condition not in _CONDITIONS:
                raise client_error(f"Invalid condition '{condition}' in dependsOn of container '{name}'.")
            target = next(c for c in containers if c["name"] == on)
            if condition == "HEALTHY" and not target.get("healthCheck"):
                raise client_error(f"Container '{on}' must have a health check: '{name}' depends on it being HEALTHY.")
            if condition in ("COMPLETE", "SUCCESS") and target.get("essential", True) is not False:
                raise client_error(f"An essential container ('{on}') cannot be depended on with condition {condition}.")
            edges[name].append(on)
    if _has_cycle(edges):
        raise client_error("Circular dependency in the containers' dependsOn.")


def _has_cycle(edges: Mapping[str, Sequence[str]]) -> bool:
    left = {name: set(targets) for name, targets in edges.items()}
    while free := [name for name, targets in left.items() if not targets]:
        for name in free:
            del left[name]
        for targets in left.values():
            targets.difference_update(free)
    return bool(left)


def _check_volumes(definition: Json, containers: Sequence[Json]) -> None:
    declared = {v.get("name") for v in definition.get("volumes") or ()}
    for container in containers:
        for mount in container.get("mountPoints") or ():
            if mount.get("sourceVolume") not in declared:
                raise client_error(f"Unknown volume '{mount.get('sourceVolume')}'.")


def _check_fargate(definition: Json, containers: Sequence[Json]) -> None:
    if definition.get("networkMode") not in (None, "awsvpc"):
        raise client_error("Fargate only supports network mode ‘awsvpc’.")
    for name, unit in (("cpu", "vCPU"), ("memory", "GB")):
        if not normalise_size(definition.get(name), unit):
            raise client_error(f"Fargate requires that '{name}' be defined at the task level.")
    cpu, memory = normalise_size(definition["cpu"], "vCPU"), normalise_size(definition["memory"], "GB")
    if not _fits_fargate(cpu, memory):
        raise client_error(_NO_CONFIGURATION.format(cpu=cpu, memory=memory))
    if definition.get("ipcMode"):
        raise client_error("Tasks using the Fargate launch type do not support ipcMode.")
    if any((volume.get("host") or {}).get("sourcePath") for volume in definition.get("volumes") or ()):
        raise client_error("host.sourcePath should not be set for volumes in Fargate.")
    has_role = bool(definition.get("executionRoleArn"))
    for container in containers:
        _check_fargate_container(container, has_role)
    _check_awsvpc_containers(containers)
    if sum(int(c.get("cpu") or 0) for c in containers) > int(cpu):
        raise client_error("The sum of the containers' cpu must not exceed the task's cpu.")
    if any(int(c.get("memory") or 0) > int(memory) for c in containers):
        raise client_error("Invalid 'memory' setting for container: it must not exceed the task's memory.")


_NO_CONFIGURATION = "No Fargate configuration exists for given values: {cpu} CPU, {memory} memory."


def _fits_fargate(cpu: str, memory: str) -> bool:
    return int(memory) in FARGATE_SIZES.get(int(cpu), frozenset())


def _check_fargate_container(container: Json, has_role: bool) -> None:
    if container.get("privileged"):
        raise client_error("Fargate does not support privileged containers.")
    added = ((container.get("linuxParameters") or {}).get("capabilities") or {}).get("add") or ()
    if set(added) - {"SYS_PTRACE"}:
        raise client_error("Fargate only supports adding the kernel capability SYS_PTRACE.")
    log = (container.get("logConfiguration") or {}).get("logDriver")
    if log and log not in _FARGATE_LOG_DRIVERS:
        raise client_error(f"Fargate does not support log driver '{log}'.")
    if has_role:
        return
    if log == "awslogs":
        raise client_error("Fargate requires task definition to have execution role ARN to support log driver awslogs.")
    if container.get("secrets"):
        raise client_error(
            "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."
        )
    if ".dkr.ecr." in container["image"]:
        raise client_error("Fargate requires task definition to have execution role ARN to support ECR images.")


_NOT_WITH_AWSVPC = {
    "links": "Links",
    "hostname": "Hostname",
    "extraHosts": "Extra hosts",
    "dnsServers": "DNS servers",
    "dnsSearchDomains": "DNS search domains",
}


def _check_awsvpc_containers(containers: Sequence[Json]) -> None:
    seen: set[tuple[int, str]] = set()
    for container in containers:
        for member, words in _NOT_WITH_AWSVPC.items():
            if container.get(member):
                verb = "is" if member == "hostname" else "are"
                raise client_error(f"{words} {verb} not supported on container when networkMode=awsvpc.")
        for mapping in container.get("portMappings") or ():
            port, host_port = mapping.get("containerPort"), mapping.get("hostPort")
            if host_port and port and host_port != port:
                raise client_error(
                    "When networkMode=awsvpc, the host ports and container ports in port mappings must match."
                )
            if port and not 1 <= port <= 65535:
                raise client_error(f"Invalid container port {port} in container '{container['name']}'.")
            key = (port or 0, mapping.get("protocol") or "tcp")
            if port and key in seen:
                raise client_error("Two containers of the task definition map the same container port.")
            seen.add(key)


def check_run(request: Json, definition: Json, compatibilities: Sequence[str], launch_type: str) -> None:
    """RunTask on an existing cluster and task definition. Raises EcsError."""
    if launch_type not in _LAUNCH_TYPES:
        raise invalid_parameter(f"launch type should be one of [{','.join(_LAUNCH_TYPES)}]")
    count = request.get("count", 1)
    if not 1 <= count <= 10:
        raise invalid_parameter("Tasks count must be between 1 and 10." if count > 10 else "count must be at least 1.")
    if launch_type == "FARGATE" and "FARGATE" not in compatibilities:
        raise invalid_parameter("Task definition does not support launch_type FARGATE.")
    if launch_type == "FARGATE" and (request.get("platformVersion") or "LATEST") not in _PLATFORM_VERSIONS:
        raise EcsError("PlatformUnknownException", "The specified platform version does not exist.")
    configuration = (request.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    if definition.get("networkMode") == "awsvpc":
        if not configuration:
            raise invalid_parameter("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
        if not configuration.get("subnets"):
            raise invalid_parameter("subnets can not be empty.")
    elif configuration:
        raise invalid_parameter("Network Configuration is not valid for the given networkMode of this task definition.")
    _check_overrides(request.get("overrides") or {}, definition, fargate=launch_type == "FARGATE")


def _check_overrides(overrides: Json, definition: Json, *, fargate: bool) -> None:
    given = {key: value for key, value in overrides.items() if value is not None}
    if len(json.dumps(given, separators=(",", ":"), ensure_ascii=False)) > _LONGEST_OVERRIDES:
        raise invalid_parameter(f"Container Overrides length must be at most {_LONGEST_OVERRIDES}")
    cpu = normalise_size(overrides.get("cpu") or definition.get("cpu"), "vCPU")
    memory = normalise_size(overrides.get("memory") or definition.get("memory"), "GB")
    if fargate and cpu and memory and not _fits_fargate(cpu, memory):
        raise invalid_parameter(_NO_CONFIGURATION.format(cpu=cpu, memory=memory))
    storage = (overrides.get("ephemeralStorage") or {}).get("sizeInGiB")
    if storage is not None and not 20 <= storage <= 200:
        raise invalid_parameter("Ephemeral storage size must be between 20 and 200 GiB.")
    names = {c["name"] for c in definition["containerDefinitions"]}
    for override in overrides.get("containerOverrides") or ():
        if override.get("name") not in names:
            raise invalid_parameter(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )


def _any(definition: Json, asked: Callable[[Json], object]) -> bool:
    return any(asked(container) for container in definition["containerDefinitions"])


_LAUNCH_TYPES = ("EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES")
_OWN_ARCHITECTURE = "ARM64" if platform.machine() in ("aarch64", "arm64") else "X86_64"

# Emulation: a task definition with one of these can be registered, and not be run.
UNSUPPORTED: Mapping[str, Callable[[Json], object]] = {
    "volumes of EFS": lambda d: any(v.get("efsVolumeConfiguration") for v in d.get("volumes") or ()),
    "volumes of FSx": lambda d: any(v.get("fsxWindowsFileServerVolumeConfiguration") for v in d.get("volumes") or ()),
    "proxyConfiguration": lambda d: d.get("proxyConfiguration"),
    "Windows containers": lambda d: "WINDOWS" in ((d.get("runtimePlatform") or {}).get("operatingSystemFamily") or ""),
    "log drivers other than awslogs": lambda d: any(
        c["logConfiguration"]["logDriver"] != "awslogs"
        for c in d["containerDefinitions"]
        if (c.get("logConfiguration") or {}).get("logDriver")
    ),
    "environmentFiles": lambda d: any(c.get("environmentFiles") for c in d["containerDefinitions"]),
    "volumesFrom": lambda d: any(c.get("volumesFrom") for c in d["containerDefinitions"]),
    "restart policies": lambda d: _any(d, lambda c: (c.get("restartPolicy") or {}).get("enabled")),
    "terminals": lambda d: _any(d, lambda c: c.get("pseudoTerminal") or c.get("interactive")),
    "systemControls": lambda d: _any(d, lambda c: c.get("systemControls")),
    "FireLens": lambda d: _any(d, lambda c: c.get("firelensConfiguration")),
    "a shared PID namespace": lambda d: d.get("pidMode"),
    "GPUs": lambda d: any(c.get("resourceRequirements") for c in d["containerDefinitions"]),
    "inferenceAccelerators": lambda d: d.get("inferenceAccelerators"),
    "dockerSecurityOptions": lambda d: _any(d, lambda c: c.get("dockerSecurityOptions")),
    "disableNetworking": lambda d: _any(d, lambda c: c.get("disableNetworking")),
    "processors of another kind than this machine's": lambda d: (
        ((d.get("runtimePlatform") or {}).get("cpuArchitecture") or _OWN_ARCHITECTURE) != _OWN_ARCHITECTURE
    ),
}
"""What a task may ask for on AWS and cannot have here. RunTask refuses it rather than leave it out."""


def check_emulated(definition: Json) -> None:
    for what, asked in UNSUPPORTED.items():
        if asked(definition):
            raise EcsError("UnsupportedFeatureException", f"Sunabox does not emulate {what} in tasks.")
