"""The cache and the snapshot as the API knows them: what was asked for, and the last that was seen.

`wanted` is written on the API thread only, `seen` and `places` by the cache's loop only; each is a frozen value that is
replaced as a whole, so that either side may read the other's at any time.

Source: Amazon ElastiCache API reference, CacheCluster, ReplicationGroup, Snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from emulation.elasticache.observation import CacheDesired, CacheSeen, CacheStatus, Failover, NodeDesired
from emulation.elasticache.plan import Move, plan_cache
from emulation.elasticache.states import CACHE

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
"""When whatever waits to be tried again has its turn."""

KeptRule = tuple[str, str, int, int, str]
"""An ingress rule of a security group: (group, protocol, from port, to port, range or group)."""


@dataclass(frozen=True)
class Facts:
    """What a cache was created with, and keeps. `version` is the server's; `subnets` are (id, zone)."""

    account: str
    region: str
    partition: str
    cache_id: str
    is_group: bool
    engine: str
    asked_version: str
    version: str
    port: int
    subnet_group: str
    vpc_id: str
    subnets: tuple[tuple[str, str], ...]
    clustered: bool
    created_at: datetime
    password: str
    domain: str
    from_snapshot: str = ""
    tls: bool = False

    @property
    def arn(self) -> str:
        return self.arn_of("replicationgroup" if self.is_group else "cluster", self.cache_id)

    def arn_of(self, kind: str, name: str) -> str:
        return f"arn:{self.partition}:elasticache:{self.region}:{self.account}:{kind}:{name}"


@dataclass(frozen=True)
class Wanted:
    """What can be modified. `settings` are those of the parameter group, for the node type.

    `shown` are values of the API that have no effect here (maintenance window, notification topic). Each of `tokens`
    opens the cache (AUTH); none means that everybody is let in.
    """

    nodes: tuple[NodeDesired, ...]
    node_type: str
    parameter_group: str
    settings: Mapping[str, str]
    groups: tuple[str, ...]
    description: str = ""
    automatic_failover: bool = False
    multi_az: bool = False
    reboots: Mapping[str, int] = field(default_factory=dict)
    failover: Failover | None = None
    snapshots: tuple[str, ...] = ()
    deleted: bool = False
    shown: Mapping[str, Any] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Addresses of the host by node id or role, and each node's zone and private address."""

    addresses: Mapping[str, IPv4Address] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)


class CacheRecord:
    """A cache cluster on its own, or a replication group. `boot_settings` are those that a server takes at its start.

    `restored` says that it was there before the emulator was restarted, and its servers have data; `rules` are those
    that its security groups had then, for EC2 has forgotten them.
    """

    def __init__(
        self, facts: Facts, wanted: Wanted, boot_settings: frozenset[str], seen: CacheSeen, *, restored: bool = False
    ) -> None:
        self.facts, self.wanted, self.seen = facts, wanted, seen
        self.boot_settings = boot_settings
        self.restored = restored
        self.places = Places()
        self.rules: tuple[KeptRule, ...] = ()

    @property
    def desired(self) -> CacheDesired:
        wanted = self.wanted
        return CacheDesired(
            nodes=wanted.nodes,
            settings={**wanted.settings, "requirepass": " ".join(wanted.tokens)},
            boot_settings=self.boot_settings,
            groups=wanted.groups,
            clustered=self.facts.clustered,
            endpoints=self.facts.is_group,
            reboots=wanted.reboots,
            failover=wanted.failover,
            snapshots=wanted.snapshots,
            deleted=wanted.deleted,
        )

    @property
    def status(self) -> CacheStatus:
        """What the API shows. What was asked of an available cache shows at once, before its loop has seen it."""
        status = self.seen.status
        if status is CacheStatus.AVAILABLE:
            for action in plan_cache(self.desired, self.seen, _END_OF_TIME).actions:
                if isinstance(action, Move):
                    return CACHE.next(status, action.event)
        return status

    def node_ids(self) -> tuple[str, ...]:
        return tuple(node.node_id for node in self.wanted.nodes)

    def primary(self, shard: int = 0) -> str:
        first = next(node.node_id for node in self.wanted.nodes if node.shard == shard)
        return self.seen.primaries.get(shard, first)


@dataclass
class SnapshotRecord:
    """`described` is what the API shows of the cache that it is of. Its data is a file by its name."""

    name: str
    account: str
    region: str
    arn: str
    cache_id: str
    is_group: bool
    described: Mapping[str, Any]
    at: datetime
    status: str = "creating"


def names(facts: Facts, wanted: Wanted) -> dict[str, str]:
    """DNS names in AWS's form, by node id and role. Emulation: they resolve in tasks only.

    Source: Finding connection endpoints.
    """
    suffix = f"{facts.domain}.{'clustercfg' if facts.clustered else 'ng'}.0001.{_short(facts.region)}"
    ending = "cache.amazonaws.com"
    made = {
        node.node_id: f"{node.node_id}.{facts.domain}.{node.shard + 1:04}.{_short(facts.region)}.{ending}"
        for node in wanted.nodes
    }
    if facts.is_group and facts.clustered:
        made["configuration"] = f"{facts.cache_id}.{facts.domain}.clustercfg.{_short(facts.region)}.{ending}"
    elif facts.is_group:
        made["primary"] = f"{facts.cache_id}.{suffix}.{ending}"
        made["reader"] = f"{facts.cache_id}-ro.{suffix}.{ending}"
    return made


def _short(region: str) -> str:
    """us-east-1 → use1."""
    area, _, rest = region.partition("-")
    direction, _, number = rest.rpartition("-")
    return f"{area}{''.join(word[0] for word in direction.split('-'))}{number}"
