"""What Modify, Reboot, TestFailover and the changes of replica counts make of what is wanted of a cache.

Pure: the record and the request in, the new `Wanted` out. Source: Amazon ElastiCache API reference, the calls by name.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from emulation.elasticache import validation, versions
from emulation.elasticache.failures import (
    ElastiCacheError,
    invalid_cluster_state,
    invalid_combination,
    invalid_group_state,
    invalid_value,
    not_emulated,
)
from emulation.elasticache.observation import CacheStatus, Failover, NodeDesired
from emulation.elasticache.parameter_groups import ParameterGroups
from emulation.elasticache.record import CacheRecord, Wanted


def check_available(record: CacheRecord) -> None:
    """Raises ElastiCacheError where the cache has not the status `available`."""
    if record.status is CacheStatus.AVAILABLE and not record.wanted.deleted:
        return
    cache_id = record.facts.cache_id
    if record.facts.is_group:
        raise invalid_group_state(f"Replication group {cache_id} is not in available state; it is {record.status}.")
    raise invalid_cluster_state(f"Cache cluster {cache_id} is not in available state; it is {record.status}.")


def modified(
    record: CacheRecord, request: Mapping[str, Any], groups: ParameterGroups, security_groups: tuple[str, ...] | None
) -> Wanted:
    """`security_groups` are those of the request, checked; None where it names none."""
    check_available(record)
    facts, wanted = record.facts, record.wanted
    # An AUTH token or TLS asked for later is refused as it is for a new cache; nodes and failover are looked at below.
    encrypted = request.get("TransitEncryptionEnabled")
    if encrypted is not None and encrypted != facts.tls:
        raise not_emulated("changing in-transit encryption of a cache that exists.")
    asked = {k: v for k, v in request.items() if k != "PrimaryClusterId"}
    validation.check_emulated({**asked, "TransitEncryptionEnabled": facts.tls})
    if request.get("UserGroupIdsToAdd"):
        validation.check_emulated({"UserGroupIds": request["UserGroupIdsToAdd"]})
    if request.get("Engine") and versions.check_engine(request["Engine"]) != facts.engine:
        raise not_emulated("changing the engine of a cache.")
    if request.get("EngineVersion"):
        version = versions.resolve_version(facts.engine, request["EngineVersion"])
        if versions.FAMILIES[facts.engine][version] != groups.get(wanted.parameter_group).family:
            raise not_emulated(f"upgrades to another major version: {facts.version} runs, whatever was asked for.")
    if (request.get("NumCacheNodes") or 1) != 1:
        raise invalid_value("Cannot create a Redis cluster with a NumCacheNodes parameter greater than 1.")
    wanted = _with_primary(record, wanted, request.get("PrimaryClusterId"))
    group_name = request.get("CacheParameterGroupName") or wanted.parameter_group
    group = groups.get(group_name)
    if group.family != groups.get(wanted.parameter_group).family:
        family = groups.get(wanted.parameter_group).family
        raise invalid_combination(
            f"Expected a parameter group of family {family} but found one of family {group.family}"
        )
    if group.cluster_enabled != facts.clustered:
        expected, found = ("enabled", "disabled") if facts.clustered else ("disabled", "enabled")
        raise invalid_combination(f"Cluster mode should be {expected} in parameter group, but found it is {found}.")
    shown = {**wanted.shown, **{k: request[k] for k in validation.SHOWN if request.get(k) is not None}}
    node_type = wanted.node_type
    if asked_type := request.get("CacheNodeType"):
        validation.check_node_type(asked_type)
        if request.get("ApplyImmediately"):
            node_type = asked_type
            shown.pop("pending", None)
        elif asked_type != node_type:
            # Emulation: maintenance windows never open; what waits for one is applied by a call with ApplyImmediately.
            shown["pending"] = {"CacheNodeType": asked_type}
    automatic = _or(request.get("AutomaticFailoverEnabled"), wanted.automatic_failover)
    multi_az = _or(request.get("MultiAZEnabled"), wanted.multi_az)
    if facts.clustered and not automatic:
        raise invalid_value("Redis with cluster mode enabled cannot be created with auto failover turned off.")
    replicas = min(_members(record, shard) for shard in {n.shard for n in wanted.nodes}) - 1
    validation.check_failover(automatic=automatic, multi_az=multi_az, replicas=replicas, clustered=facts.clustered)
    return replace(
        wanted,
        node_type=node_type,
        parameter_group=group_name,
        settings=group.settings(node_type),
        groups=wanted.groups if security_groups is None else security_groups,
        description=request.get("ReplicationGroupDescription") or wanted.description,
        automatic_failover=automatic,
        multi_az=multi_az,
        shown=shown,
        tokens=_tokens(wanted, request),
    )


def _tokens(wanted: Wanted, request: Mapping[str, Any]) -> tuple[str, ...]:
    """Source: Modifying an AUTH token: ROTATE keeps the old one beside the new, SET keeps the new one only."""
    strategy, token = request.get("AuthTokenUpdateStrategy") or "ROTATE", request.get("AuthToken")
    if strategy == "DELETE":
        return ()
    if not token:
        return wanted.tokens
    validation.check_token(token)
    if strategy == "SET":
        return (token,)
    return tuple(dict.fromkeys((*wanted.tokens[-1:], token)))


def rebooted(record: CacheRecord, node_id: str, nodes: list[str]) -> Wanted:
    check_available(record)
    if unknown := [node for node in nodes if node != "0001"]:
        raise ElastiCacheError("CacheNodeNotFound", f"CacheNode not found: {', '.join(unknown)}")
    if not nodes:
        raise invalid_value("The parameter CacheNodeIdsToReboot must be provided and must not be blank.")
    if record.facts.clustered:
        raise invalid_value("Rebooting is not supported for clusters with cluster mode enabled.")
    reboots = record.wanted.reboots
    done = record.seen.node(node_id).reboots
    return replace(record.wanted, reboots={**reboots, node_id: max(reboots.get(node_id, 0), done) + 1})


def failed_over(record: CacheRecord, node_group: str) -> Wanted:
    check_available(record)
    if not node_group.isdigit() or int(node_group) - 1 not in {node.shard for node in record.wanted.nodes}:
        raise ElastiCacheError("NodeGroupNotFoundFault", f"Node group {node_group} not found.")
    if not record.wanted.automatic_failover:
        raise ElastiCacheError(
            "TestFailoverNotAvailableFault", "TestFailover is not available: automatic failover is not enabled."
        )
    shard = int(node_group) - 1
    if _members(record, shard) < 2:
        raise ElastiCacheError("TestFailoverNotAvailableFault", f"Node group {node_group} has no replica.")
    number = max(record.seen.failover, record.wanted.failover.number if record.wanted.failover else 0) + 1
    return replace(record.wanted, failover=Failover(shard, number))


def with_replicas(record: CacheRecord, count: int | None, *, increase: bool, remove: list[str]) -> Wanted:
    """IncreaseReplicaCount and DecreaseReplicaCount. `remove` names replicas that are to go."""
    check_available(record)
    wanted = record.wanted
    primaries = {record.primary(shard) for shard in {node.shard for node in wanted.nodes}}
    if unknown := [node for node in remove if node not in record.node_ids() or node in primaries]:
        raise invalid_value(f"These are no replicas of {record.facts.cache_id}: {', '.join(unknown)}")
    nodes: list[NodeDesired] = []
    for shard in sorted({node.shard for node in wanted.nodes}):
        members = [node for node in wanted.nodes if node.shard == shard]
        target = len(members) - 1 - len(remove) if count is None else count
        if (increase and target <= len(members) - 1) or (not increase and target >= len(members) - 1):
            raise invalid_value(f"The new replica count must be {'greater' if increase else 'less'} than the old one.")
        least = 1 if wanted.automatic_failover and not record.facts.clustered else 0
        if not least <= target <= 5:
            raise invalid_value(f"The number of replicas per node group must be between {least} and 5.")
        if increase:
            nodes += [*members, *_new(record, shard, members, target + 1 - len(members))]
            continue
        replicas = [node for node in members if node.node_id not in primaries and node.node_id not in remove]
        kept = {node.node_id for node in replicas[:target]} | primaries
        nodes += [node for node in members if node.node_id in kept]
    return replace(wanted, nodes=tuple(nodes))


def _new(record: CacheRecord, shard: int, members: list[NodeDesired], count: int) -> list[NodeDesired]:
    prefix = members[0].node_id.rpartition("-")[0]
    known = {*record.node_ids(), *record.seen.nodes}
    free = (node_id for number in range(1, 1000) if (node_id := f"{prefix}-{number:03}") not in known)
    return [NodeDesired(node_id, shard) for node_id in islice(free, count)]


def _with_primary(record: CacheRecord, wanted: Wanted, primary: str | None) -> Wanted:
    """PrimaryClusterId of ModifyReplicationGroup promotes a replica, where no automatic failover does."""
    if not primary or primary == record.primary():
        return wanted
    if primary not in record.node_ids():
        raise invalid_value(f"Cache cluster {primary} is not a member of {record.facts.cache_id}.")
    if wanted.automatic_failover:
        raise invalid_combination("Cannot promote a replica while automatic failover is enabled.")
    first = next(node for node in wanted.nodes if node.node_id == primary)
    nodes = (first, *(node for node in wanted.nodes if node is not first))
    number = max(record.seen.failover, wanted.failover.number if wanted.failover else 0) + 1
    return replace(wanted, nodes=nodes, failover=Failover(first.shard, number))


def _members(record: CacheRecord, shard: int) -> int:
    return sum(node.shard == shard for node in record.wanted.nodes)


def _or(asked: bool | None, otherwise: bool) -> bool:
    return otherwise if asked is None else asked
