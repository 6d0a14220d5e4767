"""Security groups decide on every connection. Pure: parties and rules in, a decision and its reason in words out.

The egress rules of the source and the ingress rules of the destination must both permit a connection; within one side,
one rule of one group is enough. Answers always pass (security groups are stateful), so only who connects counts.

Source: Control traffic to your AWS resources using security groups; Security group rules; Security group referencing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from emulation.network.base import Interface, Rule, SecurityGroups

LINK_LOCAL = IPv4Network("169.254.0.0/16")

HOST_ADDRESS = IPv4Address("127.0.0.1")
"""What security groups know the host by. Rules for 0.0.0.0/0, 127.0.0.0/8 and 127.0.0.1/32 admit it, no others."""

SHORT_RANGE = 64
"""A rule that opens at most so many ports names them; a longer range is a policy, and no port is listened on for it."""


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a connection, as security groups see it.

    `security_groups` None means that none apply (the host, a service address); an empty tuple permits nothing. A party
    is seen by its groups only from its own VPC; `vpc_id` None is the internet.
    """

    address: IPv4Address
    vpc_id: str | None = None
    security_groups: tuple[str, ...] | None = None
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.name else str(self.address)


HOST = Party(HOST_ADDRESS, name="the host")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a connection may be opened; `reason` says why not, for people."""

    permitted: bool
    reason: str = ""


PERMITTED = Decision(True)


def private_party(interface: Interface) -> Party:
    """The interface as the other interfaces of its VPC see it."""
    return Party(interface.private_ip, interface.vpc_id, interface.security_groups, interface.eni_id)


def public_party(interface: Interface) -> Party:
    """The interface as the internet sees it: by its public address, and not by its security groups.

    It is still its own groups that decide what may leave or enter it (see `permitted`), so they stay in the value.
    """
    return Party(interface.public_ip or HOST_ADDRESS, None, interface.security_groups, interface.eni_id)


def permitted(source: Party, destination: Party, protocol: str, port: int, groups: SecurityGroups) -> Decision:
    """Decides whether `source` may open a connection to `port` of `destination`. `protocol` is "tcp" or "udp"."""
    if destination.address in LINK_LOCAL:
        # Source: Control traffic …: security groups do not filter the metadata, DNS and task endpoints.
        return PERMITTED
    if source.security_groups is not None:
        rules = _rules(source.security_groups, groups.egress)
        if not any(_matches(rule, source, destination, protocol, port) for rule in rules):
            return Decision(False, _sentence(source, "lets out", protocol, port, "to", destination, rules))
    if destination.security_groups is not None:
        rules = _rules(destination.security_groups, groups.ingress)
        if not any(_matches(rule, destination, source, protocol, port) for rule in rules):
            return Decision(False, _sentence(destination, "allows", protocol, port, "from", source, rules))
    return PERMITTED


def named_ports(group_ids: Iterable[str], groups: SecurityGroups) -> frozenset[int]:
    """The TCP ports that the groups open one by one or in short ranges: what somebody means to listen on."""
    return frozenset(
        port
        for rule in _rules(group_ids, groups.ingress)
        if rule.protocol == "tcp" and 0 <= rule.to_port - rule.from_port < SHORT_RANGE
        for port in range(max(rule.from_port, 1), min(rule.to_port, 65535) + 1)
    )


def _rules(group_ids: Iterable[str], of: Callable[[str], tuple[Rule, ...]]) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys(rule for group_id in sorted(set(group_ids)) for rule in of(group_id)))


def _matches(rule: Rule, own: Party, other: Party, protocol: str, port: int) -> bool:
    """Whether a rule of one of `own`'s groups speaks of `other`."""
    if rule.protocol != "-1" and not (rule.protocol == protocol and rule.from_port <= port <= rule.to_port):
        return False
    if isinstance(rule.peer, IPv4Network):
        return other.address in rule.peer
    return own.vpc_id is not None and own.vpc_id == other.vpc_id and rule.peer in (other.security_groups or ())


def _sentence(
    own: Party, verb: str, protocol: str, port: int, preposition: str, other: Party, rules: tuple[Rule, ...]
) -> str:
    allowed = ", ".join(_words(rule, preposition) for rule in rules) or "nothing"
    groups = ", ".join(sorted(own.security_groups or ())) or "it has none"
    return (
        f"no security group of {own.name or own.address} ({groups}) {verb} {protocol} {port} {preposition} {other}; "
        f"allowed: {allowed}"
    )


def _words(rule: Rule, preposition: str) -> str:
    if rule.protocol == "-1":
        return f"all {preposition} {rule.peer}"
    ports = str(rule.from_port) if rule.from_port == rule.to_port else f"{rule.from_port}-{rule.to_port}"
    return f"{rule.protocol} {ports} {preposition} {rule.peer}"
