"""What to do next for a service. Pure: values in, a plan out.

Theory of operation. The PRIMARY deployment has to have `desired_count` tasks; superseded ones go, as fast as the limits
allow. Two rules hold at every instant: nothing is started beyond maximumPercent, counting all tasks that run or are on
their way to it, and no healthy task is stopped that would leave fewer healthy ones than minimumHealthyPercent. So a
release whose tasks never become healthy takes down none of the old ones beyond what the limits permit; old tasks that
die meanwhile are replaced by the old release.

A plan has one kind of concern at a time, the first that applies: take account of tasks that ended or became healthy;
give up a deployment; start and stop tasks; tell that all is as it should be. After each plan with actions the service
is looked at again.

Source: Amazon ECS services (service scheduler concepts); Deploy Amazon ECS services by replacing tasks; A deep dive
into Amazon ECS task health and task replacement.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from emulation.core.plan import Plan
from emulation.ecs.services import actions as a
from emulation.ecs.services import circuit_breaker
from emulation.ecs.services.deployment import Deployment, RolloutState, ServiceDesired
from emulation.ecs.services.health import Judgement, TaskSeen, Verdict, judge
from emulation.ecs.services.placement import first_to_stop, providers

REPEATED_AFTER = timedelta(hours=6)
"""Steady states, and troubles that go on, are told of again."""

_OURS = ("ServiceSchedulerInitiated", "UserInitiated")
_Step = tuple[list[a.ServiceAction], datetime | None]


def plan_service(desired: ServiceDesired, tasks: Sequence[TaskSeen], now: datetime) -> Plan[a.ServiceAction]:
    if not desired.active:
        return _drain(desired, tasks)
    view = _View(desired, tasks, now)
    if accounts := _account(view):
        return Plan(tuple(accounts))
    if failed := _give_up(view):
        return Plan(tuple(failed))
    moves, wake_at = _roll(view)
    if moves:
        return Plan(tuple(moves), wake_at)
    settled, steady_wake = _settle(view)
    return Plan(tuple(settled), _sooner(wake_at, steady_wake))


class _View:
    """The tasks that are alive, by deployment and with their verdicts."""

    def __init__(self, desired: ServiceDesired, tasks: Sequence[TaskSeen], now: datetime) -> None:
        self.desired, self.tasks, self.now = desired, tasks, now
        self.judged: dict[str, Judgement] = {t.id: judge(t, desired.grace_period, now) for t in tasks if t.alive}
        self.living: dict[str, list[TaskSeen]] = {d.id: [] for d in desired.deployments}
        for task in sorted((t for t in tasks if t.alive), key=lambda t: (t.created_at, t.id)):
            self.living.setdefault(task.deployment_id, []).append(task)
        self.primary = self.living[desired.primary.id]
        self.old = [t for deployment, of in self.living.items() if deployment != desired.primary.id for t in of]
        self.upper = desired.limits.upper(desired.desired_count)
        self.lower = desired.limits.lower(desired.desired_count)

    def having(self, tasks: Sequence[TaskSeen], verdict: Verdict) -> list[TaskSeen]:
        return [t for t in tasks if self.judged[t.id].verdict is verdict]

    def choose(self, tasks: Sequence[TaskSeen], count: int) -> list[TaskSeen]:
        return first_to_stop([(t, self.judged[t.id].verdict) for t in tasks], count)

    @property
    def next_verdict_at(self) -> datetime | None:
        return min((j.changes_at for j in self.judged.values() if j.changes_at is not None), default=None)


def _sooner(*moments: datetime | None) -> datetime | None:
    return min((m for m in moments if m is not None), default=None)


# ---- the end of a service ----


def _drain(desired: ServiceDesired, tasks: Sequence[TaskSeen]) -> Plan[a.ServiceAction]:
    if not tasks:
        return Plan((a.BecomeInactive("the service is deleted, and has no tasks any more"),))
    return Plan(
        tuple(
            action
            for deployment in dict.fromkeys(t.deployment_id for t in tasks)
            for action in _stops(deployment, [t for t in tasks if t.alive and t.deployment_id == deployment])
        )
    )


# ---- tasks that ended or became healthy ----


def _account(view: _View) -> list[a.ServiceAction]:
    found: list[a.ServiceAction] = []
    known = {d.id: d for d in view.desired.deployments}
    counts = {d.id: (d.failed_tasks, d.failed_starts, d.paused_until) for d in view.desired.deployments}
    for task in view.tasks:
        if task.alive and not task.was_healthy:
            if view.judged[task.id].verdict is Verdict.HEALTHY:
                found.append(a.AcceptTask(task.deployment_id, task.id, "the task counts as healthy"))
                counts[task.deployment_id] = (0, 0, None)
        elif not task.alive and not task.accounted:
            failed, starts, pause = counts.get(task.deployment_id, (0, 0, None))
            by_itself = task.failed_checks or (task.stop_code not in _OURS and not task.was_healthy)
            if by_itself and task.deployment_id in known:
                failed, starts = failed + 1, starts + 1 if task.started_at is None else 0
                wait = circuit_breaker.pause_after(starts)
                if task.started_at is not None and failed > 1:
                    wait = circuit_breaker.CRASH_PAUSE
                pause = view.now + wait if wait else None
            counts[task.deployment_id] = (failed, starts, pause)
            cause = "the task failed" if by_itself else "the task has ended"
            found.append(a.AccountTask(task.deployment_id, task.id, failed, starts, pause, cause))
    return found


# ---- the circuit breaker ----


def _give_up(view: _View) -> list[a.ServiceAction]:
    desired, primary = view.desired, view.desired.primary
    limit = circuit_breaker.threshold(desired.desired_count)
    if not desired.breaker.enable or primary.rollout is not RolloutState.IN_PROGRESS or primary.failed_tasks < limit:
        return []
    cause = f"{primary.failed_tasks} tasks in a row failed, the threshold is {limit}"
    given_up: list[a.ServiceAction] = [a.FailDeployment(primary.id, cause)]
    good = desired.last_completed
    if desired.breaker.rollback and good is not None and good.id != primary.id:
        given_up.append(a.RollBack(primary.id, good.id, f"{good.id} is the last deployment that completed"))
    return given_up


# ---- starting and stopping ----


def _roll(view: _View) -> _Step:
    desired, now = view.desired, view.now
    primary = desired.primary
    kept = _keep_old(view)
    room = view.upper - len(view.primary) - len(view.old) - sum(len(s.providers) for s in kept)
    good = view.having(view.primary, Verdict.HEALTHY)
    waiting = view.having(view.primary, Verdict.WAITING)
    bad = view.having(view.primary, Verdict.UNHEALTHY)
    missing = desired.desired_count - len(good) - len(waiting)
    paused = primary.paused_until is not None and primary.paused_until > now
    halted = paused or primary.rollout is RolloutState.FAILED
    actions: list[a.ServiceAction] = [*kept]
    if missing > 0 and not halted:
        actions += _start(view, min(missing, max(room, 0)), len(bad))
    starting = any(isinstance(x, a.StartTasks) for x in actions)
    actions += _replace_unhealthy(view, good, waiting, bad, stuck=missing > 0 and room <= 0)
    if missing < 0:
        actions += _stops(primary.id, view.choose([*good, *waiting], -missing))
    wanted_room = 0 if halted or desired.no_capacity else max(missing - max(room, 0), 0)
    gone = _stop_old(view, len(good), wanted_room)
    actions += gone
    actions += _retire(view, gone, kept)
    if paused and primary.failed_starts >= circuit_breaker.IMPAIRED_AFTER:
        actions += _report(view, a.IMPAIRED, "tasks fail again and again before they run")
    nothing_moves = not (halted or starting or gone or waiting or bad or view.having(view.old, Verdict.WAITING))
    if missing > 0 and room <= 0 and nothing_moves:
        actions += _report(view, a.BLOCKED, "the deployment configuration leaves no room to start or stop a task")
    resumes = primary.paused_until if paused and missing > 0 else None
    return actions, _sooner(view.next_verdict_at, resumes)


def _start(view: _View, count: int, unhealthy: int) -> list[a.ServiceAction]:
    desired, primary = view.desired, view.desired.primary
    if count <= 0:
        return []
    if desired.no_capacity:
        failed = primary.failed_tasks + 1
        retry_at = view.now + circuit_breaker.pause_after(failed + 1)
        found = _report(view, a.PLACEMENT, desired.no_capacity)
        return [*found, a.AccountPlacement(primary.id, failed, retry_at, desired.no_capacity)]
    chosen = providers(desired.strategy, [t.provider for t in view.primary], count)
    cause = f"{len(view.primary)} of {desired.desired_count} tasks"
    if unhealthy:
        cause += f", {unhealthy} of them unhealthy"
    return [a.StartTasks(primary.id, chosen, min(unhealthy, count), cause)]


def _keep_old(view: _View) -> list[a.StartTasks]:
    """Tasks of a release that works, and died while the next one does not work yet."""
    good = len(view.having(view.primary, Verdict.HEALTHY))
    short = min(view.lower - good - len(view.old), view.upper - len(view.primary) - len(view.old))
    found = []
    for deployment in view.desired.deployments[1:]:
        lost = deployment.desired_count - len(view.living[deployment.id])
        paused = deployment.paused_until is not None and deployment.paused_until > view.now
        count = min(short, lost)
        if count > 0 and deployment.rollout is RolloutState.COMPLETED and not paused:
            chosen = providers(view.desired.strategy, [t.provider for t in view.living[deployment.id]], count)
            found.append(a.StartTasks(deployment.id, chosen, 0, "the release before is kept up until the next works"))
            short -= count
    return found


def _replace_unhealthy(
    view: _View, good: list[TaskSeen], waiting: list[TaskSeen], bad: list[TaskSeen], *, stuck: bool
) -> list[a.ServiceAction]:
    """A task that never was healthy stops at once; one that was, when a healthy one has taken its place.

    Where maximumPercent leaves no room for a replacement, they stop one by one.
    """
    at_once = [t for t in bad if not t.was_healthy]
    later = [t for t in bad if t.was_healthy]
    surplus = max(len(good) + len(later) - view.desired.desired_count, 0)
    if not surplus and stuck and not waiting and not at_once:
        surplus = 1
    return [_stop_unhealthy(view, t) for t in [*at_once, *later[: min(surplus, len(later))]]]


def _stop_unhealthy(view: _View, task: TaskSeen) -> a.ServiceAction:
    target = view.judged[task.id].target
    if target is None:
        return a.StopUnhealthyTask(task.deployment_id, task.id, 0, "", "", "Task failed container health checks")
    cause = f"Task failed ELB health checks in (target-group {target.target_group_arn})"
    where = (target.port, target.target_group_arn, target.description)
    return a.StopUnhealthyTask(task.deployment_id, task.id, *where, cause)


def _stop_old(view: _View, good: int, wanted_room: int) -> list[a.ServiceAction]:
    """Tasks of superseded deployments: those whose place is taken, and as many as new ones need room for."""
    surplus = good + len(view.old) - view.desired.desired_count
    count = max(surplus, wanted_room)
    if count <= 0 or not view.old:
        return []
    healthy = view.having(view.old, Verdict.HEALTHY)
    completed = {d.id for d in view.desired.deployments if d.rollout is RolloutState.COMPLETED}
    coming = [t for t in view.having(view.old, Verdict.WAITING) if t.deployment_id in completed]
    free = [t for t in view.old if t not in healthy and t not in coming]
    chosen = view.choose(free, count)
    spare = max(good + len(healthy) + len(coming) - view.lower, 0)
    chosen += view.choose(coming, min(count - len(chosen), spare))
    spare = max(good + len(healthy) - view.lower, 0)
    chosen += view.choose(healthy, min(count - len(chosen), spare))
    by_deployment = dict.fromkeys(t.deployment_id for t in chosen)
    return [x for d in by_deployment for x in _stops(d, [t for t in chosen if t.deployment_id == d])]


def _stops(deployment: str, tasks: Sequence[TaskSeen]) -> list[a.ServiceAction]:
    """Tasks that run and tasks that are on their way to it are told of apart."""
    cause = f"Scaling activity initiated by (deployment {deployment})"
    groups = ([t for t in tasks if not t.on_the_way], [t for t in tasks if t.on_the_way])
    return [
        a.StopTasks(deployment, tuple(t.id for t in group), pending, cause)
        for pending, group in zip((False, True), groups, strict=True)
        if group
    ]


def _retire(view: _View, gone: Sequence[a.ServiceAction], kept: Sequence[a.StartTasks]) -> list[a.ServiceAction]:
    stopping = {t for x in gone if isinstance(x, a.StopTasks) for t in x.tasks}
    starting = {x.deployment for x in kept}
    return [
        a.RetireDeployment(d.id, "none of its tasks is left")
        for d in view.desired.deployments[1:]
        if d.id not in starting and all(t.id in stopping for t in view.living[d.id]) and not _may_be_needed(view, d)
    ]


def _may_be_needed(view: _View, deployment: Deployment) -> bool:
    """A release that works and has lost its tasks by itself stays until the next one works or takes its place."""
    if deployment.rollout is not RolloutState.COMPLETED or deployment.desired_count == 0:
        return False
    good = len(view.having(view.primary, Verdict.HEALTHY))
    return good < view.lower and not view.living[deployment.id]


def _report(view: _View, kind: str, cause: str) -> list[a.ServiceAction]:
    """Troubles that go on are told of every six hours."""
    last = view.desired.reported.get(kind)
    return [a.Report(kind, cause)] if last is None or view.now - last >= REPEATED_AFTER else []


# ---- all is as it should be ----


def _settle(view: _View) -> _Step:
    desired, primary = view.desired, view.desired.primary
    good = view.having(view.primary, Verdict.HEALTHY)
    if view.old or len(view.primary) != desired.desired_count or len(good) != desired.desired_count:
        return [], None
    if len(desired.deployments) > 1 or primary.rollout is RolloutState.FAILED:
        return [], None
    steady = f"{len(good)} of {desired.desired_count} tasks are healthy"
    if primary.rollout is RolloutState.IN_PROGRESS:
        return [a.CompleteDeployment(primary.id, steady)], None
    if desired.steady_at is None or view.now - desired.steady_at >= REPEATED_AFTER:
        return [a.ReportSteadyState(steady)], None
    return [], desired.steady_at + REPEATED_AFTER
