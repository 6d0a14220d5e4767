"""What load balancing needs of its surroundings, as small protocols that `cloud.py` wires."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from emulation.elbv2.admin import Labels
from emulation.elbv2.envoy_config import Rendered
from emulation.elbv2.metrics import Datum
from emulation.network.network import Network

Report = Callable[[Sequence[Datum]], Awaitable[None]]
"""Takes the data points of a minute to CloudWatch."""


class DataPlane(Protocol):
    """What really balances. `Envoy` is the real one."""

    @property
    def reachable_folder(self) -> str:
        """Where the Unix sockets of listeners are, as a short absolute path."""
        ...

    async def apply(self, rendered: Rendered) -> None:
        """Returns when requests are handled so. Raises SunaboxError."""
        ...

    def admit(self, address: tuple[str, int], admitted: bool) -> None: ...

    def forget(self, address: tuple[str, int]) -> None: ...

    async def counters(self) -> Mapping[tuple[str, Labels], float]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The network interfaces of a load balancer, one a subnet; `private_ips` in the same order."""

    eni_ids: tuple[str, ...]
    private_ips: tuple[IPv4Address, ...]


class Vpc(Protocol):
    """What the API asks of EC2 and the network before it answers, on the API thread."""

    def attach(
        self, account: str, region: str, subnets: Sequence[str], security_groups: Sequence[str], description: str
    ) -> Interfaces:
        """Makes the interfaces. Raises SunaboxError where a subnet is full."""
        ...

    def detach(self, account: str, region: str, eni_ids: Sequence[str]) -> None: ...

    def public_address(self) -> IPv4Address:
        """An address of the host that nobody else uses. Raises SunaboxError."""
        ...

    def release_public_address(self, address: IPv4Address) -> None: ...

    def published_port(self, port: int) -> int:
        """Where the host really finds a port of a public address: elsewhere, if this user may not listen there."""
        ...


@dataclass(frozen=True)
class Surroundings:
    network: Network
    data_plane: DataPlane
    report: Report
