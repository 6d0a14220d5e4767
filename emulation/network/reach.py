"""Ways from the host to one port of an interface, taken in the name of somebody inside of its VPC.

A load balancer's data plane runs on the host. What it sends to a target has to look, to security groups and to the
target, as if it came from the load balancer's own interface. For each target there is a listener on the host's loopback
device; a connection to it is decided, dialled and spliced like one between two tasks. What security groups deny, and an
address where nothing is, give no answer.

Emulation: whoever is on this machine can connect to such a listener; on AWS nobody but the load balancer is there.
"""

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from emulation.errors import SunaboxError
from emulation.network.addresses import LOOPBACK
from emulation.network.attachment import Attachment, without_delay
from emulation.network.base import SecurityGroups
from emulation.network.listener import Listener, bind_listener, reset
from emulation.network.security import Decision, Party, permitted, private_party

Find = Callable[[str, IPv4Address], Attachment | None]
"""The interface of a VPC that has an address."""


class Reach:
    """Lives until `close`. `address` is where the host connects."""

    def __init__(self, reaches: "Reaches", source: Party, ip: IPv4Address, port: int) -> None:
        self.source, self.ip, self.port = source, ip, port
        self._reaches = reaches
        self._listener = Listener(bind_listener(LOOPBACK, 0), lambda client, _: self._take(client), open=False)
        self.address: tuple[str, int] = self._listener.address
        self._reported = ""

    def come_from(self, source: Party) -> None:
        """The source is another from now on, or has other security groups."""
        self.source = source
        self.decide()

    def decide(self) -> None:
        """Answers from now on, or does not, by what is there and what security groups say."""
        self._reported = ""
        self._listener.permit() if self._decision()[1].permitted else self._listener.deny()

    def denied(self) -> str:
        """Why connections were left without an answer since it was asked last; '' where none was, or that is known."""
        tries, reason = self._listener.tries(), self._decision()[1].reason
        if not tries or reason == self._reported:
            return ""
        self._reported = reason
        return reason

    def close(self) -> None:
        """New connections are refused; established ones live on. Harmless twice."""
        self._reaches.forget(self)
        self._listener.close()

    def _decision(self) -> tuple[Attachment | None, Decision]:
        return self._reaches.decision(self.source, self.ip, self.port)

    def _take(self, client: socket.socket) -> None:
        attachment, decision = self._decision()
        if attachment is None or not decision.permitted:
            reset(client)
        else:
            attachment.take(self._splice(attachment, client), client)

    async def _splice(self, attachment: Attachment, client: socket.socket) -> None:
        upstream: socket.socket | None = None
        try:
            upstream = await attachment.plumbing.dial(self.port, self.source.address)
            without_delay(client, upstream)
            attachment.plumbing.splice(client, upstream)
        except BaseException as error:
            reset(client)
            if upstream is not None:
                reset(upstream)
            if not isinstance(error, (OSError, SunaboxError)):
                raise


class Reaches:
    """All of a network. To be used on the event loop only."""

    def __init__(self, find: Find, groups: SecurityGroups) -> None:
        self._find, self._groups = find, groups
        self._open: set[Reach] = set()

    def open(self, source: Party, ip: IPv4Address, port: int) -> Reach:
        reach = Reach(self, source, ip, port)
        self._open.add(reach)
        reach.decide()
        return reach

    def decide(self, ip: IPv4Address | None = None) -> None:
        """To be called when an interface with that address came or went, or when security groups changed."""
        for reach in self._open:
            if ip in (None, reach.ip):
                reach.decide()

    def decision(self, source: Party, ip: IPv4Address, port: int) -> tuple[Attachment | None, Decision]:
        attachment = self._find(source.vpc_id or "", ip)
        if attachment is None or attachment.closed:
            return None, Decision(False, f"nothing in {source.vpc_id} has the address {ip}")
        return attachment, permitted(source, private_party(attachment.interface), "tcp", port, self._groups)

    def denied(self) -> Iterator[tuple[Reach, str]]:
        """Those that gave no answer since it was asked last, and why."""
        return ((reach, reason) for reach in self._open if (reason := reach.denied()))

    def forget(self, reach: Reach) -> None:
        self._open.discard(reach)

    def close(self) -> None:
        for reach in tuple(self._open):
            reach.close()
