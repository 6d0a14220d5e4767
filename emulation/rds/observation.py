"""What a DB instance wants to be and what it is: the two values from which `plan_instance` decides.

Source: Viewing Amazon RDS DB instance status; Modifying an Amazon RDS DB instance.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class InstanceStatus(StrEnum):
    CREATING = "creating"
    BACKING_UP = "backing-up"
    AVAILABLE = "available"
    MODIFYING = "modifying"
    RESETTING = "resetting-master-credentials"
    REBOOTING = "rebooting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    INCOMPATIBLE_PARAMETERS = "incompatible-parameters"
    FAILED = "failed"
    DELETING = "deleting"


class Server(StrEnum):
    """The process behind the endpoint."""

    ABSENT = "ABSENT"
    RUNNING = "RUNNING"
    DEAD = "DEAD"
    """It ran, and ended without having been asked to."""


Parameters = tuple[tuple[str, str], ...]
"""Names and values for the server, by name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All of an instance that can be changed in its life.

    `parameters` are those of the parameter group that are in force without a restart, `static_parameters` the others.
    """

    master_password: str = field(repr=False)
    port: int
    parameter_group: str
    parameters: Parameters
    static_parameters: Parameters
    security_groups: tuple[str, ...]
    instance_class: str
    allocated_storage: int
    storage_type: str
    backup_retention_days: int

    def __str__(self) -> str:
        return "settings"


@dataclass(frozen=True, slots=True)
class Deletion:
    """`final_snapshot` is the identifier of the snapshot to take before, '' for none."""

    final_snapshot: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What the API has been asked for.

    `later` are settings that wait for the maintenance window, which opens next at `window`. `snapshots` are the
    identifiers of snapshots that were asked for and are not there yet; `reboots` counts what was asked for.
    """

    settings: Settings
    later: Settings | None = None
    window: datetime | None = None
    running: bool = True
    reboots: int = 0
    snapshots: tuple[str, ...] = ()
    deletion: Deletion | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """`applied` are the settings that the server runs with, None before its first start.

    `busy` is the step under way, '' for none; `failure` says why the last start failed. `stopped_at` is set while the
    instance is stopped.
    """

    status: InstanceStatus
    server: Server = Server.ABSENT
    applied: Settings | None = None
    busy: str = ""
    failure: str = ""
    reboots: int = 0
    backed_up: bool = False
    stopped_at: datetime | None = None
    released: bool = False
