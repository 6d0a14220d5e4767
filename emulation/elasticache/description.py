"""Caches, snapshots and parameter groups in the API's JSON.

Source: Amazon ElastiCache API reference, CacheCluster, ReplicationGroup, NodeGroup, Snapshot.
"""

from typing import Any

from emulation.elasticache.observation import CacheStatus, NodeDesired, Role, Server
from emulation.elasticache.record import CacheRecord, SnapshotRecord
from emulation.elasticache.steps import slots

_NO_ENDPOINT = (CacheStatus.CREATING, CacheStatus.CREATE_FAILED)


def describe_cluster(record: CacheRecord, node: NodeDesired, *, with_nodes: bool) -> dict[str, Any]:
    """A cache cluster: the only node of a cache, or a member of a replication group."""
    facts, wanted, places = record.facts, record.wanted, record.places
    zone = places.zones.get(node.node_id, facts.subnets[0][1])
    seen = record.seen.node(node.node_id)
    pending_reboot = any(
        seen.settings.get(name) != wanted.settings.get(name) for name in record.boot_settings if seen.settings
    )
    described: dict[str, Any] = {
        "CacheClusterId": node.node_id,
        "ClientDownloadLandingPage": "https://console.aws.amazon.com/elasticache/home#client-download:",
        "CacheNodeType": wanted.node_type,
        "Engine": facts.engine,
        # Emulation: the version that runs, which is not always the one that was asked for.
        "EngineVersion": facts.version,
        "CacheClusterStatus": _cluster_status(record.status),
        "NumCacheNodes": 1,
        "PreferredAvailabilityZone": zone,
        "CacheClusterCreateTime": facts.created_at,
        "PendingModifiedValues": wanted.shown.get("pending", {}),
        "CacheSecurityGroups": [],
        "CacheParameterGroup": {
            "CacheParameterGroupName": wanted.parameter_group,
            "ParameterApplyStatus": "pending-reboot" if pending_reboot else "in-sync",
            "CacheNodeIdsToReboot": ["0001"] if pending_reboot else [],
        },
        "CacheSubnetGroupName": facts.subnet_group,
        "SecurityGroups": [{"SecurityGroupId": group, "Status": "active"} for group in wanted.groups],
        "AuthTokenEnabled": bool(wanted.tokens),
        "TransitEncryptionEnabled": facts.tls,
        **({"TransitEncryptionMode": "required"} if facts.tls else {}),
        "AtRestEncryptionEnabled": False,
        "ARN": facts.arn_of("cluster", node.node_id),
        "ReplicationGroupLogDeliveryEnabled": False,
        "LogDeliveryConfigurations": [],
        "NetworkType": "ipv4",
        "IpDiscovery": "ipv4",
        **_settings_shown(record),
    }
    if facts.is_group:
        described["ReplicationGroupId"] = facts.cache_id
    if with_nodes and record.status not in _NO_ENDPOINT:
        # Source: DescribeCacheClusters, ShowCacheNodeInfo; without it the API leaves the nodes out.
        described["CacheNodes"] = [
            {
                "CacheNodeId": "0001",
                "CacheNodeStatus": "available" if seen.server is Server.RUNNING else "rebooting",
                "CacheNodeCreateTime": facts.created_at,
                "Endpoint": _endpoint(record, node.node_id),
                "ParameterGroupStatus": "pending-reboot" if pending_reboot else "in-sync",
                "CustomerAvailabilityZone": zone,
            }
        ]
    return described


def describe_group(record: CacheRecord) -> dict[str, Any]:
    facts, wanted = record.facts, record.wanted
    served = record.status not in _NO_ENDPOINT
    described: dict[str, Any] = {
        "ReplicationGroupId": facts.cache_id,
        "Description": wanted.description,
        "Status": "modifying" if record.status is CacheStatus.REBOOTING else str(record.status),
        "PendingModifiedValues": {},
        "MemberClusters": list(record.node_ids()),
        "NodeGroups": [_node_group(record, shard, served) for shard in sorted({n.shard for n in wanted.nodes})],
        "AutomaticFailover": "enabled" if wanted.automatic_failover else "disabled",
        "MultiAZ": "enabled" if wanted.multi_az else "disabled",
        "ClusterEnabled": facts.clustered,
        "ClusterMode": "enabled" if facts.clustered else "disabled",
        "CacheNodeType": wanted.node_type,
        "AuthTokenEnabled": bool(wanted.tokens),
        "TransitEncryptionEnabled": facts.tls,
        **({"TransitEncryptionMode": "required"} if facts.tls else {}),
        "AtRestEncryptionEnabled": False,
        "ARN": facts.arn,
        "UserGroupIds": [],
        "LogDeliveryConfigurations": [],
        "ReplicationGroupCreateTime": facts.created_at,
        "DataTiering": "disabled",
        "NetworkType": "ipv4",
        "IpDiscovery": "ipv4",
        "Engine": facts.engine,
        **{k: v for k, v in _settings_shown(record).items() if k != "PreferredMaintenanceWindow"},
    }
    if facts.clustered and served:
        described["ConfigurationEndpoint"] = _endpoint(record, Role.CONFIGURATION)
    return described


def describe_snapshot(snapshot: SnapshotRecord) -> dict[str, Any]:
    return {**snapshot.described, "SnapshotStatus": snapshot.status}


def snapshot_of(record: CacheRecord, name: str) -> dict[str, Any]:
    """What a snapshot says of the cache that it is of."""
    facts, wanted = record.facts, record.wanted
    of_group = {"ReplicationGroupId": facts.cache_id, "ReplicationGroupDescription": wanted.description}
    return {
        "SnapshotName": name,
        **(of_group if facts.is_group else {}),
        "CacheClusterId": record.primary(),
        "SnapshotSource": "manual",
        "CacheNodeType": wanted.node_type,
        "Engine": facts.engine,
        "EngineVersion": facts.version,
        "NumCacheNodes": 1,
        "PreferredAvailabilityZone": facts.subnets[0][1],
        "CacheClusterCreateTime": facts.created_at.isoformat(),
        "Port": facts.port,
        "CacheParameterGroupName": wanted.parameter_group,
        "CacheSubnetGroupName": facts.subnet_group,
        "VpcId": facts.vpc_id,
        "NumNodeGroups": 1,
        "AutomaticFailover": "enabled" if wanted.automatic_failover else "disabled",
        "ARN": facts.arn_of("snapshot", name),
    }


def _settings_shown(record: CacheRecord) -> dict[str, Any]:
    shown = record.wanted.shown
    return {
        "AutoMinorVersionUpgrade": shown.get("AutoMinorVersionUpgrade", True),
        "PreferredMaintenanceWindow": shown.get("PreferredMaintenanceWindow", "sun:05:00-sun:06:00"),
        "SnapshotRetentionLimit": 0,
        "SnapshotWindow": shown.get("SnapshotWindow", "03:00-04:00"),
    }


def _cluster_status(status: CacheStatus) -> str:
    """Cache clusters have no `create-failed`; of their words, this is the one on which waiters give up."""
    return "restore-failed" if status is CacheStatus.CREATE_FAILED else str(status)


def _endpoint(record: CacheRecord, key: str) -> dict[str, Any]:
    """Emulation: an address of the host, the same in tasks; on AWS a name."""
    address = record.places.addresses.get(key)
    return {} if address is None else {"Address": str(address), "Port": record.facts.port}


def _node_group(record: CacheRecord, shard: int, served: bool) -> dict[str, Any]:
    facts = record.facts
    members = [node for node in record.wanted.nodes if node.shard == shard]
    primary = record.primary(shard)
    described: dict[str, Any] = {
        "NodeGroupId": f"{shard + 1:04}",
        "Status": "available" if record.status is CacheStatus.AVAILABLE else _group_status(record.status),
        "NodeGroupMembers": [_member(record, node, primary, served) for node in members],
    }
    if facts.clustered:
        first, last = slots(shard, len({node.shard for node in record.wanted.nodes}))
        described["Slots"] = f"{first}-{last}"
    elif served:
        described["PrimaryEndpoint"] = _endpoint(record, Role.PRIMARY)
        described["ReaderEndpoint"] = _endpoint(record, Role.READER)
    return described


def _group_status(status: CacheStatus) -> str:
    return str(status) if status in (CacheStatus.CREATING, CacheStatus.DELETING) else "modifying"


def _member(record: CacheRecord, node: NodeDesired, primary: str, served: bool) -> dict[str, Any]:
    member: dict[str, Any] = {
        "CacheClusterId": node.node_id,
        "CacheNodeId": "0001",
        "PreferredAvailabilityZone": record.places.zones.get(node.node_id, record.facts.subnets[0][1]),
    }
    if not record.facts.clustered:
        member["CurrentRole"] = "primary" if node.node_id == primary else "replica"
        if served:
            member["ReadEndpoint"] = _endpoint(record, node.node_id)
    return member
