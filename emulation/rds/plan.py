"""What to do next with a DB instance. Pure: values in, a plan out.

Theory of operation. One slow step at a time is under way; its end is observed, and the next plan goes on from there.
An instance that is available looks, in this order, for: deletion, a stop, a server that died, settings to apply,
a reboot, snapshots to take. Each but the recovery has a status of its own while it lasts.

Source: Amazon RDS DB instance lifecycle; Viewing Amazon RDS DB instance status; The Amazon RDS maintenance window.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from emulation.core.plan import Action, Plan
from emulation.rds import states
from emulation.rds.observation import Desired, InstanceStatus, Observed, Server, Settings

LONGEST_STOP = timedelta(days=7)
"""Source: Stopping an Amazon RDS DB instance temporarily: it is started again after seven days."""

AUTOMATED = ""
"""The snapshot identifier that means: an automated backup."""


@dataclass(frozen=True)
class StartServer(Action):
    """Starts the server with these settings, on a new data folder, a snapshot's copy or the one that is there."""

    settings: Settings
    cause: str


@dataclass(frozen=True)
class StopServer(Action):
    cause: str


@dataclass(frozen=True)
class RestartServer(Action):
    settings: Settings
    cause: str


@dataclass(frozen=True)
class ApplySettings(Action):
    """What can be changed while the server runs: password, dynamic parameters, security groups, mere figures."""

    settings: Settings
    cause: str


@dataclass(frozen=True)
class AdoptLater(Action):
    """The maintenance window is open: what waited for it is wanted now."""

    cause: str


@dataclass(frozen=True)
class TakeSnapshot(Action):
    """AUTOMATED for an automated one."""

    snapshot: str
    cause: str


@dataclass(frozen=True)
class WantToRun(Action):
    """The emulation itself decides that a stopped instance is to be started."""

    cause: str


@dataclass(frozen=True)
class Release(Action):
    """Server, data, interface and address are given back."""

    cause: str


@dataclass(frozen=True)
class Move(Action):
    event: str
    cause: str


InstanceAction = (
    StartServer
    | StopServer
    | RestartServer
    | ApplySettings
    | AdoptLater
    | TakeSnapshot
    | WantToRun
    | Release
    | Move
)  # fmt: skip


def plan_instance(desired: Desired, observed: Observed, now: datetime) -> Plan[InstanceAction]:
    if observed.busy:
        return Plan()
    match observed.status:
        case InstanceStatus.CREATING:
            return _create(desired, observed)
        case InstanceStatus.BACKING_UP:
            return _back_up(desired, observed)
        case InstanceStatus.AVAILABLE:
            return _live(desired, observed, now)
        case InstanceStatus.MODIFYING | InstanceStatus.RESETTING:
            return _modify(desired, observed)
        case InstanceStatus.REBOOTING:
            return _reboot(desired, observed)
        case InstanceStatus.STOPPING:
            return _stop(observed)
        case InstanceStatus.STOPPED:
            return _rest(desired, observed, now)
        case InstanceStatus.STARTING:
            return _start(desired, observed, states.STARTED, "the server accepts connections")
        case InstanceStatus.DELETING:
            return _delete(desired, observed)
        case InstanceStatus.INCOMPATIBLE_PARAMETERS:
            return _misfit(desired, observed)
        case InstanceStatus.FAILED:
            return Plan((Move(states.DELETE, "DeleteDBInstance"),)) if desired.deletion else Plan()


def needs_restart(settings: Settings, applied: Settings) -> bool:
    """Whether what was asked for reaches the server by a restart that nobody else has to ask for."""
    return (settings.port, settings.instance_class) != (applied.port, applied.instance_class)


def awaits_reboot(settings: Settings, applied: Settings | None) -> bool:
    """Whether a reboot is pending: AWS's pending-reboot of a parameter group."""
    if applied is None:
        return False
    same = (applied.static_parameters, applied.parameter_group)
    return (settings.static_parameters, settings.parameter_group) != same


def reachable_without_reboot(settings: Settings, applied: Settings) -> Settings:
    """The settings, with the static parameters (and a new group altogether) as they are.

    Source: Working with parameter groups: a newly associated group acts after a reboot, dynamic parameters of the
    associated one at once, static ones after a reboot.
    """
    if settings.parameter_group != applied.parameter_group:
        return replace(
            settings,
            parameter_group=applied.parameter_group,
            parameters=applied.parameters,
            static_parameters=applied.static_parameters,
        )
    return replace(settings, static_parameters=applied.static_parameters)


def _create(desired: Desired, observed: Observed) -> Plan[InstanceAction]:
    if desired.deletion:
        return Plan((Move(states.DELETE, "DeleteDBInstance"),))
    if observed.failure:
        return Plan((Move(states.FAIL, observed.failure),))
    if observed.server is not Server.RUNNING:
        return Plan((StartServer(desired.settings, "the instance has no server yet"),))
    return Plan((Move(states.CREATED, "the server accepts connections"),))


def _back_up(desired: Desired, observed: Observed) -> Plan[InstanceAction]:
    if not observed.backed_up:
        if desired.settings.backup_retention_days:
            return Plan((TakeSnapshot(AUTOMATED, "the first backup of a new instance"),))
    elif desired.snapshots and not desired.deletion:
        return Plan((TakeSnapshot(desired.snapshots[0], "CreateDBSnapshot"),))
    return Plan((Move(states.BACKED_UP, "the data is in the snapshot"),))


def _live(desired: Desired, observed: Observed, now: datetime) -> Plan[InstanceAction]:
    applied = observed.applied
    assert applied is not None, "an available instance has been started"
    if desired.deletion:
        return Plan((Move(states.DELETE, "DeleteDBInstance"),))
    if not desired.running:
        return Plan((Move(states.STOP, "StopDBInstance"),))
    if observed.failure:
        return Plan((Move(states.FAIL, observed.failure),))
    if observed.server is not Server.RUNNING:
        return Plan((RestartServer(applied, "the server died; its data is recovered"),))
    if desired.later is not None and desired.window is not None and desired.window <= now:
        return Plan((AdoptLater("the maintenance window is open"),))
    wanted = reachable_without_reboot(desired.settings, applied)
    if wanted != applied:
        only_password = replace(wanted, master_password=applied.master_password) == applied
        if only_password:
            return Plan((Move(states.RESET, "the master password is changed"),))
        return Plan((Move(states.MODIFY, "ModifyDBInstance"),))
    if desired.reboots > observed.reboots:
        return Plan((Move(states.REBOOT, "RebootDBInstance"),))
    if desired.snapshots:
        return Plan((Move(states.BACKUP, "CreateDBSnapshot"),))
    return Plan((), desired.window if desired.later is not None else None)


def _modify(desired: Desired, observed: Observed) -> Plan[InstanceAction]:
    applied = observed.applied
    assert applied is not None
    if observed.server is Server.DEAD:
        return Plan((RestartServer(applied, "the server died; its data is recovered"),))
    if observed.failure:
        return Plan((Move(states.MISFIT, observed.failure),))
    wanted = reachable_without_reboot(desired.settings, applied)
    if wanted == applied:
        return Plan((Move(states.MODIFIED, "all settings are in force"),))
    if observed.status is InstanceStatus.MODIFYING and needs_restart(wanted, applied):
        # A restart brings the static parameters with it, as the reboot that AWS's change of class is.
        return Plan((RestartServer(desired.settings, "the new port or class needs a restart"),))
    return Plan((ApplySettings(wanted, "the settings were changed"),))


def _reboot(desired: Desired, observed: Observed) -> Plan[InstanceAction]:
    if observed.failure:
        return Plan((Move(states.MISFIT, observed.failure),))
    if desired.reboots > observed.reboots:
        return Plan((RestartServer(desired.settings, "RebootDBInstance"),))
    return Plan((Move(states.REBOOTED, "the server accepts connections"),))


def _stop(observed: Observed) -> Plan[InstanceAction]:
    if observed.server is Server.RUNNING:
        return Plan((StopServer("StopDBInstance"),))
    return Plan((Move(states.STOPPED, "the server has ended"),))


def _rest(desired: Desired, observed: Observed, now: datetime) -> Plan[InstanceAction]:
    if desired.deletion:
        return Plan((Move(states.DELETE, "DeleteDBInstance"),))
    if desired.running:
        return Plan((Move(states.START, "StartDBInstance"),))
    if desired.snapshots:
        return Plan((TakeSnapshot(desired.snapshots[0], "CreateDBSnapshot"),))
    if observed.stopped_at is None:
        return Plan()
    until = observed.stopped_at + LONGEST_STOP
    if now >= until:
        return Plan((WantToRun("stopped for seven days"),))
    return Plan((), until)


def _start(desired: Desired, observed: Observed, event: str, cause: str) -> Plan[InstanceAction]:
    if observed.failure:
        return Plan((Move(states.MISFIT, observed.failure),))
    if observed.server is not Server.RUNNING:
        return Plan((StartServer(desired.settings, "StartDBInstance"),))
    return Plan((Move(event, cause),))


def _misfit(desired: Desired, observed: Observed) -> Plan[InstanceAction]:
    if desired.deletion:
        return Plan((Move(states.DELETE, "DeleteDBInstance"),))
    if desired.reboots > observed.reboots:
        return Plan((Move(states.REBOOT, "RebootDBInstance"),))
    return Plan()


def _delete(desired: Desired, observed: Observed) -> Plan[InstanceAction]:
    if observed.released:
        return Plan()
    final = desired.deletion.final_snapshot if desired.deletion else ""
    if final and final in desired.snapshots:
        return Plan((TakeSnapshot(final, "the final snapshot"),))
    return Plan((Release("DeleteDBInstance"),))
