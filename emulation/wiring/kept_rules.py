"""Rules of security groups as databases and caches keep them, for an emulator that knows the groups no more."""

from collections.abc import Sequence
from ipaddress import IPv4Network

from emulation.ec2.groups import SecurityGroupTable
from emulation.network.base import Rule

KeptRule = tuple[str, str, int, int, str]
"""The group, the protocol, the first and last port, and the peer: a range of addresses or a group."""


def kept_rules(table: SecurityGroupTable, groups: Sequence[str]) -> tuple[KeptRule, ...]:
    return tuple(
        (group, rule.protocol, rule.from_port, rule.to_port, str(rule.peer))
        for group in groups
        for rule in table.ingress(group)
    )


def bring_back(table: SecurityGroupTable, groups: Sequence[str], rules: Sequence[KeptRule]) -> None:
    """Gives groups the rules that were kept, where EC2's record of them went with an earlier emulator."""
    for group in groups:
        if not table.ingress(group):
            table.put(group, tuple(_rule(kept) for kept in rules if kept[0] == group), ())


def _rule(kept: KeptRule) -> Rule:
    _, protocol, from_port, to_port, peer = kept
    return Rule(protocol, from_port, to_port, IPv4Network(peer) if "/" in peer else peer)
