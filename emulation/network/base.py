"""The words that runtimes, services and the network share: interfaces, security group rules, and a task's plumbing."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Interface:
    """An elastic network interface. Private addresses are unique within a VPC only, public ones on the whole machine.

    `gateway` is the subnet's first address (the VPC router). A public address is one of the host's 127.0.0.0/8.
    """

    eni_id: str
    vpc_id: str
    private_ip: IPv4Address
    gateway: IPv4Address
    security_groups: tuple[str, ...] = ()
    public_ip: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission of a security group, in one direction.

    `protocol` is "tcp", "udp", "icmp" or "-1" (all). The other side is a range of addresses or a security group.
    """

    protocol: str
    from_port: int
    to_port: int
    peer: IPv4Network | str


class SecurityGroups(Protocol):
    """Where security groups are kept. Group ids are unique on the whole machine. An unknown group permits nothing."""

    def ingress(self, group_id: str) -> tuple[Rule, ...]: ...

    def egress(self, group_id: str) -> tuple[Rule, ...]: ...


@dataclass(frozen=True, slots=True)
class Listening:
    """TCP ports on which a task's programs accept connections: from elsewhere, and (others) from the task alone."""

    everywhere: frozenset[int]
    loopback: frozenset[int]


Attempt = Callable[[IPv4Address, int], None]
"""Told of a connection that the task tries to open to an address and port that nothing was opened for yet."""


class Plumbing(Protocol):
    """What a runtime gives the network of one running task: sockets inside its namespaces, and its packet rules.

    Everything is closed to begin with: a packet to an address that was not opened gets no answer, as on AWS.
    """

    async def listen(self, address: IPv4Address, port: int) -> socket.socket:
        """A listening, non-blocking TCP socket that accepts what the task's containers connect to address:port."""
        ...

    async def open_egress(self, address: IPv4Address, port: int) -> None:
        """Packets of the task to address:port are delivered to the listener from now on. Idempotent."""
        ...

    async def close_egress(self, address: IPv4Address, port: int) -> None:
        """New connections get no answer from now on; established ones live on. Idempotent."""
        ...

    async def dial(self, port: int, source: IPv4Address) -> socket.socket:
        """A connection to one of the task's ports, which the program sees as coming from `source`.

        Raises ConnectionRefusedError where nothing listens there, TimeoutError after 5 s.
        """
        ...

    async def listening(self) -> Listening | None:
        """On which ports the task's programs listen; None where nobody can tell."""
        ...

    def splice(self, one: socket.socket, other: socket.socket) -> None:
        """Takes both sockets and moves bytes between them until both directions are closed."""
        ...

    def watch(self, attempt: Attempt) -> None:
        """Reports connections that are tried and were not opened (each TCP SYN that gets no answer)."""
        ...

    async def set_names(self, names: Mapping[str, IPv4Address]) -> None:
        """Replaces the names that resolve inside the task (beyond localhost and its own)."""
        ...
