"""What to do next with a cache. Pure: values in, a plan out.

Theory of operation. One function, `_steps`, says what separates the cache from what it should be: servers that are
missing, have ended or are to be rebooted, replicas that follow the wrong primary, settings, endpoints. The statuses
only tell people why it is being done: a new cache is creating until nothing separates it any more, an available one
becomes modifying, rebooting or snapshotting for as long as there are steps. Slow steps run beside the loop; a node with
a step under way gets no other one.

A primary that has ended is replaced by a replica of its shard, which has the data; alone, it comes back empty. So does
a node that is rebooted without a replica to take over.

Source: Rebooting nodes; Minimizing downtime with Multi-AZ; Failover; Mitigating node failures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from emulation.core.plan import Action, Plan
from emulation.elasticache import states
from emulation.elasticache.observation import CacheDesired, CacheSeen, CacheStatus, NodeDesired, NodeSeen, Role, Server


@dataclass(frozen=True)
class StartNode(Action):
    """Starts the node's server; `follows` is the node that it replicates, '' for a primary."""

    node: str
    follows: str
    cause: str


@dataclass(frozen=True)
class RebootNode(Action):
    """Ends the node's server, with its data; the next plan starts it again."""

    node: str
    cause: str


@dataclass(frozen=True)
class Configure(Action):
    """Gives the node's server the desired settings, those that need a reboot excepted, and its security groups."""

    node: str
    cause: str


@dataclass(frozen=True)
class Follow(Action):
    node: str
    primary: str
    cause: str


@dataclass(frozen=True)
class Promote(Action):
    """Makes a replica the primary of its shard."""

    node: str
    shard: int
    cause: str


@dataclass(frozen=True)
class FormCluster(Action):
    """Makes the running nodes one cluster, and assigns its slots."""

    cause: str


@dataclass(frozen=True)
class Serve(Action):
    """Moves endpoints of the group: from now on the node serves those of `roles`, and no others."""

    node: str
    roles: tuple[Role, ...]
    cause: str


@dataclass(frozen=True)
class TakeSnapshot(Action):
    snapshot: str
    cause: str


@dataclass(frozen=True)
class DropNode(Action):
    """A node that is not wanted any more: its server, data, address and interface."""

    node: str
    cause: str


@dataclass(frozen=True)
class Move(Action):
    """An event of the state table."""

    event: str
    cause: str


@dataclass(frozen=True)
class Release(Action):
    """Gives everything back: servers, data, addresses, interfaces."""

    cause: str


NodeAction = StartNode | RebootNode | Configure | Follow | Promote | DropNode
CacheAction = NodeAction | FormCluster | Serve | TakeSnapshot | Move | Release


def plan_cache(desired: CacheDesired, seen: CacheSeen, now: datetime) -> Plan[CacheAction]:
    if seen.status is CacheStatus.DELETED:
        return Plan(())
    if seen.status is CacheStatus.DELETING:
        return Plan(_delete(desired, seen))
    if desired.deleted and not _under_way(seen):
        return Plan((Move(states.DELETE, "its deletion was asked for"),))
    if seen.status is CacheStatus.CREATE_FAILED:
        return Plan(())
    if seen.status is CacheStatus.CREATING and seen.failure:
        return Plan((Move(states.FAIL, seen.failure),) if not _under_way(seen) else ())
    if desired.deleted:
        return Plan(())  # what is under way ends first
    steps = tuple(_steps(desired, seen, now))
    retries = [seen.retry_at, *(node.retry_at for node in seen.nodes.values())]
    wake_at = min((at for at in retries if at is not None and at > now), default=None)
    if seen.status is CacheStatus.AVAILABLE:
        return Plan(_leave_available(desired, seen, steps), wake_at)
    if steps or wake_at or _under_way(seen):
        return Plan(steps, wake_at)
    if seen.status is CacheStatus.CREATING:
        return Plan((Move(states.CREATED, "every node serves"),))
    return Plan((Move(states.DONE, "nothing is left to do"),))


def _under_way(seen: CacheSeen) -> bool:
    return seen.busy or any(node.busy for node in seen.nodes.values())


def _leave_available(desired: CacheDesired, seen: CacheSeen, steps: tuple[CacheAction, ...]) -> tuple[CacheAction, ...]:
    if not steps:
        return ()
    first = steps[0]
    if any(isinstance(step, TakeSnapshot) for step in steps):
        return (Move(states.SNAPSHOT, first.cause),)
    if any(_wants_reboot(desired, seen, node) for node in desired.nodes):
        return (Move(states.REBOOT, "a reboot was asked for"),)
    return (Move(states.MODIFY, first.cause),)


def _wants_reboot(desired: CacheDesired, seen: CacheSeen, node: NodeDesired) -> bool:
    return desired.reboots.get(node.node_id, 0) > seen.node(node.node_id).reboots


def _delete(desired: CacheDesired, seen: CacheSeen) -> tuple[CacheAction, ...]:
    if _under_way(seen):
        return ()
    final = _next_snapshot(desired, seen)
    if final and not seen.failure:
        return (TakeSnapshot(final, "it is the final snapshot"),)
    if not seen.released:
        return (Release("the cache is deleted"),)
    return (Move(states.RELEASED, "nothing of the cache is left"),)


def _next_snapshot(desired: CacheDesired, seen: CacheSeen) -> str:
    return next((name for name in desired.snapshots if name not in seen.snapshots), "")


def _steps(desired: CacheDesired, seen: CacheSeen, now: datetime) -> Iterator[CacheAction]:
    """What separates the cache from what it should be, as far as it can be done now: at most one step for a node."""
    if seen.busy or _later(seen.retry_at, now):
        return
    first = tuple(_work_on_nodes(desired, seen, now))
    yield from first
    idle = [
        n.node_id
        for n in desired.nodes
        if not seen.node(n.node_id).busy and not _later(seen.node(n.node_id).retry_at, now)
    ]
    occupied = {action.node for action in first}
    complete = not first and all(seen.node(n.node_id).server is Server.RUNNING for n in desired.nodes)
    at_rest = complete and not _under_way(seen) and len(idle) == len(desired.nodes)
    if not at_rest and (seen.status is CacheStatus.CREATING or any(isinstance(action, Promote) for action in first)):
        return
    if desired.clustered and not seen.formed:
        if at_rest:
            yield FormCluster("all nodes run")
        return
    moves = tuple(_endpoint_steps(desired, seen, {node for node in idle if node not in occupied}))
    yield from moves
    if at_rest and not moves and (name := _next_snapshot(desired, seen)):
        yield TakeSnapshot(name, "a snapshot was asked for")


def _work_on_nodes(desired: CacheDesired, seen: CacheSeen, now: datetime) -> Iterator[NodeAction]:
    wanted = {node.node_id for node in desired.nodes}
    for node_id, surplus in sorted(seen.nodes.items()):
        if node_id not in wanted and not surplus.busy and node_id not in seen.primaries.values():
            yield DropNode(node_id, "the node is not wanted any more")
    for shard in sorted({node.shard for node in desired.nodes}):
        members = [node for node in desired.nodes if node.shard == shard]
        if promote := _promotion(desired, seen, shard, members):
            if not _under_way(seen):
                yield promote
            return  # the roles of all others depend on it
        for member in members:
            if not seen.node(member.node_id).busy:
                primary = seen.primaries.get(shard, members[0].node_id)
                yield from _node_steps(desired, seen, member, primary, now)


def _later(at: datetime | None, now: datetime) -> bool:
    return at is not None and at > now


def _promotion(desired: CacheDesired, seen: CacheSeen, shard: int, members: list[NodeDesired]) -> Promote | None:
    primary_id = seen.primaries.get(shard, members[0].node_id)
    primary = seen.node(primary_id)
    ready = [
        member.node_id
        for member in members
        if member.node_id != primary_id
        and (node := seen.node(member.node_id)).server is Server.RUNNING
        and node.follows == primary_id
    ]
    if not ready:
        return None
    if primary.server is Server.ENDED:
        return Promote(ready[0], shard, f"the primary {primary_id} has ended ({primary.how})")
    asked = desired.failover
    if asked is not None and asked.shard == shard and asked.number > seen.failover:
        return Promote(ready[0], shard, "a test of the failover was asked for")
    if primary_id not in {member.node_id for member in members}:
        return Promote(ready[0], shard, f"the primary {primary_id} is not wanted any more")
    if desired.reboots.get(primary_id, 0) > primary.reboots:
        return Promote(ready[0], shard, f"the primary {primary_id} is to be rebooted")
    return None


def _node_steps(
    desired: CacheDesired, seen: CacheSeen, member: NodeDesired, primary: str, now: datetime
) -> Iterator[NodeAction]:
    node_id, node = member.node_id, seen.node(member.node_id)
    follows = "" if node_id == primary else primary
    if _later(node.retry_at, now):
        return
    if follows and seen.node(follows).server is not Server.RUNNING and (seen.formed or not desired.clustered):
        return  # a replica starts with its primary's data
    match node.server:
        case Server.NONE:
            cause = "it was rebooted" if node.started_once else "the node has no server yet"
            yield StartNode(node_id, follows, cause)
        case Server.ENDED:
            yield StartNode(node_id, follows, f"its server has ended ({node.how})")
        case Server.RUNNING:
            if _wants_reboot(desired, seen, member):
                yield RebootNode(node_id, "a reboot was asked for")
            elif node.follows != follows and (seen.formed or not desired.clustered):
                if follows:
                    yield Follow(node_id, follows, f"{follows} is the primary")
            elif changed := _changed(desired, node):
                yield Configure(node_id, f"changed: {changed}")


def _changed(desired: CacheDesired, node: NodeSeen) -> str:
    """What a running server is to be told, in words, or ''."""
    names = [
        name
        for name, value in sorted(desired.settings.items())
        if name not in desired.boot_settings and node.settings.get(name) != value
    ]
    if node.groups != desired.groups:
        names.append("security groups")
    return ", ".join(names)


def _endpoint_steps(desired: CacheDesired, seen: CacheSeen, free: set[str]) -> Iterator[CacheAction]:
    """First who loses an endpoint, then who gets it: an address is listened on once. Only `free` nodes can do that."""
    wanted = _roles(desired, seen)
    changing = [node_id for node_id, roles in wanted.items() if seen.node(node_id).roles != roles]
    losing = [node_id for node_id in changing if seen.node(node_id).roles - wanted[node_id]]
    for node_id in losing:
        kept = seen.node(node_id).roles & wanted[node_id]
        if node_id in free:
            yield Serve(node_id, tuple(sorted(kept)), "another node has taken over")
    if not losing:
        for node_id in changing:
            roles = tuple(sorted(wanted[node_id]))
            if node_id in free:
                yield Serve(node_id, roles, f"it is the group's {' and '.join(roles)}")


def _roles(desired: CacheDesired, seen: CacheSeen) -> dict[str, frozenset[Role]]:
    """Who of those that run serves the group's endpoints; the reader endpoint leads to a replica if there is one.

    Emulation: to one of the replicas, the first; on AWS to all of them in turn.
    """
    roles: dict[str, frozenset[Role]] = {
        node.node_id: frozenset() for node in desired.nodes if seen.node(node.node_id).server is Server.RUNNING
    }
    primary = seen.primaries.get(0, "")
    if not desired.endpoints or primary not in roles:
        return roles
    if desired.clustered:
        roles[primary] = frozenset({Role.CONFIGURATION})
        return roles
    reader = next((node_id for node_id in roles if node_id != primary), primary)
    roles[primary] |= {Role.PRIMARY}
    roles[reader] |= {Role.READER}
    return roles
