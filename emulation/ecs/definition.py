"""What a task is to run: the containers of its task definition, with the overrides of RunTask applied. Values only.

Source: Amazon ECS task definition parameters for Fargate; API reference: ContainerDefinition, ContainerOverride.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from emulation.runtime.base import Mount, Ulimit

DEFAULT_STOP_TIMEOUT = timedelta(seconds=30)
"""How long a container has between the stop signal and SIGKILL, unless its definition says otherwise."""
DEFAULT_START_TIMEOUT = timedelta(minutes=3)
"""How long a container waits for those that it depends on."""


@dataclass(frozen=True)
class HealthCheck:
    """A container health check. `command` starts with CMD or CMD-SHELL. Source: API reference, HealthCheck."""

    command: tuple[str, ...]
    interval: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(seconds=5)
    retries: int = 3
    start_period: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class LogConfiguration:
    driver: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dependency:
    """`condition` is START, COMPLETE, SUCCESS or HEALTHY."""

    container: str
    condition: str


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """One container. `memory_mib` is the hard limit, `cpu_units` are 1/1024 vCPU, `secrets` are name and valueFrom."""

    name: str
    image: str
    essential: bool = True
    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[tuple[str, str], ...] = ()
    working_directory: str = ""
    user: str = ""
    cpu_units: int = 0
    memory_mib: int | None = None
    memory_reservation_mib: int | None = None
    ports: tuple[int, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    start_timeout: timedelta = DEFAULT_START_TIMEOUT
    stop_timeout: timedelta = DEFAULT_STOP_TIMEOUT
    health_check: HealthCheck | None = None
    log: LogConfiguration | None = None
    read_only_root: bool = False
    init: bool = False
    added_capabilities: tuple[str, ...] = ()
    dropped_capabilities: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_container(definition: Mapping[str, Any], override: Mapping[str, Any] | None = None) -> ContainerDefinition:
    """From the API's JSON. An override's environment is added to the definition's; its other members replace."""
    override = override or {}
    merged = {**definition, **{key: value for key, value in override.items() if key not in ("environment", "name")}}
    environment = _environment(definition.get("environment")) | _environment(override.get("environment"))
    linux = definition.get("linuxParameters") or {}
    capabilities = linux.get("capabilities") or {}
    log = definition.get("logConfiguration")
    return ContainerDefinition(
        name=definition["name"],
        image=definition["image"],
        essential=definition.get("essential", True) is not False,
        entry_point=_entry_point(merged.get("entryPoint")),
        command=_words(merged.get("command")),
        environment=environment,
        secrets=tuple((s["name"], s["valueFrom"]) for s in definition.get("secrets") or ()),
        working_directory=definition.get("workingDirectory") or "",
        user=definition.get("user") or "",
        cpu_units=int(merged.get("cpu") or 0),
        memory_mib=_optional_int(merged.get("memory")),
        memory_reservation_mib=_optional_int(merged.get("memoryReservation")),
        ports=tuple(int(p["containerPort"]) for p in definition.get("portMappings") or () if p.get("containerPort")),
        depends_on=tuple(Dependency(d["containerName"], d["condition"]) for d in definition.get("dependsOn") or ()),
        start_timeout=_seconds(definition.get("startTimeout"), DEFAULT_START_TIMEOUT),
        stop_timeout=_seconds(definition.get("stopTimeout"), DEFAULT_STOP_TIMEOUT),
        health_check=_health_check(definition.get("healthCheck")),
        log=LogConfiguration(log["logDriver"], dict(log.get("options") or {})) if log else None,
        read_only_root=bool(definition.get("readonlyRootFilesystem")),
        init=bool(linux.get("initProcessEnabled")),
        added_capabilities=tuple(capabilities.get("add") or ()),
        dropped_capabilities=tuple(capabilities.get("drop") or ()),
        ulimits=tuple(Ulimit(u["name"], u["softLimit"], u["hardLimit"]) for u in definition.get("ulimits") or ()),
        mounts=tuple(
            Mount(m["containerPath"], volume=m.get("sourceVolume") or "", read_only=bool(m.get("readOnly")))
            for m in definition.get("mountPoints") or ()
        ),
        tmpfs=tuple(_tmpfs(t) for t in linux.get("tmpfs") or ()),
        extra_hosts={h["hostname"]: h["ipAddress"] for h in definition.get("extraHosts") or ()},
        labels=dict(definition.get("dockerLabels") or {}),
    )


def _words(value: Any) -> tuple[str, ...] | None:
    return tuple(str(word) for word in value) if value else None


def _environment(variables: Any) -> dict[str, str]:
    """A name with "=" in it ends there: what a program gets are strings of the form name=value."""
    texts = (f"{variable['name']}={variable.get('value') or ''}" for variable in variables or ())
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _entry_point(value: Any) -> tuple[str, ...] | None:
    """[""] is none at all, and drops the image's. Source: Docker, `docker run --entrypoint ""`."""
    return () if value == [""] else _words(value)


def _tmpfs(mount: Mapping[str, Any]) -> str:
    """As Docker writes it: path:option,option. The size is in MiB."""
    size = [f"size={mount['size']}m"] if mount.get("size") else []
    return f"{mount['containerPath']}:{','.join([*size, *(mount.get('mountOptions') or ())])}"


def _optional_int(value: Any) -> int | None:
    return int(value) if value else None


def _seconds(value: Any, default: timedelta) -> timedelta:
    return default if value is None else timedelta(seconds=int(value))


def _health_check(check: Mapping[str, Any] | None) -> HealthCheck | None:
    if not check or not check.get("command") or check["command"][0] == "NONE":
        return None
    return HealthCheck(
        tuple(check["command"]),
        _seconds(check.get("interval"), HealthCheck.interval),
        _seconds(check.get("timeout"), HealthCheck.timeout),
        int(check.get("retries") or HealthCheck.retries),
        _seconds(check.get("startPeriod"), HealthCheck.start_period),
    )
