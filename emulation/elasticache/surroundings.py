"""What ElastiCache needs of the other parts, as small protocols that `cloud.py` wires."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from emulation.core.bus import Bus
from emulation.elasticache.record import Facts, KeptRule
from emulation.elasticache.servers import CacheServers
from emulation.network.endpoint import Endpoint, Placement


@dataclass(frozen=True)
class Location:
    """Where caches may be: a VPC, its subnets as (id, zone), and security groups."""

    vpc_id: str
    subnets: tuple[tuple[str, str], ...]
    groups: tuple[str, ...]


class Interfaces(Protocol):
    """Elastic network interfaces of nodes (EC2), and addresses of the host."""

    async def attach(
        self, facts: Facts, node_id: str, subnet_id: str, groups: Sequence[str], rules: Sequence[KeptRule]
    ) -> Placement:
        """An interface in a subnet; where that is gone (the emulator was restarted), in the default VPC's first one.

        Groups that EC2 does not know any more get their `rules` back.
        """
        ...

    async def release(self, facts: Facts, placement: Placement) -> None: ...

    async def set_groups(self, facts: Facts, placement: Placement, groups: Sequence[str]) -> Placement: ...

    def rules(self, groups: Sequence[str]) -> tuple[KeptRule, ...]:
        """The ingress rules as they are kept."""
        ...

    def endpoint(self, port: int, wish: IPv4Address | None) -> Endpoint:
        """`wish` is the address that it had before a restart."""
        ...


class Networks(Protocol):
    """What ElastiCache asks of EC2 before it answers, on the API thread. Raises SunaboxError."""

    def locate(self, account: str, region: str, subnets: Sequence[str], groups: Sequence[str]) -> Location:
        """The subnets, or those of the default VPC; the groups, or the VPC's default one."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """`folder` is where data and records are kept; `durable` whether they are to outlive the emulator."""

    servers: CacheServers
    interfaces: Interfaces
    networks: Networks
    bus: Bus
    folder: Path
    durable: bool
