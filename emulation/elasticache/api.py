"""The seam into moto's ElastiCache: caches of our own in the place of moto's, and what moto does not have.

moto keeps subnet groups, tags and users. Its caches, which are available at once and have no server, are never made.
All of this runs on the API thread.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from moto.core.exceptions import ServiceException
from moto.core.resource_tagging import TaggedResource
from moto.core.responses import ActionResult, PaginatedResult
from moto.elasticache import models, urls
from moto.elasticache.exceptions import CacheSubnetGroupNotFound
from moto.elasticache.responses import ElastiCacheResponse as MotoResponse

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.elasticache import modification, validation, versions
from emulation.elasticache.caches import Caches
from emulation.elasticache.creation import SubnetGroup
from emulation.elasticache.description import describe_cluster, describe_group, describe_snapshot
from emulation.elasticache.engine import EVENTS_ARE_KEPT, ElastiCacheEngine
from emulation.elasticache.failures import (
    ElastiCacheError,
    invalid_combination,
    invalid_value,
    not_emulated,
)
from emulation.elasticache.observation import NodeDesired
from emulation.elasticache.parameter_groups import describe, describe_parameters
from emulation.elasticache.record import CacheRecord


class ElastiCacheBackend(models.ElastiCacheBackend):
    """moto's records of one account and region, and our caches."""

    api: ClassVar[ApiThread]
    engine: ClassVar[ElastiCacheEngine]
    clock: ClassVar[Clock]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        forget_tags = self.tagging_service.delete_all_tags_for_resource
        self.caches = Caches(
            account_id, region_name, self.partition, self.api, self.clock, self.engine, self.subnet_group, forget_tags
        )

    @property
    def _url_module(self) -> Any:
        return urls

    def subnet_group(self, name: str) -> SubnetGroup:
        group = self.cache_subnet_groups.get(name)
        if group is None and name != "default":
            raise CacheSubnetGroupNotFound(name)
        return SubnetGroup(name, tuple(group.subnet_ids) if group is not None else ())

    def delete_subnet_group(self, name: str) -> None:
        if name not in self.cache_subnet_groups:
            raise CacheSubnetGroupNotFound(name)
        if any(record.facts.subnet_group == name for record in self.caches.all()):
            raise ElastiCacheError("CacheSubnetGroupInUse", f"Cache subnet group {name} is in use by cache clusters.")
        del self.cache_subnet_groups[name]

    def iter_tagged_resources(self) -> Iterator[TaggedResource]:
        for record in self.caches.all():
            arn = record.facts.arn
            if tags := self.tagging_service.get_tag_dict_for_resource(arn):
                kind = "replicationgroup" if record.facts.is_group else "cluster"
                yield TaggedResource(arn=arn, resource_type=f"elasticache:{kind}", tags=tags)


class ElastiCacheResponse(MotoResponse):
    """Operations that moto answers differently or not at all, in moto's parsing and serialisation."""

    @property
    def backend(self) -> ElastiCacheBackend:
        return models.elasticache_backends[self.current_account][self.region]  # type: ignore[return-value]

    @property
    def caches(self) -> Caches:
        return self.backend.caches

    def call_action(self) -> Any:
        try:
            return super().call_action()
        except ElastiCacheError as problem:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # moto warns of codes that the service's model lacks (NotImplemented)
                status, headers, body = self.serialized(ActionResult(_Failure(problem.code, problem.message)))
            return status, headers, body

    # ---- cache clusters ----

    def create_cache_cluster(self) -> ActionResult:
        return self._cluster(self._tagged(self.caches.create(self.params, is_group=False)))

    def _tagged(self, record: CacheRecord) -> CacheRecord:
        if tags := self.params.get("Tags"):
            self.backend.tagging_service.tag_resource(record.facts.arn, tags)
        return record

    def describe_cache_clusters(self) -> ActionResult:
        members, wanted = self.caches.members(), self.params.get("CacheClusterId")
        if wanted:
            members = [self.caches.cluster(wanted)]
        if self.params.get("ShowCacheClustersNotInReplicationGroups"):
            members = [(record, node) for record, node in members if not record.facts.is_group]
        with_nodes = bool(self.params.get("ShowCacheNodeInfo"))
        described = [_plain(describe_cluster(record, node, with_nodes=with_nodes)) for record, node in members]
        return PaginatedResult({"CacheClusters": described})

    def modify_cache_cluster(self) -> ActionResult:
        record = self.caches.own_cluster(self.params["CacheClusterId"])
        return self._cluster(self.caches.modify(record, self.params))

    def reboot_cache_cluster(self) -> ActionResult:
        record, node = self.caches.cluster(self.params["CacheClusterId"])
        wanted = modification.rebooted(record, node.node_id, list(self.params.get("CacheNodeIdsToReboot") or ()))
        return self._cluster(self.caches.change(record, wanted), node, "rebooting cluster nodes")

    def delete_cache_cluster(self) -> ActionResult:
        record, node = self.caches.cluster(self.params["CacheClusterId"])
        if record.facts.is_group:
            if node.node_id == record.primary(node.shard):
                raise ElastiCacheError(
                    "InvalidCacheClusterState",
                    f"Cache cluster {node.node_id} is serving as primary for replication group "
                    f"{record.facts.cache_id} and cannot be deleted.",
                )
            wanted = modification.with_replicas(record, None, increase=False, remove=[node.node_id])
            answer = _plain(describe_cluster(record, node, with_nodes=False))
            self.caches.change(record, wanted)
            return ActionResult({"CacheCluster": {**answer, "CacheClusterStatus": "deleting"}})
        self.caches.delete(record, self.params.get("FinalSnapshotIdentifier"))
        return self._cluster(record, None, "deleting")

    def _cluster(self, record: CacheRecord, node: NodeDesired | None = None, status: str = "") -> ActionResult:
        described = describe_cluster(record, node or record.wanted.nodes[0], with_nodes=False)
        if status:
            described["CacheClusterStatus"] = status
        return ActionResult({"CacheCluster": _plain(described)})

    # ---- replication groups ----

    def create_replication_group(self) -> ActionResult:
        return self._group(self._tagged(self.caches.create(self.params, is_group=True)))

    def describe_replication_groups(self) -> ActionResult:
        wanted = self.params.get("ReplicationGroupId")
        records = (
            [self.caches.group(wanted)]
            if wanted
            else sorted(self.caches.groups.values(), key=lambda record: record.facts.cache_id)
        )
        return PaginatedResult({"ReplicationGroups": [_plain(describe_group(record)) for record in records]})

    def modify_replication_group(self) -> ActionResult:
        return self._group(self.caches.modify(self._named_group(), self.params))

    def increase_replica_count(self) -> ActionResult:
        return self._replicas(increase=True)

    def decrease_replica_count(self) -> ActionResult:
        return self._replicas(increase=False)

    def _replicas(self, *, increase: bool) -> ActionResult:
        if self.params.get("ReplicaConfiguration"):
            raise not_emulated("ReplicaConfiguration. Use NewReplicaCount.")
        if not self.params.get("ApplyImmediately"):
            raise invalid_value("ApplyImmediately must be true: AWS knows no other value here.")
        record, remove = self._named_group(), list(self.params.get("ReplicasToRemove") or ())
        wanted = modification.with_replicas(
            record, self.params.get("NewReplicaCount"), increase=increase, remove=remove
        )
        return self._group(self.caches.change(record, wanted), "modifying")

    def test_failover(self) -> ActionResult:
        record = self._named_group()
        wanted = modification.failed_over(record, self.params["NodeGroupId"])
        return self._group(self.caches.change(record, wanted), "modifying")

    def delete_replication_group(self) -> ActionResult:
        if self.params.get("RetainPrimaryCluster"):
            raise not_emulated("RetainPrimaryCluster. Take a final snapshot instead.")
        record = self.caches.delete(self._named_group(), self.params.get("FinalSnapshotIdentifier"))
        return self._group(record, "deleting")

    def _named_group(self) -> CacheRecord:
        return self.caches.group(self.params["ReplicationGroupId"])

    def _group(self, record: CacheRecord, status: str = "") -> ActionResult:
        described = describe_group(record)
        if status:
            described["Status"] = status
        return ActionResult({"ReplicationGroup": _plain(described)})

    # ---- parameter groups ----

    def create_cache_parameter_group(self) -> ActionResult:
        name = validation.check_id("CacheParameterGroupName", self.params["CacheParameterGroupName"], 255)
        group = self.caches.parameter_groups.create(
            name, self.params["CacheParameterGroupFamily"], self.params["Description"]
        )
        self.caches.parameter_groups_written()
        if tags := self.params.get("Tags"):
            self.backend.tagging_service.tag_resource(group.arn, tags)
        return ActionResult({"CacheParameterGroup": describe(group)})

    def describe_cache_parameter_groups(self) -> ActionResult:
        groups, wanted = self.caches.parameter_groups, self.params.get("CacheParameterGroupName")
        found = [groups.get(wanted)] if wanted else groups.all()
        return PaginatedResult({"CacheParameterGroups": [describe(group) for group in found]})

    def modify_cache_parameter_group(self) -> ActionResult:
        changes = {pair["ParameterName"]: pair.get("ParameterValue", "") for pair in self.params["ParameterNameValues"]}
        name = self.params["CacheParameterGroupName"]
        self.caches.parameter_groups.modify(name, changes)
        self.caches.parameters_changed(name)
        return ActionResult({"CacheParameterGroupName": name})

    def reset_cache_parameter_group(self) -> ActionResult:
        name = self.params["CacheParameterGroupName"]
        pairs: Sequence[Mapping[str, str]] = self.params.get("ParameterNameValues") or ()
        everything = bool(self.params.get("ResetAllParameters"))
        if everything == bool(pairs):
            raise invalid_combination("Give either ResetAllParameters or ParameterNameValues.")
        self.caches.parameter_groups.reset(name, None if everything else [pair["ParameterName"] for pair in pairs])
        self.caches.parameters_changed(name)
        return ActionResult({"CacheParameterGroupName": name})

    def delete_cache_parameter_group(self) -> ActionResult:
        self.caches.delete_parameter_group(self.params["CacheParameterGroupName"])
        return ActionResult({})

    def describe_cache_parameters(self) -> ActionResult:
        group = self.caches.parameter_groups.get(self.params["CacheParameterGroupName"])
        return PaginatedResult({"Parameters": describe_parameters(group, self.params.get("Source"))})

    def describe_engine_default_parameters(self) -> ActionResult:
        family = self.params["CacheParameterGroupFamily"]
        group = self.caches.parameter_groups.get(f"default.{family}")
        defaults = {"CacheParameterGroupFamily": family, "Parameters": describe_parameters(group, None)}
        return ActionResult({"EngineDefaults": defaults})

    # ---- the rest ----

    def describe_cache_engine_versions(self) -> ActionResult:
        """As AWS offers them; DescribeCacheClusters says what runs when one is asked for."""
        engine, version = self.params.get("Engine"), self.params.get("EngineVersion")
        family = self.params.get("CacheParameterGroupFamily")
        described = [
            {
                "Engine": name,
                "EngineVersion": number,
                "CacheParameterGroupFamily": of,
                "CacheEngineDescription": name.capitalize(),
                "CacheEngineVersionDescription": f"{name} version {number}",
            }
            for name, offered in versions.FAMILIES.items()
            for number, of in offered.items()
            if engine in (None, name) and version in (None, number) and family in (None, of)
        ]
        if self.params.get("DefaultOnly"):
            described = list({one["Engine"]: one for one in described}.values())
        return PaginatedResult({"CacheEngineVersions": described})

    def describe_events(self) -> ActionResult:
        now = self.backend.clock.now()
        since, until = _aware(self.params.get("StartTime")), _aware(self.params.get("EndTime"))
        if since is None:
            since = now - timedelta(minutes=self.params.get("Duration") or 60)
        if since < now - EVENTS_ARE_KEPT:
            raise invalid_value("Events are kept for 14 days.")
        source, kind = self.params.get("SourceIdentifier"), self.params.get("SourceType")
        if source and not kind:
            raise invalid_combination("SourceType must be given together with SourceIdentifier.")
        events = [
            _plain(event.describe())
            for event in list(self.backend.engine.events)
            if (event.account, event.region) == (self.current_account, self.region)
            and source in (None, event.source)
            and kind in (None, event.source_type)
            and since <= event.at
            and (until is None or event.at <= until)
        ]
        return PaginatedResult({"Events": events})

    def delete_cache_subnet_group(self) -> ActionResult:
        self.backend.delete_subnet_group(self.params["CacheSubnetGroupName"])
        return ActionResult({})

    def create_snapshot(self) -> ActionResult:
        if self.params.get("ReplicationGroupId"):
            record = self._named_group()
        elif self.params.get("CacheClusterId"):
            record, _ = self.caches.cluster(self.params["CacheClusterId"])
        else:
            raise invalid_combination("Either CacheClusterId or ReplicationGroupId must be given.")
        snapshot = self.caches.take_snapshot(record, self.params["SnapshotName"])
        return ActionResult({"Snapshot": _plain(describe_snapshot(snapshot))})

    def describe_snapshots(self) -> ActionResult:
        wanted, group = self.params.get("SnapshotName"), self.params.get("ReplicationGroupId")
        cluster = self.params.get("CacheClusterId")
        if wanted:
            self.caches.snapshot(wanted)
        found = [
            _plain(describe_snapshot(snapshot))
            for name, snapshot in sorted(self.caches.snapshots.items())
            if wanted in (None, name)
            and (group is None or (snapshot.is_group and snapshot.cache_id == group))
            and cluster in (None, snapshot.described["CacheClusterId"])
            and self.params.get("SnapshotSource") in (None, "user", "manual")
        ]
        return PaginatedResult({"Snapshots": found})

    def delete_snapshot(self) -> ActionResult:
        snapshot = self.caches.drop_snapshot(self.params["SnapshotName"])
        return ActionResult({"Snapshot": _plain(describe_snapshot(snapshot))})


class _Failure(ServiceException):
    """How moto's serialisers are told of an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def _aware(moment: Any) -> datetime | None:
    if moment is None:
        return None
    parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _plain(value: Any) -> Any:
    """moto serialises naive datetimes, in UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, list) else value


def install(api: ApiThread, clock: Clock, engine: ElastiCacheEngine) -> None:
    """Puts all this in moto's place, for the backends that are made from now on."""
    ElastiCacheBackend.api, ElastiCacheBackend.clock, ElastiCacheBackend.engine = api, clock, engine
    models.elasticache_backends.backend = ElastiCacheBackend
    urls.url_paths["{0}/$"] = ElastiCacheResponse.dispatch


def restore(account: str, region: str) -> None:
    """Makes the backend of an account that had caches before a restart; it takes them up again."""
    models.elasticache_backends[account][region]
