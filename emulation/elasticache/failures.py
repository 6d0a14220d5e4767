"""Errors of ElastiCache, by AWS's codes. Source: Amazon ElastiCache API reference, Common errors and each action's."""

from emulation.errors import SunaboxError


class ElastiCacheError(SunaboxError):
    """`code` is AWS's; the message is shown as it is."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def invalid_value(message: str) -> ElastiCacheError:
    return ElastiCacheError("InvalidParameterValue", message)


def invalid_combination(message: str) -> ElastiCacheError:
    return ElastiCacheError("InvalidParameterCombination", message)


def invalid_cluster_state(message: str) -> ElastiCacheError:
    return ElastiCacheError("InvalidCacheClusterState", message)


def invalid_group_state(message: str) -> ElastiCacheError:
    return ElastiCacheError("InvalidReplicationGroupState", message)


def not_emulated(message: str) -> ElastiCacheError:
    """What Sunabox does not do, and does not pretend to do."""
    return ElastiCacheError("NotImplemented", f"Sunabox does not emulate this: {message}")


def cluster_not_found(cluster_id: str) -> ElastiCacheError:
    return ElastiCacheError("CacheClusterNotFound", f"CacheCluster not found: {cluster_id}")


def group_not_found(group_id: str) -> ElastiCacheError:
    return ElastiCacheError("ReplicationGroupNotFoundFault", f"ReplicationGroup {group_id} not found.")


def snapshot_not_found(name: str) -> ElastiCacheError:
    return ElastiCacheError("SnapshotNotFoundFault", f"Snapshot {name} not found.")
