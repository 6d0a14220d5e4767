"""The caches, parameter groups and snapshots of one account and region: what is asked of them, on the API thread.

Each cache's record is handed to the engine, which makes it real.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.elasticache import creation, modification, validation
from emulation.elasticache.description import snapshot_of
from emulation.elasticache.engine import ElastiCacheEngine
from emulation.elasticache.failures import (
    ElastiCacheError,
    cluster_not_found,
    group_not_found,
    invalid_combination,
    invalid_value,
    not_emulated,
    snapshot_not_found,
)
from emulation.elasticache.observation import CacheStatus, NodeDesired
from emulation.elasticache.parameter_groups import ParameterGroups
from emulation.elasticache.record import CacheRecord, SnapshotRecord, Wanted
from emulation.errors import SunaboxError

_CLUSTER_ID, _GROUP_ID = 50, 40


class Caches:
    """Implements `engine.Shelf`. `subnet_group` finds a cache subnet group by its name; `gone` is told of ARNs."""

    def __init__(
        self,
        account: str,
        region: str,
        partition: str,
        api: ApiThread,
        clock: Clock,
        engine: ElastiCacheEngine,
        subnet_group: Callable[[str], creation.SubnetGroup],
        gone: Callable[[str], object],
    ) -> None:
        self.account, self.region, self.partition = account, region, partition
        self._api, self._clock, self._engine = api, clock, engine
        self._subnet_group, self._gone = subnet_group, gone
        self.clusters: dict[str, CacheRecord] = {}
        self.groups: dict[str, CacheRecord] = {}
        self.snapshots: dict[str, SnapshotRecord] = {s.name: s for s in engine.files.snapshots(account, region)}
        self.parameter_groups = ParameterGroups(
            lambda name: f"arn:{partition}:elasticache:{region}:{account}:parametergroup:{name}",
            engine.files.parameter_groups(account, region),
        )
        for record in engine.files.caches(account, region):
            self._adopt(record)

    # ---- caches ----

    def create(self, request: Mapping[str, Any], *, is_group: bool) -> CacheRecord:
        if is_group:
            cache_id = validation.check_id("ReplicationGroupId", request["ReplicationGroupId"], _GROUP_ID)
            if cache_id in self.groups:
                raise ElastiCacheError("ReplicationGroupAlreadyExists", f"Replication group {cache_id} already exists.")
        else:
            cache_id = validation.check_id("CacheClusterIdentifier", request["CacheClusterId"], _CLUSTER_ID)
            if request.get("ReplicationGroupId"):
                raise not_emulated(
                    "adding a cluster to a replication group by CreateCacheCluster. Use IncreaseReplicaCount."
                )
        snapshot = request.get("SnapshotName")
        if snapshot and self.snapshot(snapshot).status != "available":
            raise ElastiCacheError("InvalidSnapshotState", f"Snapshot {snapshot} is not available yet.")
        record = creation.new_cache(
            request,
            creation.Owner(self.account, self.region, self.partition, self._clock.now()),
            cache_id,
            self.parameter_groups,
            self._subnet_group(request.get("CacheSubnetGroupName") or "default"),
            self._engine.surroundings.networks,
            self._engine.surroundings.servers,
            is_group=is_group,
        )
        known = {node.node_id for other in self.all() for node in other.wanted.nodes}
        if taken := [node_id for node_id in record.node_ids() if node_id in known]:
            raise ElastiCacheError("CacheClusterAlreadyExists", f"Cache cluster {taken[0]} already exists.")
        self._adopt(record)
        self._say_what_differs(record, request)
        return record

    def _adopt(self, record: CacheRecord) -> None:
        (self.groups if record.facts.is_group else self.clusters)[record.facts.cache_id] = record
        self._api.post(self._engine.adopt, record, self)

    def _say_what_differs(self, record: CacheRecord, request: Mapping[str, Any]) -> None:
        facts = record.facts
        if facts.asked_version and not facts.version.startswith(facts.asked_version):
            message = (
                f"Engine version {facts.asked_version} of {facts.engine} was asked for: Valkey {facts.version} runs"
            )
            self._api.post(self._engine.warn, record, message)
        if request.get("AtRestEncryptionEnabled"):
            self._api.post(self._engine.warn, record, "Encryption at rest was asked for: the data is not encrypted")

    def change(self, record: CacheRecord, wanted: Wanted) -> CacheRecord:
        record.wanted = wanted
        self._api.post(self._engine.poke, record.facts.arn)
        return record

    def modify(self, record: CacheRecord, request: Mapping[str, Any]) -> CacheRecord:
        groups = None
        if request.get("SecurityGroupIds"):
            facts = record.facts
            subnets = [subnet for subnet, _ in facts.subnets]
            try:
                located = self._engine.surroundings.networks.locate(
                    self.account, self.region, subnets, request["SecurityGroupIds"]
                )
            except SunaboxError as problem:
                raise invalid_value(str(problem)) from problem
            groups = located.groups
        return self.change(record, modification.modified(record, request, self.parameter_groups, groups))

    def delete(self, record: CacheRecord, final_snapshot: str | None) -> CacheRecord:
        if record.wanted.deleted or record.status not in (CacheStatus.AVAILABLE, CacheStatus.CREATE_FAILED):
            modification.check_available(record)
        wanted = record.wanted
        if final_snapshot:
            wanted = self._with_snapshot(record, final_snapshot)
        return self.change(record, replace(wanted, deleted=True))

    def forget(self, record: CacheRecord) -> None:
        (self.groups if record.facts.is_group else self.clusters).pop(record.facts.cache_id, None)
        self._gone(record.facts.arn)

    def group(self, group_id: str) -> CacheRecord:
        try:
            return self.groups[group_id.lower()]
        except KeyError:
            raise group_not_found(group_id) from None

    def cluster(self, cluster_id: str) -> tuple[CacheRecord, NodeDesired]:
        """The cache that a cache cluster is, or is a member of."""
        for record, node in self.members():
            if node.node_id == cluster_id.lower():
                return record, node
        raise cluster_not_found(cluster_id)

    def own_cluster(self, cluster_id: str) -> CacheRecord:
        """A cache cluster that is no member of a group."""
        record, _ = self.cluster(cluster_id)
        if record.facts.is_group:
            raise invalid_combination(
                f"Cache cluster {cluster_id} is part of the replication group {record.facts.cache_id}; change that one."
            )
        return record

    def members(self) -> list[tuple[CacheRecord, NodeDesired]]:
        pairs = [(record, node) for record in self.all() for node in record.wanted.nodes]
        return sorted(pairs, key=lambda pair: pair[1].node_id)

    def all(self) -> list[CacheRecord]:
        return [*self.clusters.values(), *self.groups.values()]

    # ---- parameter groups ----

    def parameters_changed(self, name: str) -> None:
        """Caches that use the group are told of its values."""
        group = self.parameter_groups.get(name)
        for record in self.all():
            if record.wanted.parameter_group == name:
                settings = group.settings(record.wanted.node_type)
                self.change(record, replace(record.wanted, settings=settings))
        self.parameter_groups_written()

    def parameter_groups_written(self) -> None:
        if self._engine.surroundings.durable:
            self._engine.files.save_parameter_groups(self.account, self.region, self.parameter_groups.written())

    def delete_parameter_group(self, name: str) -> None:
        users = [r.facts.cache_id for r in self.all() if r.wanted.parameter_group == name]
        self.parameter_groups.delete(name, users)
        self.parameter_groups_written()

    # ---- snapshots ----

    def snapshot(self, name: str) -> SnapshotRecord:
        try:
            return self.snapshots[name]
        except KeyError:
            raise snapshot_not_found(name) from None

    def _with_snapshot(self, record: CacheRecord, name: str) -> Wanted:
        if record.facts.clustered:
            raise not_emulated("snapshots of a cluster with cluster mode enabled.")
        validation.check_id("SnapshotName", name, 255)
        if name in self.snapshots:
            raise ElastiCacheError("SnapshotAlreadyExistsFault", f"Snapshot {name} already exists.")
        facts = record.facts
        self.snapshots[name] = SnapshotRecord(
            name,
            facts.account,
            facts.region,
            facts.arn_of("snapshot", name),
            facts.cache_id,
            facts.is_group,
            snapshot_of(record, name),
            self._clock.now(),
        )
        return replace(record.wanted, snapshots=(*record.wanted.snapshots, name))

    def take_snapshot(self, record: CacheRecord, name: str) -> SnapshotRecord:
        modification.check_available(record)
        self.change(record, self._with_snapshot(record, name))
        return self.snapshots[name]

    def snapshot_taken(self, record: CacheRecord, name: str, done: bool) -> None:
        snapshot = self.snapshots.get(name)
        if snapshot is not None:
            snapshot.status = "available" if done else "failed"
            if done:
                self._engine.files.save_snapshot(snapshot)

    def drop_snapshot(self, name: str) -> SnapshotRecord:
        snapshot = self.snapshot(name)
        if snapshot.status == "creating":
            raise ElastiCacheError("InvalidSnapshotState", f"Snapshot {name} is being created.")
        del self.snapshots[name]
        self._engine.files.forget_snapshot(snapshot)
        snapshot.status = "deleting"
        return snapshot
