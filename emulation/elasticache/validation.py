"""What CreateCacheCluster, CreateReplicationGroup and their Modify calls refuse, in AWS's codes and words.

Pure: the request's parameters in, an error or values out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulation.elasticache import versions
from emulation.elasticache.failures import invalid_combination, invalid_value, not_emulated
from emulation.elasticache.node_types import MAXMEMORY
from emulation.elasticache.observation import NodeDesired
from emulation.elasticache.parameters import ParameterGroup

_MOST_SHARDS, _MOST_REPLICAS = 500, 5
_BUS = 10_000
"""Nodes of a cluster speak to each other on their port plus this."""

SHOWN = ("AutoMinorVersionUpgrade", "PreferredMaintenanceWindow", "SnapshotWindow")
"""Kept and shown; they have no effect here."""

_NOT_EMULATED = {
    "SnapshotArns": "seeding a cache from S3. Use SnapshotName.",
    "GlobalReplicationGroupId": "global datastores.",
    "ServerlessCacheSnapshotName": "serverless caches.",
    "PrimaryClusterId": "replication groups around an existing cache cluster.",
    "LogDeliveryConfigurations": "delivery of slow logs and engine logs.",
    "OutpostMode": "Outposts.",
    "PreferredOutpostArn": "Outposts.",
    "NodeGroupConfiguration": "slots and zones of one's own choice. Use NumNodeGroups and ReplicasPerNodeGroup.",
    "SnapshotRetentionLimit": "automatic snapshots. Use CreateSnapshot.",
    "NotificationTopicArn": "notifications through SNS. DescribeEvents tells what happened.",
    "KmsKeyId": "encryption at rest.",
    "DataTieringEnabled": "data tiering.",
}

NO_TLS = (
    "in-transit encryption, which this runtime's servers do not have. Leave TransitEncryptionEnabled out; without it "
    "ElastiCache has neither AUTH tokens nor user groups, so security groups alone decide who gets in."
)


@dataclass(frozen=True)
class Shape:
    """How many nodes a new cache has. `clustered`: cluster mode enabled."""

    shards: int
    replicas: int
    clustered: bool

    def nodes(self, cache_id: str, *, is_group: bool) -> tuple[NodeDesired, ...]:
        if not is_group:
            return (NodeDesired(cache_id),)
        if not self.clustered:
            return tuple(NodeDesired(f"{cache_id}-{number:03}") for number in range(1, self.replicas + 2))
        return tuple(
            NodeDesired(f"{cache_id}-{shard + 1:04}-{number:03}", shard)
            for shard in range(self.shards)
            for number in range(1, self.replicas + 2)
        )


def check_id(parameter: str, value: str, longest: int) -> str:
    """An identifier as AWS keeps it, in lower case."""
    if not re.fullmatch(r"[A-Za-z](-?[A-Za-z0-9])*", value) or len(value) > longest:
        raise invalid_value(
            f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a letter; must contain "
            "only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive "
            f"hyphens. It has at most {longest} characters."
        )
    return value.lower()


def check_node_type(node_type: str | None) -> str:
    if not node_type:
        raise invalid_value("The parameter CacheNodeType must be provided and must not be null.")
    if node_type not in MAXMEMORY:
        raise invalid_value(f"Invalid Cache Node Type: {node_type}.")
    return node_type


def check_emulated(request: Mapping[str, Any]) -> None:
    """Refuses what would only be pretended."""
    if request.get("AuthToken") and not request.get("TransitEncryptionEnabled"):
        raise invalid_combination("In-transit encryption (TransitEncryptionEnabled) must be enabled to use auth token.")
    if request.get("UserGroupIds") and not request.get("TransitEncryptionEnabled"):
        raise invalid_combination(
            "User group based access control requires encryption-in-transit to be enabled on the replication group."
        )
    if request.get("UserGroupIds"):
        raise not_emulated("user groups (RBAC). AUTH tokens can be had.")
    if request.get("TransitEncryptionMode") == "preferred":
        raise not_emulated("TransitEncryptionMode preferred. With TransitEncryptionEnabled, TLS is required.")
    if request.get("CacheSecurityGroupNames"):
        raise invalid_value("Use of cache security groups is not permitted in this API version for your account.")
    for name, what in _NOT_EMULATED.items():
        if request.get(name):
            raise not_emulated(f"{name}: {what}")
    if request.get("NetworkType", "ipv4") != "ipv4" or request.get("IpDiscovery", "ipv4") != "ipv4":
        raise not_emulated("IPv6.")
    if request.get("Durability") not in (None, "default", "disabled", "none"):
        raise not_emulated("Durability.")


def check_token(token: str) -> str:
    """Source: Authenticating with the Valkey and Redis OSS AUTH command, constraints."""
    if not re.fullmatch(r"[!-~]{16,128}", token) or re.search(r'[@"/]', token):
        raise invalid_value(
            "Invalid AuthToken provided. It has 16 to 128 printable ASCII characters, "
            'without blanks and the characters @, " and /.'
        )
    return token


def check_port(port: int | None, *, clustered: bool) -> int:
    port = 6379 if port is None else port
    highest = 65535 - _BUS if clustered else 65535
    if not 1150 <= port <= highest:
        raise invalid_value(f"Invalid port number: {port}. It has to be from 1150 to {highest}.")
    return port


def cluster_shape(request: Mapping[str, Any], group: ParameterGroup) -> Shape:
    if request.get("NumCacheNodes", 1) != 1:
        raise invalid_value("Cannot create a Redis cluster with a NumCacheNodes parameter greater than 1.")
    if request.get("AZMode") == "cross-az":
        raise invalid_combination("Cross-AZ is not supported for clusters with a single node.")
    if group.cluster_enabled:
        raise invalid_combination("Cluster mode should be disabled in parameter group, but found it is enabled.")
    return Shape(1, 0, False)


def wants_cluster_mode(request: Mapping[str, Any], group: ParameterGroup | None) -> bool:
    """`group` None means that none was named."""
    if request.get("ClusterMode") in ("enabled", "compatible"):
        if request["ClusterMode"] == "compatible":
            raise not_emulated("ClusterMode compatible, a step of migrations.")
        return True
    return (request.get("NumNodeGroups") or 1) > 1 or (group is not None and group.cluster_enabled)


def group_shape(request: Mapping[str, Any], *, clustered: bool) -> Shape:
    clusters, replicas = request.get("NumCacheClusters"), request.get("ReplicasPerNodeGroup")
    shards = request.get("NumNodeGroups") or 1
    if clusters is not None and (replicas is not None or request.get("NumNodeGroups")):
        raise invalid_combination(
            "NumCacheClusters cannot be used together with NumNodeGroups or ReplicasPerNodeGroup."
        )
    if clustered and request.get("AutomaticFailoverEnabled") is False:
        raise invalid_value("Redis with cluster mode enabled cannot be created with auto failover turned off.")
    if clusters is not None and not 1 <= clusters <= _MOST_REPLICAS + 1:
        raise invalid_value(f"NumCacheClusters must be between 1 and {_MOST_REPLICAS + 1}.")
    if replicas is not None and not 0 <= replicas <= _MOST_REPLICAS:
        raise invalid_value(f"The number of replicas per node group must be between 0 and {_MOST_REPLICAS}.")
    if not 1 <= shards <= _MOST_SHARDS:
        raise invalid_value(f"The number of node groups must be between 1 and {_MOST_SHARDS}.")
    if replicas is None:
        replicas = (clusters or 1) - 1
    check_failover(
        automatic=clustered or bool(request.get("AutomaticFailoverEnabled")),
        multi_az=bool(request.get("MultiAZEnabled")),
        replicas=replicas,
        clustered=clustered,
    )
    return Shape(shards, replicas, clustered)


def check_failover(*, automatic: bool, multi_az: bool, replicas: int, clustered: bool) -> None:
    if automatic and not clustered and replicas < 1:
        raise invalid_combination(
            "When using automatic failover, there must be at least 2 cache clusters in the replication group."
        )
    if multi_az and not automatic:
        raise invalid_combination("Multi-AZ requires automatic failover to be enabled.")
    if multi_az and replicas < 1:
        raise invalid_combination("Multi-AZ requires at least one replica per node group.")


def check_family(group: ParameterGroup, engine: str, version: str) -> None:
    family = versions.FAMILIES[engine][version]
    if group.family != family:
        raise invalid_combination(
            f"Expected a parameter group of family {family} but found one of family {group.family}"
        )


def default_group_name(engine: str, version: str, *, clustered: bool) -> str:
    return f"default.{versions.FAMILIES[engine][version]}{'.cluster.on' if clustered else ''}"
