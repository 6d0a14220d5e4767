"""What ECS needs of the other services, as small protocols that `cloud.py` wires."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    @property
    def name(self) -> str: ...

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


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """A target as ELB describes it: its state (`initial`, `healthy`, …), and its reason code and description or ''."""

    state: str
    reason: str = ""
    description: str = ""


class TargetGroups(Protocol):
    """Target groups of load balancers (ELB), which the tasks of services are targets of. All on the event loop."""

    async def register(self, target_group_arn: str, ip: str, port: int) -> None:
        """Makes a target, or makes a draining one an ordinary one again. Raises SunaboxError in the words of ELB."""
        ...

    async def deregister(self, target_group_arn: str, ip: str, port: int) -> None:
        """The target drains from now on; harmless where it is none. Does not wait for the end."""
        ...

    async def deregistered(self, target_group_arn: str, ip: str, port: int) -> None:
        """Returns when the target is gone: no request is left, or the deregistration delay is over."""
        ...

    def health(self, target_group_arn: str) -> Mapping[tuple[str, int], TargetHealth]:
        """The targets of a group, by their address and port. Cheap; empty where there is no such group."""
        ...

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """`changed` is called with the ARN of a target group whenever the health of one of its targets has changed."""
        ...


class NoTargetGroups:
    """Where there are no load balancers."""

    async def register(self, target_group_arn: str, ip: str, port: int) -> None:
        pass

    async def deregister(self, target_group_arn: str, ip: str, port: int) -> None:
        pass

    async def deregistered(self, target_group_arn: str, ip: str, port: int) -> None:
        pass

    def health(self, target_group_arn: str) -> Mapping[tuple[str, int], TargetHealth]:
        return {}

    def subscribe(self, changed: Callable[[str], None]) -> None:
        pass


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
    target_groups: TargetGroups = field(default_factory=NoTargetGroups)
