"""Makes listeners known: to the tasks of their VPC, by address and name, and to the host, as security groups say.

A task reaches a load balancer by its private addresses, and by the address or the name in DNSName; whichever it takes,
its connection comes in through the listener's Unix socket, with the task's own address told in a PROXY protocol header.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address

from emulation.elbv2.envoy_config import inner_socket
from emulation.elbv2.records import Listener, LoadBalancer
from emulation.elbv2.surroundings import DataPlane
from emulation.network.destination import Destination
from emulation.network.network import Network

Place = tuple[str | None, IPv4Address, int]


class Announcements:
    def __init__(self, network: Network, data_plane: DataPlane) -> None:
        self._network, self._data_plane = network, data_plane
        self._announced: dict[Place, Destination] = {}
        self._guarded: dict[tuple[str, int], Destination] = {}

    async def settle(self, balancers: Iterable[LoadBalancer]) -> None:
        """Announces what there is now, and takes back what there was."""
        wanted: dict[Place, Destination] = {}
        guarded: dict[tuple[str, int], Destination] = {}
        for balancer in balancers:
            for listener in balancer.listeners:
                for destination in self._destinations(balancer, listener):
                    wanted[destination.vpc_id, destination.ip, destination.port] = destination
                    if destination.ip == balancer.address:
                        guarded[str(destination.ip), listener.published_port] = destination
        self._guard(guarded)
        before, self._announced = self._announced, wanted
        for place in before.keys() - wanted.keys():
            await self._network.withdraw(before[place])
        for place, destination in wanted.items():
            if before.get(place) != destination:
                await self._network.announce(destination)

    async def close(self) -> None:
        await self.settle(())

    def _guard(self, wanted: dict[tuple[str, int], Destination]) -> None:
        before, self._guarded = self._guarded, wanted
        for address in before.keys() - wanted.keys():
            self._network.unguard(before[address])
            self._data_plane.forget(address)
        for address, destination in wanted.items():
            if before.get(address) != destination:
                self._network.guard(destination, partial(self._data_plane.admit, address))

    def _destinations(self, balancer: LoadBalancer, listener: Listener) -> Iterator[Destination]:
        upstream = (f"{self._data_plane.reachable_folder}/{inner_socket(listener)}", 0)
        public = (balancer.address,) if balancer.address is not None else ()
        for ip in (*balancer.private_ips, *public):
            named = ip == balancer.private_ips[0] and not public
            yield Destination(
                ip=ip,
                port=listener.port,
                upstream=upstream,
                vpc_id=balancer.vpc_id,
                names=(balancer.dns_name,) if named else (),
                eni_id=balancer.full_name,
                security_groups=balancer.security_groups,
                private_ip=balancer.private_ips[0],
                proxied=True,
            )
