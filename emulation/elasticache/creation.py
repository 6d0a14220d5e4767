"""From a request to a cache's record: what CreateCacheCluster and CreateReplicationGroup mean.

Source: Amazon ElastiCache API reference, CreateCacheCluster, CreateReplicationGroup.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emulation.elasticache import validation, versions
from emulation.elasticache.failures import invalid_value, not_emulated
from emulation.elasticache.observation import CacheSeen
from emulation.elasticache.parameter_groups import ParameterGroups
from emulation.elasticache.parameters import PARAMETERS
from emulation.elasticache.record import CacheRecord, Facts, Wanted
from emulation.elasticache.servers import CacheServers
from emulation.elasticache.surroundings import Networks
from emulation.errors import SunaboxError

BOOT_SETTINGS = frozenset(name for name, parameter in PARAMETERS.items() if parameter.needs_reboot)


@dataclass(frozen=True)
class Owner:
    account: str
    region: str
    partition: str
    now: datetime


@dataclass(frozen=True)
class SubnetGroup:
    """`subnets` are ids; none means the default VPC's."""

    name: str
    subnets: tuple[str, ...]


def new_cache(
    request: Mapping[str, Any],
    owner: Owner,
    cache_id: str,
    groups: ParameterGroups,
    subnet_group: SubnetGroup,
    networks: Networks,
    servers: CacheServers,
    *,
    is_group: bool,
) -> CacheRecord:
    """Checks the request and gives the record of the cache that it asks for. Raises ElastiCacheError."""
    validation.check_emulated(request)
    engine = versions.check_engine(request.get("Engine") or "redis")
    version = versions.resolve_version(engine, request.get("EngineVersion") or "")
    node_type = validation.check_node_type(request.get("CacheNodeType"))
    named = request.get("CacheParameterGroupName")
    named_group = groups.get(named) if named else None
    clustered = is_group and validation.wants_cluster_mode(request, named_group)
    group = named_group or groups.get(validation.default_group_name(engine, version, clustered=clustered))
    validation.check_family(group, engine, version)
    if is_group:
        shape = validation.group_shape(request, clustered=clustered)
    else:
        shape = validation.cluster_shape(request, group)
    if clustered and request.get("SnapshotName"):
        raise not_emulated("restoring a cluster with cluster mode enabled.")
    port = validation.check_port(request.get("Port"), clustered=clustered)
    try:
        location = networks.locate(
            owner.account, owner.region, subnet_group.subnets, request.get("SecurityGroupIds") or ()
        )
    except SunaboxError as problem:
        raise invalid_value(str(problem)) from problem
    try:
        runs = servers.version(engine, version)
    except SunaboxError as problem:
        raise not_emulated(str(problem)) from problem
    encrypted = bool(request.get("TransitEncryptionEnabled"))
    if encrypted and not servers.tls:
        raise not_emulated(validation.NO_TLS)
    tokens = (validation.check_token(request["AuthToken"]),) if request.get("AuthToken") else ()
    facts = Facts(
        account=owner.account,
        region=owner.region,
        partition=owner.partition,
        cache_id=cache_id,
        is_group=is_group,
        engine=engine,
        asked_version=request.get("EngineVersion") or "",
        version=runs,
        port=port,
        subnet_group=subnet_group.name,
        vpc_id=location.vpc_id,
        subnets=location.subnets,
        clustered=clustered,
        created_at=owner.now,
        password=secrets.token_hex(24),
        domain=secrets.token_hex(3),
        from_snapshot=request.get("SnapshotName") or "",
        tls=encrypted,
    )
    wanted = Wanted(
        nodes=shape.nodes(cache_id, is_group=is_group),
        node_type=node_type,
        parameter_group=group.name,
        settings=group.settings(node_type),
        groups=location.groups,
        description=request.get("ReplicationGroupDescription") or "",
        automatic_failover=clustered or bool(request.get("AutomaticFailoverEnabled")),
        multi_az=bool(request.get("MultiAZEnabled")),
        tokens=tokens,
        shown={name: request[name] for name in validation.SHOWN if request.get(name) is not None},
    )
    return CacheRecord(facts, wanted, BOOT_SETTINGS, CacheSeen())
