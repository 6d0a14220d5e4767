"""What ECS needs of the other services, as small protocols that `cloud.py` wires."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from emulation.core.bus import Bus
from emulation.ecs.record import Attachment, TaskRecord, TaskRequest
from emulation.network.base import Interface
from emulation.runtime.base import Line, Runtime


class Interfaces(Protocol):
    """Elastic network interfaces of tasks (EC2)."""

    async def attach(self, request: TaskRequest, attachment_id: str) -> tuple[Interface, Attachment]: ...

    async def release(self, request: TaskRequest, interface: Interface) -> None: ...


class LogStream(Protocol):
    async def write(self, line: Line) -> None: ...

    async def close(self) -> None: ...


class LogDriver(Protocol):
    """The awslogs driver. `open` raises SunaboxError in the words of ECS."""

    async def open(
        self, options: Mapping[str, str], *, account: str, region: str, task_id: str, container_name: str
    ) -> LogStream: ...


class Secrets(Protocol):
    """Values of `secrets`, by name. Raises SunaboxError in the words of ECS."""

    async def resolve(
        self, secrets: tuple[tuple[str, str], ...], *, account: str, region: str
    ) -> Mapping[str, str]: ...


class Agent(Protocol):
    """The task metadata endpoint and the credentials endpoint: what a task may ask at 169.254.170.2."""

    def introduce(self, record: TaskRecord) -> Mapping[str, Mapping[str, str]]:
        """Makes the task known; gives the environment variables that tell each container where to ask."""
        ...

    def forget(self, record: TaskRecord) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """`environment` is what every container gets, such as the AWS endpoint."""

    runtime: Runtime
    interfaces: Interfaces
    logs: LogDriver
    secrets: Secrets
    agent: Agent
    bus: Bus
    environment: Mapping[str, str]
