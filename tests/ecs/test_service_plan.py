"""Decisions about services: told by the plans that they print, and held to their promises in random histories."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulation.ecs.observation import Health, TaskStatus
from emulation.ecs.services import actions as a
from emulation.ecs.services.circuit_breaker import pause_after, threshold
from emulation.ecs.services.deployment import CircuitBreaker, Limits, ProviderShare, RolloutState
from emulation.ecs.services.health import TargetSeen, TaskSeen, Verdict, judge
from emulation.ecs.services.placement import first_to_stop, providers
from tests.ecs.service_world import NOW, World, running, service

BREAKER = CircuitBreaker(enable=True, rollback=True)


def test_a_new_service_starts_all_of_its_tasks() -> None:
    """Nothing runs, three are wanted."""
    assert str(service(3).plan()) == "StartTasks d0 3 — 0 of 3 tasks"


def test_a_service_completes_its_deployment_and_is_steady() -> None:
    """Once every task is healthy; after that there is nothing to do for six hours, when it says so again."""
    world = running(2)
    assert world.desired.primary.rollout is RolloutState.COMPLETED
    assert world.desired.primary.rollout_reason == "ECS deployment d0 completed."
    assert world.desired.steady_at is not None
    plan = world.plan()
    assert (plan.actions, plan.wake_at) == ((), world.desired.steady_at + timedelta(hours=6))


def test_a_dead_task_is_replaced_at_once() -> None:
    """However it died: no pause, for it had been healthy."""
    world = running(2)
    world.die(world.alive[0].id)
    assert "StartTasks d0 1 — 1 of 2 tasks" in world.settle()


def test_a_release_replaces_the_one_before_task_by_task() -> None:
    """At 100 and 200 percent all new tasks start, and each old one goes when a new one is healthy."""
    world = running(2)
    new = world.deploy()
    assert world.settle() == f"StartTasks {new} 2 — 0 of 2 tasks"
    first, second = (t.id for t in world.of(new))
    world.run(first)
    world.judged(first)
    told = world.settle()
    assert "Scaling activity initiated by (deployment d0)" in told
    assert (len(world.of("d0")), len(world.of(new))) == (1, 2)
    world.run(second)
    world.judged(second)
    told = world.settle()
    assert "RetireDeployment d0" in told
    assert f"CompleteDeployment {new} — 2 of 2 tasks are healthy" in told
    assert [d.id for d in world.desired.deployments] == [new]


def test_a_release_without_room_stops_old_tasks_first() -> None:
    """At 50 and 100 percent two of four old tasks make room for the first two new ones."""
    world = running(4, limits=Limits(100, 50))
    new = world.deploy()
    world.settle()
    assert (len(world.of("d0")), len(world.of(new))) == (2, 2)


def test_limits_that_leave_no_room_are_told_of() -> None:
    """One task, at least one and at most one of it: nothing can move, and nothing is taken down."""
    world = running(1, limits=Limits(150, 100))
    world.deploy()
    assert "Report blocked" in world.settle()
    assert len(world.of("d0")) == 1


def test_old_tasks_that_die_are_replaced_while_the_new_release_does_not_work() -> None:
    """The release that works is kept up by tasks of its own."""
    world = running(1)
    new = world.deploy()
    world.works = lambda d: d != new
    world.settle()
    world.die(world.of("d0")[0].id)
    assert "the release before is kept up until the next works" in world.settle()
    assert len(world.of("d0")) == 1


def test_the_circuit_breaker_fails_a_release_and_rolls_back() -> None:
    """After three tasks in a row that failed their checks; the old tasks have stayed all the time."""
    world = running(2, breaker=BREAKER)
    before = {t.id for t in world.of("d0")}
    bad = world.deploy()
    world.works = lambda d: d != bad
    told = ""
    for _ in range(60):
        told += world.settle() + "\n"
        world.step()
    assert f"FailDeployment {bad} — " in told and "the threshold is 3" in told
    assert f"RollBack {bad} d0 — d0 is the last deployment that completed" in told
    assert {t.id for t in world.of("d0")} == before
    assert [(d.id, d.rollout) for d in world.desired.deployments] == [("d0", RolloutState.COMPLETED)]
    assert world.rollbacks == 1


def test_without_rollback_a_failed_release_starts_nothing_more() -> None:
    """The deployment stays FAILED; what works goes on."""
    world = running(2, breaker=CircuitBreaker(enable=True))
    world.watch.append(_keeps_its_promises)
    bad = world.deploy()
    world.works = lambda d: d != bad
    for _ in range(60):
        world.settle()
        world.step()
    assert world.desired.primary.rollout is RolloutState.FAILED
    assert world.desired.primary.rollout_reason == "ECS deployment circuit breaker: tasks failed to start."
    assert (len(world.of(bad)), len(world.healthy)) == (0, 2)


def test_tasks_that_never_run_are_started_at_a_growing_pace() -> None:
    """The first is replaced at once, then the pause doubles, to 27 minutes at most; and it is told of."""
    world = service(1)
    gaps = []
    for _ in range(12):
        before = world.now
        plan = world.plan()
        while not world.alive:
            told = world.settle()
            if not world.alive:
                wake_at = world.plan().wake_at
                assert wake_at is not None, told
                world.now = wake_at
        gaps.append(world.now - before)
        world.die(world.alive[0].id)
        world.tasks = {t.id: replace(t, started_at=None) for t in world.tasks.values()}
    assert [int(g.total_seconds()) for g in gaps[:5]] == [0, 0, 10, 20, 40]
    assert max(gaps) == timedelta(minutes=27)
    assert plan is not None
    world.settle()
    assert a.IMPAIRED in world.desired.reported


def test_an_unhealthy_task_goes_when_its_replacement_is_healthy() -> None:
    """The replacement comes first, within maximumPercent."""
    world = running(2)
    sick = world.alive[0].id
    world.change(sick, health=Health.UNHEALTHY)
    assert world.settle() == "StartTasks d0 1 — 2 of 2 tasks, 1 of them unhealthy"
    new = world.alive[-1].id
    world.run(new)
    world.judged(new)
    assert f"StopUnhealthyTask d0 {sick} — Task failed container health checks" in world.settle()


def test_scale_in_stops_what_serves_nobody_and_then_the_newest() -> None:
    """Of five tasks two stay: the one on its way goes first."""
    world = running(2)
    oldest = [t.id for t in world.alive]
    world.scale(4)
    for _ in range(3):
        world.settle()
        world.step()
    world.scale(5)
    world.settle()
    coming = world.alive[-1].id
    world.scale(2)
    told = world.settle()
    assert f"StopTasks d0 {coming}" in told
    assert [t.id for t in world.alive] == oldest


def test_the_fullest_zone_loses_a_task_first() -> None:
    """Tasks stay spread over the zones."""
    tasks = [
        (TaskSeen(name, "d0", TaskStatus.RUNNING, NOW + timedelta(seconds=n), zone=zone), Verdict.HEALTHY)
        for n, (name, zone) in enumerate([("1", "a"), ("2", "a"), ("3", "b")])
    ]
    assert [t.id for t in first_to_stop(tasks, 2)] == ["2", "3"]


def test_a_deleted_service_drains_and_is_then_inactive() -> None:
    """Tasks stop first, and it is INACTIVE only when the last is gone."""
    world = running(1)
    world.desired = replace(world.desired, active=False)
    assert str(world.plan()).startswith("StopTasks d0 ")
    world.die(world.alive[0].id)
    assert str(world.plan()) == "(nothing to do)"
    world.tasks.clear()
    assert str(world.plan()) == "BecomeInactive — the service is deleted, and has no tasks any more"


def test_a_service_without_capacity_says_so_and_tries_again() -> None:
    """Launch type EC2 in a cluster without instances is accepted, and told of truthfully."""
    world = service(1, no_capacity="No Container Instances were found in your cluster.")
    told = world.settle()
    assert "Report placement — No Container Instances were found in your cluster." in told
    assert world.plan().wake_at is not None
    assert not world.tasks


@pytest.mark.parametrize(("desired", "limit"), [(0, 3), (1, 3), (6, 3), (7, 4), (100, 50), (401, 200), (1000, 200)])
def test_the_threshold_is_half_of_the_tasks_within_3_and_200(desired: int, limit: int) -> None:
    """AWS's formula, rounded up."""
    assert threshold(desired) == limit
    assert pause_after(1) == timedelta(0)


def test_base_and_weight_share_tasks_among_providers() -> None:
    """The first two on FARGATE, of the rest three in four on Spot."""
    strategy = (ProviderShare("FARGATE", weight=1, base=2), ProviderShare("FARGATE_SPOT", weight=3))
    chosen = providers(strategy, (), 10)
    assert chosen[:2] == ("FARGATE", "FARGATE")
    assert (chosen.count("FARGATE"), chosen.count("FARGATE_SPOT")) == (4, 6)


def test_bad_news_counts_after_the_grace_period() -> None:
    """Until then the task waits, and the verdict is known to change at its end."""
    target = TargetSeen("tg", 80, "unhealthy", "Health checks failed with these codes: [404]")
    task = TaskSeen("t", "d0", TaskStatus.RUNNING, NOW, started_at=NOW, targets=(target,))
    grace = timedelta(seconds=60)
    assert judge(task, grace, NOW).changes_at == NOW + grace
    assert judge(task, grace, NOW + grace).verdict is Verdict.UNHEALTHY


def test_a_task_without_checks_counts_after_40_seconds() -> None:
    """The documentation's number."""
    task = TaskSeen("t", "d0", TaskStatus.RUNNING, NOW, started_at=NOW)
    assert judge(task, timedelta(0), NOW).changes_at == NOW + timedelta(seconds=40)
    assert judge(task, timedelta(0), NOW + timedelta(seconds=40)).verdict is Verdict.HEALTHY


# ---- promises, in random histories ----

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["step", "run", "judge", "sick", "die", "deploy", "break", "scale", "sleep"]),
        st.integers(0, 30),
    ),
    max_size=60,
)
LIMITS = st.tuples(st.integers(100, 250), st.integers(0, 100)).filter(lambda pair: pair != (100, 100))


def _keeps_its_promises(world: World, action: a.ServiceAction) -> None:
    desired = world.desired
    if isinstance(action, a.StartTasks):
        allowed = desired.limits.upper(desired.desired_count)
        assert len(world.alive) + len(action.providers) <= allowed, f"{action}: above maximumPercent"
        assert not any(d.rollout is RolloutState.FAILED and d.id == action.deployment for d in desired.deployments)
    if isinstance(action, a.StopTasks):
        left = [t for t in world.healthy if t.id not in action.tasks]
        lost = len(world.healthy) - len(left)
        assert not lost or len(left) >= desired.limits.lower(desired.desired_count), f"{action}: too few are left"


def _happen(world: World, event: str, number: int, broken: set[str]) -> None:
    alive = world.alive
    chosen = alive[number % len(alive)].id if alive else ""
    match event:
        case "step":
            world.step()
        case "sleep":
            world.now += timedelta(minutes=number)
        case "deploy" | "break":
            name = world.deploy()
            if event == "break":
                broken.add(name)
        case "scale":
            world.scale(number % 8)
        case "run" if chosen and world.tasks[chosen].on_the_way:
            world.run(chosen)
        case "judge" if chosen and not world.tasks[chosen].on_the_way:
            world.judged(chosen)
        case "sick" if chosen and not world.tasks[chosen].on_the_way:
            world.change(chosen, health=Health.UNHEALTHY)
        case "die" if chosen:
            world.die(chosen)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 7), LIMITS, st.booleans(), EVENTS)
def test_in_any_history_the_limits_hold_and_a_release_that_works_completes(
    desired_count: int, limits: tuple[int, int], breaker: bool, events: list[tuple[str, int]]
) -> None:
    """Never above maximumPercent, never below minimumHealthyPercent by our own doing; and it converges in the end."""
    world = service(desired_count, limits=Limits(*limits), breaker=BREAKER if breaker else CircuitBreaker())
    broken: set[str] = set()
    world.works = lambda d: d not in broken
    world.watch.append(_keeps_its_promises)
    for event, number in events:
        world.settle()
        _happen(world, event, number, broken)
    world.settle()
    world.deploy()  # one that works, and nothing else goes wrong any more
    for _ in range(40):
        world.settle()
        world.step()
    world.settle()
    count = world.desired.desired_count
    if (
        world.desired.limits.upper(count) == world.desired.limits.lower(count) > 0
        and len(world.desired.deployments) > 1
    ):
        return  # its configuration blocks it, which test_limits_that_leave_no_room_are_told_of is about
    assert [d.rollout for d in world.desired.deployments] == [RolloutState.COMPLETED]
    assert len(world.healthy) == len(world.alive) == count


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), LIMITS, st.lists(st.integers(0, 30), max_size=6))
def test_a_release_that_never_works_is_rolled_back_once_and_leaves_the_service_healthy(
    desired_count: int, limits: tuple[int, int], deaths: list[int]
) -> None:
    """Even while old tasks die; the service never serves with fewer than the limits allow, but for the deaths."""
    world = running(desired_count, limits=Limits(*limits), breaker=BREAKER)
    bad = world.deploy()
    world.works = lambda d: d != bad
    world.watch.append(_keeps_its_promises)
    for death in [*deaths, *[None] * 80]:
        world.settle()
        if death is not None and world.alive:
            world.die(world.alive[death % len(world.alive)].id)
            world.settle()
        world.step()
    world.settle()
    assert world.rollbacks <= 1
    if len(deaths) >= 3 and world.desired.primary.rollout is RolloutState.FAILED:
        return  # tasks of the release before died as well: as on AWS, what is rolled back to has no way back itself
    if len(world.desired.deployments) == 1:
        assert world.desired.primary.id == "d0"
        assert len(world.healthy) == desired_count
    else:
        assert world.desired.limits.upper(desired_count) == world.desired.limits.lower(desired_count)
