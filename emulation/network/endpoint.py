"""Endpoints of managed servers (databases, caches): one address that works on the host and in tasks alike.

The address is one of the host's 127.0.0.0/8 and the server itself listens there, so the host reaches it without any
detour. In the tasks of its VPC the very same address and port lead to it, as do its private address in the VPC and its
names. Security groups decide about both; what they deny gets no answer.

Emulation: on AWS, only the VPC reaches a private database or cache. Here the host does, too, where a rule for 0.0.0.0/0
or 127.0.0.1 admits it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from emulation.network.destination import Destination
from emulation.network.network import Network


@dataclass(frozen=True, slots=True)
class Placement:
    """Where in a VPC an endpoint is. `private_ip` is that of its network interface, where it has one."""

    vpc_id: str
    security_groups: tuple[str, ...]
    private_ip: IPv4Address | None = None
    eni_id: str = ""


class Endpoint:
    """Leased when it is made, until `release`. `announce` makes it known to tasks, `withdraw` takes that back.

    `wish` is the address that it had before a restart; it gets that one if it is free.
    To be made and used on the event loop. Raises NoAddressLeft when it is made and no address is free.
    """

    def __init__(self, network: Network, port: int, wish: IPv4Address | None = None) -> None:
        self._network = network
        self._announced: tuple[Destination, ...] = ()
        self.address: IPv4Address = network.allocate_public_address(wish)
        self.port = port

    async def announce(
        self,
        placement: Placement,
        names: tuple[str, ...] = (),
        upstream: tuple[str, int] | None = None,
        admit: Callable[[bool], None] | None = None,
    ) -> None:
        """Opens it in all present and future tasks of the VPC. To be called again when something has changed.

        `names` resolve in the tasks, to the private address where there is one. `upstream` is where the emulator
        reaches the server on behalf of tasks, if not at the endpoint's own address and port. `admit` is told whether
        the host's connections are to be answered, at once and whenever security groups have changed.
        """
        wanted = self._destinations(placement, names, upstream or (str(self.address), self.port))
        for old in self._announced:
            if all((old.vpc_id, old.ip, old.port) != (new.vpc_id, new.ip, new.port) for new in wanted):
                await self._network.withdraw(old)
        self._announced = wanted
        if admit is not None:
            self._network.guard(wanted[-1], admit)
        for new in wanted:
            await self._network.announce(new)

    async def withdraw(self) -> None:
        """Closes it in tasks; established connections live on. Harmless when it was not announced."""
        announced, self._announced = self._announced, ()
        if announced:
            self._network.unguard(announced[-1])
        for destination in announced:
            await self._network.withdraw(destination)

    async def release(self) -> None:
        """Withdraws it and gives the address back. The server must not listen there any more. Harmless twice."""
        await self.withdraw()
        self._network.release_public_address(self.address)

    def _destinations(
        self, placement: Placement, names: tuple[str, ...], upstream: tuple[str, int]
    ) -> tuple[Destination, ...]:
        addresses = [ip for ip in (placement.private_ip, self.address) if ip is not None]
        return tuple(
            Destination(
                ip=ip,
                port=self.port,
                upstream=upstream,
                vpc_id=placement.vpc_id,
                names=names if ip == addresses[0] else (),
                eni_id=placement.eni_id,
                security_groups=placement.security_groups,
                private_ip=placement.private_ip,
            )
            for ip in addresses
        )
