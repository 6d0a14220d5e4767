"""What the daemon is told of a container: the body of ContainerCreate. Pure.

Source: Docker Engine API, ContainerCreate; Amazon ECS, ContainerDefinition and LinuxParameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec
from emulation.runtime.dockerd.pause import PROGRAM
from emulation.runtime.sandbox import settings as words

_MIB = 1 << 20
_OPEN_FILES = 65535
"""Source: Amazon ECS, ContainerDefinition `ulimits`: the nofile limit on Fargate."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container gets from its task. `network` is Docker's network mode; `group` its parent control group or "".

    `memory_mib` and `cpus` are the most that the task leaves it, None for no limit; `processors` the machine's.
    `open_files` is the most that the daemon may allow.
    """

    image: str
    labels: Mapping[str, str]
    hostname: str
    network: str
    group: str = ""
    memory_mib: int | None = None
    cpus: float | None = None
    processors: int = 1
    open_files: int = _OPEN_FILES
    mounts: Sequence[Mapping[str, Any]] = ()


def container(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    """Raises ContainerStartError where there is no command, or a capability that does not exist."""
    argv = words.arguments(spec)
    words.capabilities(spec.added_capabilities, spec.dropped_capabilities)
    ulimits = {limit.name: {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in spec.ulimits}
    files = min(_OPEN_FILES, around.open_files)
    ulimits.setdefault("nofile", {"Name": "nofile", "Soft": files, "Hard": files})
    environment = words.environment(spec, around.hostname)
    return {
        "Image": around.image,
        "Entrypoint": list(argv),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": spec.user or spec.image.config.user,
        "WorkingDir": spec.working_directory or spec.image.config.working_directory or "/",
        "Volumes": {target: {} for target in spec.image.config.volumes},
        "Labels": dict(around.labels),
        "Healthcheck": {"Test": ["NONE"]},  # ECS looks after the health of containers, and not the image
        "AttachStdout": True,
        "AttachStderr": True,
        **({"Hostname": around.hostname} if around.network == "host" else {}),
        "HostConfig": {
            "NetworkMode": around.network,
            "LogConfig": {"Type": "none"},
            "CapAdd": list(spec.added_capabilities),
            "CapDrop": list(spec.dropped_capabilities),
            "ReadonlyRootfs": spec.read_only_root,
            "Init": spec.init,
            "Ulimits": list(ulimits.values()),
            "Tmpfs": _tmpfs(spec.tmpfs),
            "Mounts": [dict(mount) for mount in around.mounts],
            **_limits(spec, around),
        },
    }


def pause(image: str, hostname: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The pause container. It starts in the host's network namespace, and leaves it at once for one of its own."""
    return {
        "Image": image,
        "Entrypoint": [PROGRAM],
        "Cmd": [],
        "Hostname": hostname,
        "Labels": dict(labels),
        "HostConfig": {
            "NetworkMode": "host",
            "UsernsMode": "host",
            "LogConfig": {"Type": "none"},
            "CapDrop": ["ALL"],
            "CapAdd": ["SYS_ADMIN"],
            "ReadonlyRootfs": True,
        },
    }


def start_error(message: str, code: int) -> ContainerStartError:
    """What ECS shows for a daemon's refusal to start a container. Daemons of all ages get the words of today's."""
    _, found, reason = message.partition("unable to start container process: ")
    if found:
        return words.start_error({"kind": "exec", "error": reason.strip().removesuffix(": unknown"), "code": code})
    return ContainerStartError(f"CannotStartContainerError: Error response from daemon: {message.strip()}", code)


def _limits(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    limits: dict[str, Any] = {"CgroupParent": around.group} if around.group else {}
    memory = [limit for limit in (spec.memory_mib, around.memory_mib) if limit]
    if memory:
        limits["Memory"] = limits["MemorySwap"] = min(memory) * _MIB
    # The daemon refuses a limit that is above what the machine has.
    cpus = [limit for limit in (spec.cpus, around.cpus) if limit and limit < around.processors]
    if cpus:
        limits["NanoCpus"] = int(min(cpus) * 1e9)
    return limits


def _tmpfs(mounts: Sequence[str]) -> dict[str, str]:
    return {target: options for target, _, options in (mount.partition(":") for mount in mounts)}
