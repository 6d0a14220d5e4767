"""The network between tasks, the host and what lives on it.

Theory of operation
-------------------
Everything is closed to begin with. For each attached interface `_wanted` says what should be open (pure: interfaces,
destinations and security groups in, addresses out), and `Attachment.apply` opens and closes the difference:

- *outlets*: listeners inside the task's namespaces, one for each address and port that it may reach: all destinations
  of its VPC, the declared ports of its first peers, and whatever it tried to reach and may (`Plumbing.watch` reports
  the attempt, the repeated SYN then finds the listener);
- *published ports*: listeners on the interface's public address on the host; a denied one stays bound but mute.

A connection is decided once more when it arrives, then dialled and spliced inside the task. Established connections
outlive a change of rules. Private addresses mean something only together with their VPC.

Emulation: a connection is accepted before the program behind it is asked, so a port that nobody listens on shows as
"connection reset" right after connecting instead of "connection refused".
Emulation: between public addresses, programs see the internet as 203.0.113.1, whoever it is.
Emulation: there is no way out to the real internet, route tables, network ACLs and peering decide nothing, and only TCP
is carried. The host does not reach private addresses.
Emulation: inside a task of the process runtime 127.0.0.0/8 is the task's own, so public addresses of other tasks are
not reached from there; use the private ones.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice

from emulation.clock import Clock
from emulation.errors import SunaboxError
from emulation.network.addresses import LOOPBACK, PublicAddresses
from emulation.network.attachment import Address, Attachment, Wanted, connect, introduce, without_delay
from emulation.network.base import Interface, Listening, Plumbing, SecurityGroups
from emulation.network.destination import Denial, Destination
from emulation.network.listener import reset
from emulation.network.reach import Reach, Reaches
from emulation.network.security import (
    HOST,
    Decision,
    Party,
    named_ports,
    permitted,
    private_party,
    public_party,
)

log = logging.getLogger(__name__)

INTERNET = IPv4Address("203.0.113.1")
"""The peer address that programs see of connections to a public address (TEST-NET-3 of RFC 5737)."""

AHEAD = 8
"""So many ports of peers are opened in a task before it asks. More would cost a descriptor for each pair of tasks."""

CONSIDERED = 64
"""Only the first peers of a VPC are opened ahead, so that a task costs the same however many there are."""

KEPT_DENIALS = 1000


@dataclass(frozen=True, slots=True)
class Route:
    """Where a connection from a task to an address leads, and how both sides look to security groups."""

    source: Party
    destination: Party
    to: Destination | Attachment
    seen_as: IPv4Address


class Network:
    """All interfaces and destinations of one emulator. To be used on the event loop only."""

    def __init__(self, security_groups: SecurityGroups, clock: Clock, addresses: PublicAddresses | None = None) -> None:
        self._groups, self._clock = security_groups, clock
        self._addresses = addresses or PublicAddresses()
        self._attachments: dict[str, Attachment] = {}
        self._vpcs: dict[str, dict[IPv4Address, Attachment]] = {}
        self._public: dict[IPv4Address, Attachment] = {}
        self._destinations: dict[tuple[str | None, IPv4Address, int], Destination] = {}
        self._guarded: dict[Address, tuple[Destination, Callable[[bool], None]]] = {}
        self._reaches = Reaches(lambda vpc_id, ip: self._vpcs.get(vpc_id, {}).get(ip), security_groups)
        self._denials: deque[Denial] = deque(maxlen=KEPT_DENIALS)
        self._refreshing: asyncio.Task[None] | None = None

    # Public addresses

    def allocate_public_address(self, wish: IPv4Address | None = None) -> IPv4Address:
        """A loopback address of the host that nobody else uses; `wish` if that is free. Raises NoAddressLeft."""
        return self._addresses.allocate(wish)

    def release_public_address(self, ip: IPv4Address) -> None:
        self._addresses.release(ip)

    def published_port(self, port: int) -> int:
        """The host's port for `port` of any public address: 8000 + port where this user may not listen on it."""
        return self._addresses.published_port(port)

    def published_endpoint(self, ip: IPv4Address, port: int) -> tuple[str, int] | None:
        """Where the host really connects for `port` of an attached public address; None when it is not served."""
        attachment = self._public.get(ip)
        listener = attachment.published.get(port) if attachment else None
        return listener.address if listener else None

    # Interfaces

    async def attach(self, interface: Interface, plumbing: Plumbing, ports: Collection[int]) -> None:
        """Connects a running task. On return, destinations are open in it, and its ports to the host; peers soon after.

        Raises PortInUse when a declared port is taken on its public address, and what the plumbing raises; nothing
        is left of it then.
        """
        if interface.eni_id in self._attachments:
            raise ValueError(f"{interface.eni_id} is attached already")
        attachment = Attachment(interface, plumbing, ports, self._from_task, self._from_host, self._host_endpoint)
        peers = self._vpcs.setdefault(interface.vpc_id, {})
        self._attachments[interface.eni_id] = peers[interface.private_ip] = attachment
        if interface.public_ip is not None:
            self._public[interface.public_ip] = attachment
        try:
            plumbing.watch(lambda ip, port: self._attempted(attachment, ip, port))
            await self._sync(attachment, first=True)
        except BaseException:
            await self.detach(interface.eni_id)
            raise
        self._reaches.decide(interface.private_ip)
        if len(peers) <= CONSIDERED:
            for peer in peers.values():
                if peer is not attachment and any(self._ahead(peer, attachment)):
                    self._sync_soon(peer)
        if len(peers) > 1:
            self._sync_soon(attachment)

    async def detach(self, eni_id: str) -> None:
        """Disconnects a task; its public address stays allocated. Harmless when it is not attached."""
        attachment = self._attachments.pop(eni_id, None)
        if attachment is None:
            return
        interface = attachment.interface
        peers = self._vpcs[interface.vpc_id]
        if peers.get(interface.private_ip) is attachment:
            del peers[interface.private_ip]
        if not peers:
            del self._vpcs[interface.vpc_id]
        if interface.public_ip is not None and self._public.get(interface.public_ip) is attachment:
            del self._public[interface.public_ip]
        self._reaches.decide(interface.private_ip)
        await attachment.close()
        gone = {interface.private_ip, interface.public_ip}
        for other in self._attachments.values():
            same_vpc = other.interface.vpc_id == interface.vpc_id
            if any(ip in gone and (same_vpc or ip == interface.public_ip) for ip, _ in other.outlets):
                self._sync_soon(other)

    # Destinations

    async def announce(self, destination: Destination) -> None:
        """Makes something that is served on the host reachable in all present and future tasks of its VPC."""
        self._destinations[destination.vpc_id, destination.ip, destination.port] = destination
        await self._sync_vpc(destination.vpc_id)

    async def withdraw(self, destination: Destination) -> None:
        """Takes it back; established connections live on. Harmless when it was not announced."""
        if self._destinations.pop((destination.vpc_id, destination.ip, destination.port), None) is not None:
            await self._sync_vpc(destination.vpc_id)

    def guard(self, destination: Destination, admit: Callable[[bool], None]) -> None:
        """Tells `admit` whether the host may reach a destination's ip:port, now and whenever security groups change."""
        self._guarded[destination.ip, destination.port] = destination, admit
        self._admit(destination, admit)

    def unguard(self, destination: Destination) -> None:
        """Harmless when it was not guarded."""
        self._guarded.pop((destination.ip, destination.port), None)

    def _admit(self, destination: Destination, admit: Callable[[bool], None]) -> None:
        party = destination.party(destination.vpc_id or "")
        decision = permitted(HOST, party, "tcp", destination.port, self._groups)
        if not decision.permitted:
            log.info("The host does not reach %s:%d: %s", destination.ip, destination.port, decision.reason)
        admit(decision.permitted)

    def reach(self, source: Party, ip: IPv4Address, port: int) -> Reach:
        """A way from the host to ip:port of the source's VPC, as the source would go it. Nothing need be there yet."""
        return self._reaches.open(source, ip, port)

    async def refresh(self) -> None:
        """To be called when security groups have changed: opens what became permitted, closes what became denied."""
        for attachment in self._attachments.values():
            attachment.reported.clear()
        for destination, admit in list(self._guarded.values()):
            self._admit(destination, admit)
        self._reaches.decide()
        await self._sync_vpc(None)

    def refresh_soon(self) -> None:
        """The same without waiting. However many rules change at once, they are applied together."""
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh_together())

    async def _refresh_together(self) -> None:
        with self._clock.working("security groups are applied"):
            self._refreshing = None
            await self.refresh()

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        for eni_id in list(self._attachments):
            await self.detach(eni_id)
        self._destinations.clear()
        self._guarded.clear()
        self._reaches.close()
        self._addresses.close()

    # What was denied

    @property
    def denials(self) -> deque[Denial]:
        """The last denied connections, oldest first.

        Attempts of tasks are recorded when they happen, those of the host and those to addresses of 127.0.0.0/8 when
        somebody looks here: the kernel drops the packets, and only counts them.
        """
        for attachment in self._attachments.values():
            for port, decision in attachment.denied.items():
                if attachment.published[port].tries():
                    self._deny(attachment, HOST.name, attachment.interface.public_ip or LOOPBACK, port, decision.reason)
            for (ip, port), decision in attachment.silent.items():
                if (listener := attachment.outlets.get((ip, port))) is not None and listener.tries():
                    self._deny(attachment, str(private_party(attachment.interface)), ip, port, decision.reason)
        for reach, reason in self._reaches.denied():
            self._record(Denial(self._clock.now(), str(reach.source), reach.ip, reach.port, reason))
        return self._denials

    def _deny(self, about: Attachment, source: str, ip: IPv4Address, port: int, reason: str) -> None:
        if about.first_report((ip, port), reason):
            self._record(Denial(self._clock.now(), source, ip, port, reason))

    def _record(self, denial: Denial) -> None:
        self._denials.append(denial)
        log.info("%s", denial)

    async def listening(self, eni_id: str) -> Listening | None:
        """On which ports the programs of a task listen; None where it is not attached, or nobody can tell."""
        attachment = self._attachments.get(eni_id)
        return None if attachment is None else await attachment.plumbing.listening()

    def interface(self, eni_id: str) -> Interface | None:
        """An attached interface."""
        attachment = self._attachments.get(eni_id)
        return None if attachment is None else attachment.interface

    def interface_at(self, vpc_id: str, private_ip: str) -> Interface | None:
        """The attached interface that has an address in a VPC."""
        attachment = self._vpcs.get(vpc_id, {}).get(IPv4Address(private_ip)) if private_ip else None
        return None if attachment is None else attachment.interface

    # Decisions

    def _route(self, attachment: Attachment, ip: IPv4Address, port: int) -> Route | None:
        interface = attachment.interface
        source = private_party(interface)
        destination = self._destinations.get((interface.vpc_id, ip, port)) or self._destinations.get((None, ip, port))
        if destination is not None:
            return Route(source, destination.party(interface.vpc_id), destination, interface.private_ip)
        peer = self._vpcs.get(interface.vpc_id, {}).get(ip)
        if peer is not None:
            return Route(source, private_party(peer.interface), peer, interface.private_ip)
        peer = self._public.get(ip)
        if peer is not None:
            return Route(public_party(interface), public_party(peer.interface), peer, INTERNET)
        return None

    def _decide(self, attachment: Attachment, ip: IPv4Address, port: int) -> tuple[Route | None, Decision]:
        route = self._route(attachment, ip, port)
        if route is None:
            vpc_id = attachment.interface.vpc_id
            return None, Decision(False, f"nothing in {vpc_id} serves {ip}:{port}, and no way leads to the internet")
        return route, permitted(route.source, route.destination, "tcp", port, self._groups)

    def _ahead(self, attachment: Attachment, peer: Attachment) -> Iterator[Address]:
        """The declared ports of a peer that the task may reach."""
        ip = peer.interface.private_ip
        return ((ip, port) for port in sorted(peer.ports) if self._decide(attachment, ip, port)[1].permitted)

    def _wanted(self, attachment: Attachment, *, ahead: int = AHEAD) -> Wanted:
        interface = attachment.interface
        destinations = [d for d in self._destinations.values() if d.vpc_id in (None, interface.vpc_id)]
        # On the task's own loopback device, a listener of ours would take the port from a program on 0.0.0.0.
        # Emulation: so a task that declares the port reaches such a destination by its name or private address only.
        outlets = {(d.ip, d.port) for d in destinations if not (d.ip.is_loopback and d.port in attachment.ports)}
        outlets |= set(attachment.demanded)
        decisions = {address: self._decide(attachment, *address)[1] for address in outlets}
        open_outlets = {address for address, decision in decisions.items() if decision.permitted}
        silent = {a: decision for a, decision in decisions.items() if a[0].is_loopback and not decision.permitted}
        peers = [peer for peer in self._vpcs.get(interface.vpc_id, {}).values() if peer is not attachment]
        declared = (address for peer in islice(peers, CONSIDERED) for address in self._ahead(attachment, peer))
        open_outlets.update(islice(declared, ahead))
        published: dict[int, Decision] = {}
        if interface.public_ip is not None:
            own = private_party(interface)
            for port in sorted(attachment.ports | named_ports(interface.security_groups, self._groups)):
                published[port] = permitted(HOST, own, "tcp", port, self._groups)
        names = {name: d.ip for d in destinations for name in d.names}
        return Wanted(frozenset(open_outlets), silent, published, names)

    def _host_endpoint(self, ip: IPv4Address, port: int) -> Address:
        if self._addresses.own_addresses:
            return ip, self._addresses.published_port(port)
        return LOOPBACK, 0

    # Keeping what is open equal to what is wanted

    async def _sync(self, attachment: Attachment, *, first: bool = False) -> None:
        """The first time, what cannot be opened raises, and nothing is opened for peers yet: starts should be quick."""
        async with attachment.lock:
            attachment.sync_pending = False
            if not attachment.closed:
                try:
                    await attachment.apply(self._wanted(attachment, ahead=0 if first else AHEAD), strict=first)
                except (OSError, SunaboxError) as error:
                    if first:
                        raise
                    log.warning("The network of %s could not be changed: %s", attachment.interface.eni_id, error)

    def _sync_soon(self, attachment: Attachment) -> None:
        if not attachment.sync_pending:
            attachment.sync_pending = True
            attachment.spawn(self._sync(attachment))

    async def _sync_vpc(self, vpc_id: str | None) -> None:
        """Every VPC when None."""
        concerned = [a for a in self._attachments.values() if vpc_id in (None, a.interface.vpc_id)]
        await asyncio.gather(*(self._sync(attachment) for attachment in concerned))

    # Connections

    def _attempted(self, attachment: Attachment, ip: IPv4Address, port: int) -> None:
        """A task sent a SYN to an address that is not open."""
        if attachment.closed or (ip, port) in attachment.outlets:
            return
        _, decision = self._decide(attachment, ip, port)
        if decision.permitted:
            attachment.demand((ip, port))
            self._sync_soon(attachment)
        else:
            self._deny(attachment, str(private_party(attachment.interface)), ip, port, decision.reason)

    async def _from_task(self, attachment: Attachment, address: Address, client: socket.socket) -> None:
        ip, port = address
        try:
            route, decision = self._decide(attachment, ip, port)
            if route is None or not decision.permitted:
                raise ConnectionRefusedError(decision.reason)
            if isinstance(route.to, Destination):
                upstream = await connect(*route.to.upstream)
                if route.to.proxied:
                    await introduce(upstream, route.seen_as, (ip, port))
            else:
                upstream = await route.to.plumbing.dial(port, route.seen_as)
        except BaseException as error:
            self._refuse(client, attachment, f"{ip}:{port}", error)
            return
        self._splice(attachment, client, upstream)

    async def _from_host(self, attachment: Attachment, port: int, client: socket.socket) -> None:
        try:
            decision = permitted(HOST, private_party(attachment.interface), "tcp", port, self._groups)
            if not decision.permitted:
                raise ConnectionRefusedError(decision.reason)
            upstream = await attachment.plumbing.dial(port, INTERNET)
        except BaseException as error:
            self._refuse(client, attachment, f"its port {port}", error)
            return
        self._splice(attachment, client, upstream)

    @staticmethod
    def _splice(attachment: Attachment, client: socket.socket, upstream: socket.socket) -> None:
        without_delay(client, upstream)
        try:
            attachment.plumbing.splice(client, upstream)
        except (OSError, SunaboxError) as error:
            log.debug("A connection of %s ended with its task: %s", attachment.interface.eni_id, error)
            reset(client)
            reset(upstream)

    @staticmethod
    def _refuse(client: socket.socket, attachment: Attachment, what: str, error: BaseException) -> None:
        """Resets the client; what is no ordinary refusal (a cancellation, a defect) goes on its way."""
        reset(client)
        if not isinstance(error, (OSError, SunaboxError)):
            raise error
        log.debug("A connection from or to %s was reset: %s: %s", attachment.interface.eni_id, what, error)
