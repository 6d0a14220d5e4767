"""The life of a cache, as a table. Source: Amazon ElastiCache API reference, CacheCluster and ReplicationGroup."""

from emulation.core.states import Table
from emulation.elasticache.observation import CacheStatus as S

CREATED = "Created"
FAIL = "Fail"
MODIFY = "Modify"
REBOOT = "Reboot"
SNAPSHOT = "Snapshot"
DONE = "Done"
DELETE = "Delete"
RELEASED = "Released"

_LIVING = (S.CREATING, S.AVAILABLE, S.MODIFYING, S.REBOOTING, S.SNAPSHOTTING, S.CREATE_FAILED)

CACHE = Table(
    "cache",
    {
        (S.CREATING, CREATED): S.AVAILABLE,
        (S.CREATING, FAIL): S.CREATE_FAILED,
        (S.AVAILABLE, MODIFY): S.MODIFYING,
        (S.MODIFYING, DONE): S.AVAILABLE,
        (S.AVAILABLE, REBOOT): S.REBOOTING,
        (S.REBOOTING, DONE): S.AVAILABLE,
        (S.AVAILABLE, SNAPSHOT): S.SNAPSHOTTING,
        (S.SNAPSHOTTING, DONE): S.AVAILABLE,
        **{(state, DELETE): S.DELETING for state in _LIVING},
        (S.DELETING, RELEASED): S.DELETED,
    },
)
