"""The life of a DB instance, as a table. Source: Viewing Amazon RDS DB instance status."""

from emulation.core.states import Table
from emulation.rds.observation import InstanceStatus as S

CREATED = "Created"
BACKUP = "Backup"
BACKED_UP = "BackedUp"
MODIFY = "Modify"
MODIFIED = "Modified"
RESET = "ResetCredentials"
REBOOT = "Reboot"
REBOOTED = "Rebooted"
STOP = "Stop"
STOPPED = "Stopped"
START = "Start"
STARTED = "Started"
MISFIT = "ParametersDoNotFit"
FAIL = "Fail"
DELETE = "Delete"

_MAY_BE_DELETED = (S.CREATING, S.BACKING_UP, S.AVAILABLE, S.STOPPED, S.INCOMPATIBLE_PARAMETERS, S.FAILED)
_STARTS_A_SERVER = (S.MODIFYING, S.REBOOTING, S.STARTING)

INSTANCE = Table(
    "DB instance",
    {
        (S.CREATING, CREATED): S.BACKING_UP,
        (S.CREATING, FAIL): S.FAILED,
        (S.BACKING_UP, BACKED_UP): S.AVAILABLE,
        (S.AVAILABLE, BACKUP): S.BACKING_UP,
        (S.AVAILABLE, MODIFY): S.MODIFYING,
        (S.MODIFYING, MODIFIED): S.AVAILABLE,
        (S.AVAILABLE, RESET): S.RESETTING,
        (S.RESETTING, MODIFIED): S.AVAILABLE,
        (S.AVAILABLE, REBOOT): S.REBOOTING,
        (S.REBOOTING, REBOOTED): S.AVAILABLE,
        (S.AVAILABLE, STOP): S.STOPPING,
        (S.AVAILABLE, FAIL): S.FAILED,
        (S.STOPPING, STOPPED): S.STOPPED,
        (S.STOPPED, START): S.STARTING,
        (S.STARTING, STARTED): S.AVAILABLE,
        (S.INCOMPATIBLE_PARAMETERS, REBOOT): S.REBOOTING,
        **{(state, MISFIT): S.INCOMPATIBLE_PARAMETERS for state in _STARTS_A_SERVER},
        **{(state, DELETE): S.DELETING for state in _MAY_BE_DELETED},
    },
)
