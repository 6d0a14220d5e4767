"""What a runtime is: tasks, the containers in them, and what becomes of them.

A runtime works at the level of a *task*: containers that share a network namespace (an elastic network interface) and
`localhost`, as ECS runs them. ECS decides what to start and stop and in which order; a runtime only does it, and
reports what really happened. `process`, `docker` and `memory` implement the same protocol and pass the same contract
suite (`tests/runtime/`). All methods are coroutines of the emulator's one event loop.

Source: Amazon ECS task definition parameters; Amazon ECS stopped tasks error messages.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import ClassVar, Protocol

from emulation.network.base import Interface


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a container printed, without its line end; or a part of one.

    Lines longer than 256 KiB arrive in parts, `complete` being true for the last one. A last line without a line end is
    delivered when the container exits.
    """

    stream: Stream
    data: bytes
    complete: bool = True


Output = Callable[[Line], Awaitable[None]]
"""Receives a container's lines in order. The runtime reads no further until it returns, which is the back-pressure."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how to run it. Source: OCI image specification, Image Configuration."""

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: str = ""
    stop_signal: str = "SIGTERM"
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image that the runtime can start containers from. `digest` is that of its manifest (sha256:…)."""

    reference: str
    digest: str
    config: ImageConfig


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host (`source`), or, where that is None, a volume of the task's own, seen at `target`."""

    target: str
    source: Path | None = None
    volume: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task before it runs.

    `interface` is None where the task shares the host's network. `ports` are the container ports that the task
    definition declares. `cpus` (vCPU) and `memory_mib` are the task's own limits, None for no limit.
    """

    task_id: str
    hostname: str
    interface: Interface | None = None
    ports: tuple[int, ...] = ()
    cpus: float | None = None
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container before it runs. `entry_point` and `command` None mean the image's; so do the empty strings.

    An entry point given here, also an empty one, drops the image's command, as Docker does it. `memory_mib` is the hard
    limit.
    """

    name: str
    image: PulledImage
    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    user: str = ""
    cpus: float | None = None
    memory_mib: int | None = None
    read_only_root: bool = False
    init: bool = False
    added_capabilities: tuple[str, ...] = ()
    dropped_capabilities: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    extra_hosts: Mapping[str, IPv4Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended: its exit code (128 + n for signal n), and whether the memory limit ended it."""

    code: int
    oom_killed: bool = False


class Execution(Protocol):
    """A command that runs inside a running container."""

    async def write(self, data: bytes) -> None: ...
    async def close_input(self) -> None: ...
    async def wait(self) -> int:
        """The exit code, after all output was delivered."""
        ...

    async def kill(self) -> None: ...


class Container(Protocol):
    """A container that was started. It exists until its task is closed, also after it has exited."""

    @property
    def spec(self) -> ContainerSpec: ...

    @property
    def runtime_id(self) -> str: ...

    async def wait(self) -> Exit:
        """Returns when the container has exited and all of its output was delivered. May be called by many."""
        ...

    async def stop(self, timeout: timedelta) -> Exit:
        """The image's stop signal, then SIGKILL after `timeout` on the emulator's clock. Harmless after the exit."""
        ...

    async def signal(self, number: int) -> None: ...

    async def execute(
        self,
        command: tuple[str, ...],
        output: Output,
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
    ) -> Execution:
        """Returns once the command runs, with the container's environment, user and folder unless others are given.

        Raises ContainerStartError in Docker's words, with its exit code (126, 127), where it cannot be started, also
        because the container has exited. What still runs when the container exits is killed.
        """
        ...


class Task(Protocol):
    """A task's shared parts: its network namespace, its volumes, its limits (Docker's "pause container")."""

    @property
    def spec(self) -> TaskSpec: ...

    async def start_container(self, spec: ContainerSpec, output: Output) -> Container:
        """Returns once the container's program runs. Raises ContainerStartError in the words that ECS shows."""
        ...

    async def close(self) -> None:
        """Kills what still runs and removes every trace: processes, mounts, folders, addresses. Never raises twice."""
        ...


class Runtime(Protocol):
    name: ClassVar[str]

    async def start(self) -> None:
        """Probes the machine; raises RuntimeUnavailable naming each missing thing and what to do. Cleans up what a
        killed emulator with the same data folder left behind."""
        ...

    async def close(self) -> None:
        """Closes every task. Nothing of the runtime is left on the machine afterwards."""
        ...

    async def pull(self, reference: str, account: str) -> PulledImage:
        """Makes the image ready. Raises ImageNotFound or ImageError; ECS words them as CannotPullContainerError."""
        ...

    async def create_task(self, spec: TaskSpec) -> Task: ...
