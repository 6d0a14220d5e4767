"""What security groups permit."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.network.base import Rule
from emulation.network.security import HOST, Party, named_ports, permitted

from .fake_plumbing import OUT, Groups, ip, tcp

CLIENT = Party(ip("10.0.1.5"), "vpc-1", ("sg-client",), "eni-client")
SERVER = Party(ip("10.0.1.6"), "vpc-1", ("sg-server",), "eni-server")


def groups(*ingress: Rule, egress: tuple[Rule, ...] = OUT) -> Groups:
    made = Groups(sg_server=ingress, sg_client=())
    made.out["sg-client"] = egress
    return made


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        (tcp(7777), True),
        (tcp(7778), False),
        (Rule("tcp", 7000, 8000, IPv4Network("10.0.1.0/24")), True),
        (Rule("udp", 7777, 7777, IPv4Network("0.0.0.0/0")), False),
        (Rule("-1", 0, 0, IPv4Network("10.0.1.5/32")), True),
        (tcp(7777, "10.0.2.0/24"), False),
        (tcp(7777, "sg-client"), True),
        (tcp(7777, "sg-server"), False),
    ],
)
def test_a_rule_permits_its_protocol_ports_and_peers_only(rule: Rule, answer: bool) -> None:
    """Each part of a rule has to match."""
    assert permitted(CLIENT, SERVER, "tcp", 7777, groups(rule)).permitted is answer


def test_the_source_must_be_allowed_to_leave_too() -> None:
    """Ingress at the destination is not enough when no egress rule of the source matches."""
    decision = permitted(CLIENT, SERVER, "tcp", 7777, groups(tcp(7777), egress=(tcp(443),)))
    assert decision.reason == (
        "no security group of eni-client (sg-client) lets out tcp 7777 to eni-server (10.0.1.6); "
        "allowed: tcp 443 to 0.0.0.0/0"
    )


def test_a_reference_to_a_group_does_not_reach_into_another_vpc() -> None:
    """The same group id seen from another VPC, or from the internet, admits nobody."""
    rules = groups(tcp(7777, "sg-client"))
    for vpc_id in ("vpc-2", None):
        assert not permitted(replace(CLIENT, vpc_id=vpc_id), SERVER, "tcp", 7777, rules).permitted


@pytest.mark.parametrize(
    ("cidr", "answer"),
    [
        ("0.0.0.0/0", True),
        ("127.0.0.0/8", True),
        ("127.0.0.1/32", True),
        ("203.0.113.7/32", False),
        ("10.0.0.0/8", False),
    ],
)
def test_the_host_is_let_in_as_127_0_0_1(cidr: str, answer: bool) -> None:
    """Who opens a port to one office only does not open it to the host."""
    assert permitted(HOST, SERVER, "tcp", 7777, groups(tcp(7777, cidr))).permitted is answer


def test_an_interface_without_groups_or_with_an_unknown_one_lets_nobody_in() -> None:
    """Nothing is permitted by default."""
    for own in ((), ("sg-unknown",)):
        decision = permitted(HOST, replace(SERVER, security_groups=own), "tcp", 7777, groups(tcp(7777)))
        assert not decision.permitted and "allowed: nothing" in decision.reason


def test_only_single_ports_and_short_ranges_are_named() -> None:
    """A rule for all ports is a policy; nobody wants 65,535 listeners for it."""
    rules = groups(
        tcp(22), Rule("tcp", 8000, 8002, IPv4Network("10.0.0.0/8")), Rule("tcp", 0, 65535, IPv4Network("0.0.0.0/0")),
        Rule("udp", 53, 53, IPv4Network("0.0.0.0/0")), Rule("-1", 0, 0, IPv4Network("0.0.0.0/0")),
    )  # fmt: skip
    assert named_ports(["sg-server"], rules) == {22, 8000, 8001, 8002}


IDS = ["sg-a", "sg-b", "sg-c"]
CIDRS = [IPv4Network(text) for text in ("0.0.0.0/0", "127.0.0.0/8", "10.0.0.0/8", "10.0.1.5/32", "10.0.1.6/32")]
rule = st.builds(
    lambda protocol, start, length, peer: Rule(protocol, start, start + length, peer),
    st.sampled_from(["tcp", "udp", "icmp", "-1"]),
    st.integers(1, 5),
    st.integers(0, 3),
    st.sampled_from([*CIDRS, *IDS]),
)
rules = st.lists(rule, max_size=4).map(tuple)
tables = st.fixed_dictionaries(dict.fromkeys(IDS, st.tuples(rules, rules)))
members = st.lists(st.sampled_from(IDS), max_size=3, unique=True).map(tuple)
parties = st.one_of(
    st.just(HOST),
    st.builds(
        Party,
        st.sampled_from([IPv4Address("10.0.1.5"), IPv4Address("10.0.1.6"), IPv4Address("127.0.4.1")]),
        st.sampled_from(["vpc-1", "vpc-2", None]),
        st.one_of(st.none(), members),
    ),
)
ports = st.integers(1, 8)
Table = dict[str, tuple[tuple[Rule, ...], tuple[Rule, ...]]]


class TableGroups:
    def __init__(self, table: Table) -> None:
        self.table = table

    def ingress(self, group_id: str) -> tuple[Rule, ...]:
        return self.table[group_id][0]

    def egress(self, group_id: str) -> tuple[Rule, ...]:
        return self.table[group_id][1]


@given(tables, parties, parties, ports, st.sampled_from(IDS), rule, st.booleans())
def test_adding_a_rule_never_denies_what_was_permitted(
    table: Table, source: Party, destination: Party, port: int, group_id: str, added: Rule, inward: bool
) -> None:
    """Rules only permit."""
    before = permitted(source, destination, "tcp", port, TableGroups(table)).permitted
    ingress, egress = table[group_id]
    wider = {**table, group_id: ((*ingress, added), egress) if inward else (ingress, (*egress, added))}
    assert permitted(source, destination, "tcp", port, TableGroups(wider)).permitted >= before


@given(tables, parties, parties, ports)
def test_the_order_of_groups_and_rules_does_not_matter(
    table: Table, source: Party, destination: Party, port: int
) -> None:
    """The decision, reasons included for groups, is that of the sets."""

    def turned(party: Party) -> Party:
        return replace(party, security_groups=party.security_groups and party.security_groups[::-1])

    backwards = {group_id: (ingress[::-1], egress[::-1]) for group_id, (ingress, egress) in table.items()}
    decision = permitted(source, destination, "tcp", port, TableGroups(table))
    assert permitted(turned(source), turned(destination), "tcp", port, TableGroups(table)) == decision
    assert permitted(source, destination, "tcp", port, TableGroups(backwards)).permitted == decision.permitted


@given(tables, parties, parties, ports)
def test_joining_a_group_never_denies_what_was_permitted(
    table: Table, source: Party, destination: Party, port: int
) -> None:
    """More groups on a side that has groups permit at least as much."""
    before = permitted(source, destination, "tcp", port, TableGroups(table)).permitted
    for wider_source, wider_destination in ((_in_all(source), destination), (source, _in_all(destination))):
        assert permitted(wider_source, wider_destination, "tcp", port, TableGroups(table)).permitted >= before


@given(tables, parties, parties, ports)
def test_a_denial_always_has_a_reason_and_a_permission_none(
    table: Table, source: Party, destination: Party, port: int
) -> None:
    """`sunabox why` can always say why."""
    decision = permitted(source, destination, "tcp", port, TableGroups(table))
    assert decision.permitted == (decision.reason == "")


def _in_all(party: Party) -> Party:
    return replace(party, security_groups=tuple(IDS) if party.security_groups is not None else None)
