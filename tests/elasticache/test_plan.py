"""What is done next with a cache, as the plan prints it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.elasticache import plan as actions
from emulation.elasticache.observation import (
    CacheDesired,
    CacheSeen,
    CacheStatus,
    Failover,
    NodeDesired,
    NodeSeen,
    Role,
    Server,
)
from emulation.elasticache.plan import plan_cache
from emulation.elasticache.states import CACHE

OF_A_NODE = (actions.StartNode, actions.RebootNode, actions.Configure, actions.Follow, actions.Serve, actions.DropNode)
NOW = datetime(2024, 1, 1, tzinfo=UTC)
ALONE = CacheDesired(nodes=(NodeDesired("one"),), groups=("sg",))
PAIR = CacheDesired(nodes=(NodeDesired("g-001"), NodeDesired("g-002")), groups=("sg",), endpoints=True)


def running(**more: object) -> NodeSeen:
    return replace(NodeSeen(server=Server.RUNNING, groups=("sg",), started_once=True), **more)  # type: ignore[arg-type]


def available_pair() -> CacheSeen:
    nodes = {
        "g-001": running(roles=frozenset({Role.PRIMARY})),
        "g-002": running(roles=frozenset({Role.READER}), follows="g-001"),
    }
    return CacheSeen(CacheStatus.AVAILABLE, nodes, {0: "g-001"})


def planned(desired: CacheDesired, seen: CacheSeen) -> str:
    return str(plan_cache(desired, seen, NOW))


def with_node(seen: CacheSeen, node_id: str, **changes: object) -> CacheSeen:
    return replace(seen, nodes={**seen.nodes, node_id: replace(seen.node(node_id), **changes)})  # type: ignore[arg-type]


def test_a_new_group_starts_its_primary_first_so_that_replicas_begin_with_its_data() -> None:
    """One start, then the other, then the endpoints, and only then it is available."""
    seen = CacheSeen()
    assert planned(PAIR, seen) == "StartNode g-001 — the node has no server yet"
    seen = CacheSeen(nodes={"g-001": running()}, primaries={0: "g-001"})
    assert planned(PAIR, seen) == "StartNode g-002 g-001 — the node has no server yet"
    seen = with_node(seen, "g-002", server=Server.RUNNING, groups=("sg",), follows="g-001")
    assert planned(PAIR, seen) == (
        "Serve g-001 primary — it is the group's primary\nServe g-002 reader — it is the group's reader"
    )
    assert planned(PAIR, replace(available_pair(), status=CacheStatus.CREATING)) == "Move Created — every node serves"


def test_a_primary_that_has_ended_is_replaced_by_its_replica_before_it_is_started_again() -> None:
    """The replica has the data; the old primary comes back as its replica."""
    seen = with_node(available_pair(), "g-001", server=Server.ENDED, how="killed", roles=frozenset())
    assert planned(PAIR, seen) == "Move Modify — the primary g-001 has ended (killed)"
    seen = replace(seen, status=CacheStatus.MODIFYING)
    assert planned(PAIR, seen) == "Promote g-002 0 — the primary g-001 has ended (killed)"
    seen = replace(with_node(seen, "g-002", follows=""), primaries={0: "g-002"})
    assert planned(PAIR, seen) == (
        "StartNode g-001 g-002 — its server has ended (killed)\n"
        "Serve g-002 primary,reader — it is the group's primary and reader"
    )
    seen = with_node(seen, "g-002", roles=frozenset({Role.PRIMARY, Role.READER}))
    seen = with_node(seen, "g-001", server=Server.RUNNING, follows="g-002")
    assert planned(PAIR, seen) == "Serve g-002 primary — another node has taken over"


def test_a_single_node_that_has_ended_is_started_again_after_its_pause() -> None:
    """A server that ends right after its start is not started again at once: the plan says when."""
    later = NOW + timedelta(seconds=5)
    seen = CacheSeen(CacheStatus.MODIFYING, {"one": running(server=Server.ENDED, how="x", retry_at=later)}, {0: "one"})
    plan = plan_cache(ALONE, seen, NOW)
    assert (str(plan), plan.wake_at) == ("(nothing to do)", later)
    assert str(plan_cache(ALONE, seen, later)) == "StartNode one — its server has ended (x)"


@pytest.mark.parametrize(
    ("asked", "move"),
    [
        ({"reboots": {"g-002": 1}}, "Move Reboot — a reboot was asked for"),
        ({"snapshots": ("s",)}, "Move Snapshot — a snapshot was asked for"),
        ({"failover": Failover(0, 1)}, "Move Modify — a test of the failover was asked for"),
        ({"settings": {"timeout": "20"}}, "Move Modify — changed: timeout"),
        ({"groups": ("sg-2",)}, "Move Modify — changed: security groups"),
        ({"settings": {"databases": "20"}, "boot_settings": frozenset({"databases"})}, "(nothing to do)"),
        ({"nodes": PAIR.nodes[:1]}, "Move Modify — the node is not wanted any more"),
        ({"deleted": True}, "Move Delete — its deletion was asked for"),
    ],
)
def test_what_is_asked_of_an_available_cache_gives_it_the_status_that_aws_shows(
    asked: dict[str, object], move: str
) -> None:
    """And a setting that needs a reboot waits for one."""
    assert planned(replace(PAIR, **asked), available_pair()) == move  # type: ignore[arg-type]


def test_a_deleted_cache_takes_its_final_snapshot_before_it_goes() -> None:
    """And waits for what is under way."""
    desired = replace(PAIR, deleted=True, snapshots=("final",))
    seen = replace(available_pair(), status=CacheStatus.DELETING)
    assert planned(desired, with_node(seen, "g-001", busy=True)) == "(nothing to do)"
    assert planned(desired, seen) == "TakeSnapshot final — it is the final snapshot"
    seen = replace(seen, snapshots=frozenset({"final"}))
    assert planned(desired, seen) == "Release — the cache is deleted"
    assert planned(desired, replace(seen, released=True)) == "Move Released — nothing of the cache is left"


def done(desired: CacheDesired, seen: CacheSeen, action: actions.CacheAction) -> CacheSeen:
    """What the machine would see after a step that succeeds."""
    match action:
        case actions.StartNode(node=node, follows=follows):
            started = replace(seen.node(node), server=Server.RUNNING, settings=desired.settings, groups=desired.groups)
            waits = desired.clustered and not seen.formed
            seen = replace(
                seen, nodes={**seen.nodes, node: replace(started, follows="" if waits else follows, roles=frozenset())}
            )
            shard = next(n.shard for n in desired.nodes if n.node_id == node)
            if not follows and not waits and shard not in seen.primaries:
                seen = replace(seen, primaries={**seen.primaries, shard: node})
        case actions.RebootNode(node=node):
            seen = with_node(seen, node, server=Server.NONE, reboots=desired.reboots[node], roles=frozenset())
        case actions.Configure(node=node):
            seen = with_node(seen, node, settings=desired.settings, groups=desired.groups)
        case actions.Follow(node=node, primary=primary):
            seen = with_node(seen, node, follows=primary)
        case actions.Promote(node=node, shard=shard):
            seen = with_node(seen, node, follows="")
            answered = desired.failover.number if desired.failover and desired.failover.shard == shard else 0
            seen = replace(seen, primaries={**seen.primaries, shard: node}, failover=max(answered, seen.failover))
        case actions.FormCluster():
            firsts: dict[int, str] = {}
            for member in desired.nodes:
                firsts.setdefault(member.shard, member.node_id)
            for member in desired.nodes:
                own = firsts[member.shard]
                seen = with_node(seen, member.node_id, follows="" if own == member.node_id else own)
            seen = replace(seen, formed=True, primaries=firsts)
        case actions.Serve(node=node, roles=roles):
            seen = with_node(seen, node, roles=frozenset(roles))
        case actions.TakeSnapshot(snapshot=name):
            seen = replace(seen, snapshots=seen.snapshots | {name})
        case actions.DropNode(node=node):
            seen = replace(seen, nodes={name: kept for name, kept in seen.nodes.items() if name != node})
        case actions.Move(event=event):
            seen = replace(seen, status=CACHE.next(seen.status, event))
        case actions.Release():
            seen = replace(seen, released=True)
    return seen


@given(
    shards=st.integers(1, 3),
    replicas=st.integers(0, 2),
    clustered=st.booleans(),
    history=st.lists(st.sampled_from(["kill", "reboot", "failover", "shrink", "set", "snapshot"]), max_size=6),
    choices=st.randoms(use_true_random=False),
)
def test_whatever_happens_a_cache_comes_to_rest_with_one_primary_for_each_shard(
    shards: int, replicas: int, clustered: bool, history: list[str], choices: Random
) -> None:
    """Servers die and things are asked at any time; in the end all nodes run, and replicas follow their primary."""
    nodes = tuple(
        NodeDesired(f"{shard}-{number}", shard)
        for shard in range(shards if clustered else 1)
        for number in range(replicas + 1)
    )
    desired, seen = CacheDesired(nodes, groups=("sg",), clustered=clustered, endpoints=True), CacheSeen()
    waiting = list(history)
    for _ in range(400):
        plan = plan_cache(desired, seen, NOW)
        if not plan.actions:
            if not waiting:
                break
            desired, seen = happened(waiting.pop(0), desired, seen, choices)
            continue
        concerned = [action.node for action in plan.actions if isinstance(action, OF_A_NODE)]
        assert len(concerned) == len(set(concerned)), "two steps at once would get into each other's way"
        for action in plan.actions:
            seen = done(desired, seen, action)
            if waiting and choices.random() < 0.1 and seen.status is not CacheStatus.CREATING:
                desired, seen = happened(waiting.pop(0), desired, seen, choices)
                break
    assert seen.status is CacheStatus.AVAILABLE
    assert set(seen.nodes) == {node.node_id for node in desired.nodes}
    for member in desired.nodes:
        primary = seen.primaries[member.shard]
        assert seen.node(member.node_id).server is Server.RUNNING
        assert seen.node(member.node_id).follows == ("" if member.node_id == primary else primary)
    served = [role for node in seen.nodes.values() for role in node.roles]
    assert sorted(served) == ([Role.CONFIGURATION] if clustered else [Role.PRIMARY, Role.READER])


def happened(what: str, desired: CacheDesired, seen: CacheSeen, choices: Random) -> tuple[CacheDesired, CacheSeen]:
    node = choices.choice(sorted(seen.nodes))
    shard = next((n.shard for n in desired.nodes if n.node_id == node), 0)
    if what == "kill" and seen.node(node).server is Server.RUNNING:
        seen = with_node(seen, node, server=Server.ENDED, how="killed", roles=frozenset())
    elif what == "reboot":
        desired = replace(desired, reboots={**desired.reboots, node: seen.node(node).reboots + 1})
    elif what == "failover" and sum(n.shard == shard for n in desired.nodes) > 1:
        desired = replace(desired, failover=Failover(shard, seen.failover + 1))
    elif what == "shrink" and node not in seen.primaries.values():
        desired = replace(desired, nodes=tuple(n for n in desired.nodes if n.node_id != node), failover=None)
    elif what == "set":
        desired = replace(desired, settings={"timeout": str(choices.randrange(20, 99))})
    elif what == "snapshot":
        desired = replace(desired, snapshots=(*desired.snapshots, str(len(desired.snapshots))))
    return desired, seen
