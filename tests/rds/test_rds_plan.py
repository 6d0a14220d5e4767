"""The planner of DB instances: what it does next, and what it never does whatever happens."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.rds import states
from emulation.rds.observation import Deletion, Desired, InstanceStatus, Observed, Server, Settings
from emulation.rds.plan import (
    AdoptLater,
    ApplySettings,
    InstanceAction,
    Move,
    Release,
    RestartServer,
    StartServer,
    StopServer,
    TakeSnapshot,
    WantToRun,
    awaits_reboot,
    plan_instance,
)

NOW = datetime(2024, 1, 1, tzinfo=UTC)
S = InstanceStatus
SETTINGS = Settings("secret-secret", 5432, "default.postgres16", (), (), ("sg-1",), "db.t3.micro", 20, "gp2", 1)
LIVING = Observed(S.AVAILABLE, Server.RUNNING, SETTINGS, backed_up=True)


@pytest.mark.parametrize(
    ("desired", "observed", "expected"),
    [
        (Desired(SETTINGS), Observed(S.CREATING), "StartServer settings — the instance has no server yet"),
        (Desired(SETTINGS), replace(LIVING, status=S.CREATING), "Move Created — the server accepts connections"),
        (Desired(SETTINGS), LIVING, "(nothing to do)"),
        (Desired(SETTINGS, running=False), LIVING, "Move Stop — StopDBInstance"),
        (Desired(SETTINGS, reboots=1), LIVING, "Move Reboot — RebootDBInstance"),
        (Desired(SETTINGS, snapshots=("s",)), LIVING, "Move Backup — CreateDBSnapshot"),
        (
            Desired(replace(SETTINGS, master_password="another-secret")),
            LIVING,
            "Move ResetCredentials — the master password is changed",
        ),
        (Desired(replace(SETTINGS, allocated_storage=30)), LIVING, "Move Modify — ModifyDBInstance"),
        (
            Desired(SETTINGS),
            replace(LIVING, server=Server.DEAD),
            "RestartServer settings — the server died; its data is recovered",
        ),
        (
            Desired(replace(SETTINGS, allocated_storage=30)),
            replace(LIVING, status=S.MODIFYING, server=Server.DEAD),
            "RestartServer settings — the server died; its data is recovered",
        ),
        (
            Desired(SETTINGS),
            replace(LIVING, server=Server.ABSENT, failure="the disk is broken"),
            "Move Fail — the disk is broken",
        ),
        (
            Desired(replace(SETTINGS, port=5433)),
            replace(LIVING, status=S.MODIFYING),
            "RestartServer settings — the new port or class needs a restart",
        ),
        (
            Desired(SETTINGS, deletion=Deletion("last"), snapshots=("last",)),
            replace(LIVING, status=S.DELETING),
            "TakeSnapshot last — the final snapshot",
        ),
        (
            Desired(SETTINGS, reboots=1),
            replace(LIVING, status=S.REBOOTING, reboots=1, server=Server.ABSENT, failure="bad value"),
            "Move ParametersDoNotFit — bad value",
        ),
    ],
)
def test_what_is_done_next(desired: Desired, observed: Observed, expected: str) -> None:
    """Each wish has its step, and each step says why."""
    assert str(plan_instance(desired, observed, NOW)) == expected


def test_static_parameters_wait_for_a_reboot_and_dynamic_ones_do_not() -> None:
    """A static parameter alone changes nothing until somebody reboots; a dynamic one is applied at once."""
    wanted = replace(SETTINGS, parameters=(("work_mem", "8192"),), static_parameters=(("max_connections", "17"),))
    assert awaits_reboot(wanted, SETTINGS)
    modifying = replace(LIVING, status=S.MODIFYING)
    (applied,) = plan_instance(Desired(wanted), modifying, NOW).actions
    assert isinstance(applied, ApplySettings)
    assert applied.settings == replace(SETTINGS, parameters=wanted.parameters)
    after = replace(LIVING, applied=applied.settings)
    assert plan_instance(Desired(wanted), after, NOW).actions == ()
    rebooting = replace(after, status=S.REBOOTING)
    (restarted,) = plan_instance(Desired(wanted, reboots=1), rebooting, NOW).actions
    assert restarted == RestartServer(wanted, "RebootDBInstance")


def test_a_new_parameter_group_acts_as_a_whole_after_a_reboot() -> None:
    """Also its dynamic parameters: the group is not the server's until then."""
    wanted = replace(SETTINGS, parameter_group="mine", parameters=(("work_mem", "8192"),))
    assert plan_instance(Desired(wanted), LIVING, NOW).actions == ()
    assert awaits_reboot(wanted, SETTINGS)


def test_what_waits_for_the_window_wakes_the_planner_when_it_opens() -> None:
    """Not before, and without anybody asking."""
    later = replace(SETTINGS, allocated_storage=50)
    desired = Desired(SETTINGS, later=later, window=NOW + timedelta(days=2))
    plan = plan_instance(desired, LIVING, NOW)
    assert (plan.actions, plan.wake_at) == ((), NOW + timedelta(days=2))
    (action,) = plan_instance(desired, LIVING, NOW + timedelta(days=2)).actions
    assert isinstance(action, AdoptLater)


def test_a_stopped_instance_is_started_after_seven_days() -> None:
    """As on AWS, where stopping is temporary."""
    stopped = replace(LIVING, status=S.STOPPED, server=Server.ABSENT, stopped_at=NOW)
    desired = Desired(SETTINGS, running=False)
    assert plan_instance(desired, stopped, NOW).wake_at == NOW + timedelta(days=7)
    (action,) = plan_instance(desired, stopped, NOW + timedelta(days=7)).actions
    assert isinstance(action, WantToRun)


class World:
    """An instance that does what the plan says at once."""

    def __init__(self) -> None:
        self.desired = Desired(SETTINGS)
        self.seen = Observed(S.CREATING)
        self.now = NOW
        self.snapshots: list[str] = []
        self.history: list[str] = []

    def settle(self) -> None:
        for _ in range(60):
            plan = plan_instance(self.desired, self.seen, self.now)
            assert plan.wake_at is None or plan.wake_at > self.now
            if not plan.actions:
                return
            for action in plan.actions:
                self.history.append(str(action))
                self.do(action)
        raise AssertionError("it does not come to rest:\n" + "\n".join(self.history[-8:]))

    def do(self, action: InstanceAction) -> None:
        match action:
            case StartServer(settings=settings):
                assert self.seen.server is not Server.RUNNING, "a second server on the same data would ruin them"
                self.seen = replace(self.seen, server=Server.RUNNING, applied=settings)
            case RestartServer(settings=settings):
                self.seen = replace(self.seen, server=Server.RUNNING, applied=settings, reboots=self.desired.reboots)
            case StopServer():
                self.seen = replace(self.seen, server=Server.ABSENT)
            case ApplySettings(settings=settings):
                assert self.seen.server is Server.RUNNING
                self.seen = replace(self.seen, applied=settings)
            case TakeSnapshot(snapshot=snapshot):
                self.snapshots.append(snapshot)
                left = tuple(s for s in self.desired.snapshots if s != snapshot)
                self.desired = replace(self.desired, snapshots=left)
                self.seen = replace(self.seen, backed_up=True)
            case AdoptLater():
                assert self.desired.later is not None
                self.desired = replace(self.desired, settings=self.desired.later, later=None, window=None)
            case WantToRun():
                self.desired = replace(self.desired, running=True)
            case Release():
                self.seen = replace(self.seen, server=Server.ABSENT, released=True)
            case Move(event=event):
                after = states.INSTANCE.next(self.seen.status, event)
                at = self.now if after is S.STOPPED else None
                self.seen = replace(self.seen, status=after, stopped_at=at, failure="")


WISHES = st.lists(
    st.sampled_from(
        ["stop", "start", "reboot", "snapshot", "grow", "password", "port", "static", "later", "die", "week"]
    ),
    max_size=12,
)


@given(wishes=WISHES, settle=st.lists(st.booleans(), min_size=12, max_size=12), final=st.booleans())
def test_whatever_is_asked_for_it_comes_to_rest_as_it_was_asked(
    wishes: list[str], settle: list[bool], final: bool
) -> None:
    """Every wish is fulfilled in the end, no illegal transition happens, and deletion leaves nothing, after a last
    snapshot where one was asked for."""
    world = World()
    world.settle()
    for wish, rest in zip(wishes, settle, strict=False):
        d = world.desired
        if wish in ("stop", "start"):
            world.desired = replace(d, running=wish == "start")
        elif wish == "reboot":
            world.desired = replace(d, reboots=d.reboots + 1)
        elif wish == "snapshot":
            world.desired = replace(d, snapshots=(*d.snapshots, f"s{len(world.snapshots)}"))
        elif wish == "grow":
            world.desired = replace(d, settings=replace(d.settings, allocated_storage=d.settings.allocated_storage + 1))
        elif wish == "password":
            world.desired = replace(d, settings=replace(d.settings, master_password=d.settings.master_password + "x"))
        elif wish == "port":
            world.desired = replace(d, settings=replace(d.settings, port=d.settings.port + 1))
        elif wish == "static":
            world.desired = replace(d, settings=replace(d.settings, static_parameters=(("max_connections", "9"),)))
        elif wish == "later":
            later = replace(d.settings, instance_class="db.m5.large")
            world.desired = replace(d, later=later, window=world.now + timedelta(days=1))
        elif wish == "die" and world.seen.server is Server.RUNNING:
            world.seen = replace(world.seen, server=Server.DEAD)
        elif wish == "week":
            world.now += timedelta(days=7)
        if rest:
            world.settle()
    world.settle()
    assert world.seen.status is (S.AVAILABLE if world.desired.running else S.STOPPED)
    assert (world.seen.server is Server.RUNNING) == world.desired.running
    assert world.desired.snapshots == ()
    if world.desired.running:
        assert world.seen.applied is not None
        assert world.seen.applied.master_password == world.desired.settings.master_password
        assert world.seen.applied.allocated_storage == world.desired.settings.allocated_storage
        assert world.seen.applied.port == world.desired.settings.port
    last = ("last",) if final else ()
    world.desired = replace(world.desired, deletion=Deletion("last" if final else ""), snapshots=last)
    world.settle()
    assert world.seen.released
    assert world.seen.status is S.DELETING
    assert (world.snapshots[-1:] == ["last"]) == final
