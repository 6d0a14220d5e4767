"""What a cache should be and what was seen of it, as values. A cache is a cluster on its own or a replication group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto


class CacheStatus(StrEnum):
    """CacheClusterStatus, and the Status of a replication group."""

    CREATING = "creating"
    AVAILABLE = "available"
    MODIFYING = "modifying"
    REBOOTING = "rebooting cluster nodes"
    SNAPSHOTTING = "snapshotting"
    CREATE_FAILED = "create-failed"
    DELETING = "deleting"
    DELETED = "deleted"


class Server(Enum):
    """The server behind a node. ENDED: by itself, which nobody had asked for."""

    NONE = auto()
    RUNNING = auto()
    ENDED = auto()


class Role(StrEnum):
    """What a node answers for besides its own endpoint: endpoints of its replication group."""

    PRIMARY = "primary"
    READER = "reader"
    CONFIGURATION = "configuration"


@dataclass(frozen=True)
class NodeDesired:
    """`node_id` is the member's cache cluster id; nodes of one `shard` hold the same data."""

    node_id: str
    shard: int = 0


@dataclass(frozen=True)
class Failover:
    """TestFailover of a shard; `number` tells one request from the next."""

    shard: int
    number: int


@dataclass(frozen=True)
class CacheDesired:
    """`settings` are the server's; `groups` the security groups. `reboots` counts what was asked for, by node.

    `snapshots` are names that have been asked for, oldest first; the last one of a deleted cache is its final one.
    `boot_settings` names the settings that a server takes at its start only.
    """

    nodes: tuple[NodeDesired, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    boot_settings: frozenset[str] = frozenset()
    groups: tuple[str, ...] = ()
    clustered: bool = False
    endpoints: bool = False
    reboots: Mapping[str, int] = field(default_factory=dict)
    failover: Failover | None = None
    snapshots: tuple[str, ...] = ()
    deleted: bool = False


@dataclass(frozen=True)
class NodeSeen:
    """`settings` and `groups` are those applied; `follows` the node that it replicates; `busy`: a step is under way.

    `how` says how the server ended. It is not started before `retry_at`.
    """

    server: Server = Server.NONE
    how: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    follows: str = ""
    roles: frozenset[Role] = frozenset()
    reboots: int = 0
    busy: bool = False
    started_once: bool = False
    retry_at: datetime | None = None


@dataclass(frozen=True)
class CacheSeen:
    """`primaries` by shard; `formed` that the cluster's slots are assigned; `busy` a step that concerns all nodes.

    `failure` is why a creation or a final snapshot failed. Nothing is tried before `retry_at`.
    """

    status: CacheStatus = CacheStatus.CREATING
    nodes: Mapping[str, NodeSeen] = field(default_factory=dict)
    primaries: Mapping[int, str] = field(default_factory=dict)
    formed: bool = False
    failover: int = 0
    snapshots: frozenset[str] = frozenset()
    busy: bool = False
    released: bool = False
    failure: str = ""
    retry_at: datetime | None = None

    def node(self, node_id: str) -> NodeSeen:
        return self.nodes.get(node_id, NodeSeen())
