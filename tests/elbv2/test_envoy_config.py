"""What is rendered for Envoy: the same for the same records, and no more changed than has to be."""

import json
from datetime import timedelta
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from emulation.elbv2.envoy_config import render
from emulation.elbv2.records import Condition, Forward, Listener, LoadBalancer, Rule, TargetGroup

PREFIX = "arn:aws:elasticloadbalancing:us-east-1:123456789012:"
GROUPS = {f"{PREFIX}targetgroup/g/{n}": TargetGroup(f"{PREFIX}targetgroup/g/{n}", "vpc-1") for n in range(3)}
PORTS = st.sets(st.tuples(st.just("127.0.0.1"), st.integers(1, 65535)), max_size=4)


def balancer(name: str, *groups: str) -> LoadBalancer:
    arn = f"{PREFIX}loadbalancer/app/{name}/{name}"
    rules = tuple(Rule(Forward(((group, 1),)), (Condition("path-pattern", (f"/{group[-1]}",)),)) for group in groups)
    listener = Listener(f"{PREFIX}listener/app/{name}/{name}/{name}l", 80, 80, (*rules, Rule(Forward(()))))
    address = IPv4Address("127.0.4.1")
    return LoadBalancer(arn, "vpc-1", str(address), (IPv4Address("10.0.0.9"),), address, listeners=(listener,))


@given(st.permutations(["a", "b", "c"]), st.dictionaries(st.sampled_from(sorted(GROUPS)), PORTS))
def test_the_order_of_records_does_not_matter(order: list[str], serving: dict[str, set[tuple[str, int]]]) -> None:
    """Nothing is written anew, and no connection is touched, because a dictionary has another order."""
    made = [balancer(name, *GROUPS) for name in order]
    first = render(sorted(made, key=lambda one: one.arn), GROUPS, serving)
    second = render(made, dict(reversed(GROUPS.items())), serving)
    assert first == second
    assert json.dumps(first.listeners) == json.dumps(second.listeners)


@given(PORTS, PORTS)
def test_targets_come_and_go_in_their_own_file_alone(before: set[tuple[str, int]], after: set[tuple[str, int]]) -> None:
    """Listeners, routes and clusters stay what they are when a target is registered, fails or drains."""
    arn = min(GROUPS)
    one, two = (render([balancer("a", arn)], GROUPS, {arn: targets}) for targets in (before, after))
    assert (one.listeners, one.routes, one.clusters) == (two.listeners, two.routes, two.clusters)
    assert (one.targets == two.targets) is (before == after)


def test_rules_change_in_their_own_file_alone() -> None:
    """A new rule, or a new weight, does not make the listener drain its connections."""
    one, two = (render([balancer("a", *groups)], GROUPS, {}) for groups in (sorted(GROUPS)[:1], sorted(GROUPS)[:2]))
    assert one.listeners == two.listeners
    assert one.routes != two.routes


def test_a_forward_to_nothing_answers_503() -> None:
    """A group that is gone, or weights of zero: there is nobody to send the request to."""
    arn = min(GROUPS)
    (listener,) = balancer("a").listeners
    (routes,) = render([balancer("a")], GROUPS, {}).routes.values()
    default = routes["resources"][0]["virtual_hosts"][0]["routes"][-1]
    assert default["direct_response"]["status"] == 503
    sticky = TargetGroup(arn, "vpc-1", sticky_for=timedelta(seconds=1))
    assert (
        render([balancer("a", arn)], {arn: sticky}, {}).listeners != render([balancer("a", arn)], GROUPS, {}).listeners
    )
    assert listener.target_groups == frozenset()
