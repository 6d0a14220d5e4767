"""All services of all accounts: one reconcile loop each, for as long as they exist."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Bus
from emulation.core.plan import Plan
from emulation.core.reconcile import Reconciler
from emulation.ecs.observation import Progress, TaskObserved, TaskStatus
from emulation.ecs.record import TaskRecord, task_health
from emulation.ecs.services import actions as a
from emulation.ecs.services import events, wording
from emulation.ecs.services.deployment import ServiceDesired
from emulation.ecs.services.events import Told
from emulation.ecs.services.health import TargetSeen, TaskSeen
from emulation.ecs.services.plan import plan_service
from emulation.ecs.services.record import ServiceRecord
from emulation.ecs.services.scheduler import Done, perform
from emulation.ecs.surroundings import TargetGroups, TargetHealth

log = logging.getLogger(__name__)

_NOT_THERE = TargetHealth("unused", "Target.NotRegistered", "Target is not registered to the target group")


class _Watched:
    """A task of a service, and what the service remembers of it."""

    __slots__ = ("accounted", "deregistration_told", "record", "registration_told", "was_healthy")

    def __init__(self, record: TaskRecord) -> None:
        self.record = record
        self.was_healthy = self.accounted = self.registration_told = self.deregistration_told = False


_Seen = tuple[ServiceDesired, tuple[TaskSeen, ...]]


class ServiceEngine:
    """Lives on the event loop. `adopt` and `wake` are also called from the API thread, through `ApiThread.post`.

    `poke` is told of the ARNs of tasks that have been asked to stop.
    """

    def __init__(
        self, api: ApiThread, clock: Clock, bus: Bus, target_groups: TargetGroups, poke: Callable[[str], None]
    ) -> None:
        self._api, self._clock, self._bus, self._groups, self._poke = api, clock, bus, target_groups, poke
        self._services: dict[str, ServiceRecord] = {}
        self._tasks: dict[str, dict[str, _Watched]] = defaultdict(dict)
        self._users: dict[str, set[str]] = defaultdict(set)
        self._generations: dict[str, int] = {}
        self._reconciler: Reconciler[str, _Seen, a.ServiceAction] = Reconciler(
            observe=self._observe, plan=self._plan, apply=self._apply, clock=clock, name="service"
        )
        target_groups.subscribe(self._target_group_changed)

    def adopt(self, record: ServiceRecord) -> None:
        """Begins a service's life."""
        self._services[record.arn] = record
        self._reconciler.wake(record.arn)

    def wake(self, service_arn: str) -> None:
        """Something about the service or one of its tasks may have changed."""
        if service_arn in self._services:
            self._reconciler.wake(service_arn)

    def watch(self, task: TaskRecord) -> None:
        """A task of a service has begun its life."""
        service = task.request.service_arn
        self._tasks[service][task.task_arn] = _Watched(task)
        for target in task.request.targets:
            self._users[target.target_group_arn].add(service)

    def publish(self, record: ServiceRecord, told: Iterable[Told]) -> None:
        for each in told:
            self._bus.publish(events.event(each, record, self._clock.now()))

    async def close(self) -> None:
        await self._reconciler.close()

    def _target_group_changed(self, target_group_arn: str) -> None:
        for service in sorted(self._users.get(target_group_arn, ())):
            self.wake(service)

    # ---- the loop ----

    async def _observe(self, arn: str) -> _Seen | None:
        record = self._services.get(arn)
        if record is None:
            return None
        if record.status == "INACTIVE":
            self._forget(arn)
            return None
        await self._tell_of_targets(record)
        # In this order: a request that comes between the two makes the actions of this pass void.
        self._generations[arn] = record.generation
        desired = record.desired
        watched = self._tasks[arn]
        for task in [t for t, w in watched.items() if _is_over(w, desired.active)]:
            del watched[task]
        return desired, tuple(self._see(w) for w in watched.values())

    @staticmethod
    def _plan(seen: _Seen, now: datetime) -> Plan[a.ServiceAction]:
        return plan_service(*seen, now)

    async def _apply(self, arn: str, action: a.ServiceAction) -> None:
        record = self._services[arn]
        done: Done = await self._api.call(perform, record, self._generations[arn], action, self._clock.now())
        match action:
            case a.AccountTask(task=task) if record.generation == self._generations[arn]:
                self._tasks[arn][task].accounted = True
            case a.AcceptTask(task=task) if record.generation == self._generations[arn]:
                self._tasks[arn][task].was_healthy = True
        for task in done.stopped:
            self._poke(task)
        self.publish(record, done.told)
        self._reconciler.wake(arn)

    def _forget(self, arn: str) -> None:
        del self._services[arn]
        self._tasks.pop(arn, None)
        self._generations.pop(arn, None)
        for users in self._users.values():
            users.discard(arn)

    def _see(self, watched: _Watched) -> TaskSeen:
        record = watched.record
        observed = record.seen.observed
        stop = record.stop or observed.failure
        return TaskSeen(
            id=record.task_arn,
            deployment_id=record.started_by,
            status=observed.status,
            created_at=record.request.created_at,
            started_at=record.seen.times.get("startedAt") or (_ran_at(observed) if stop is not None else None),
            stopping=stop is not None,
            stop_code=stop.code if stop is not None else "",
            failed_checks=record.stop is not None and record.stop.reason.startswith("Task failed "),
            checked=any(c.essential and c.health_check is not None for c in record.containers),
            health=task_health(record.containers, observed),
            targets=tuple(self._targets(record)),
            zone=record.seen.attachment.availability_zone,
            provider=record.request.capacity_provider,
            was_healthy=watched.was_healthy,
            accounted=watched.accounted,
        )

    def _targets(self, record: TaskRecord) -> Iterable[TargetSeen]:
        address = record.seen.attachment.private_ip
        for target in record.request.targets:
            health = self._groups.health(target.target_group_arn).get((address, target.port), _NOT_THERE)
            yield TargetSeen(target.target_group_arn, target.port, health.state, health.description)

    async def _tell_of_targets(self, record: ServiceRecord) -> None:
        """Registered and deregistered targets, as many at once as have come together."""
        registered: Counter[str] = Counter()
        deregistered: Counter[str] = Counter()
        draining = 0
        for watched in self._tasks[record.arn].values():
            observed, targets = watched.record.seen.observed, watched.record.request.targets
            if observed.registration is Progress.DONE and targets and not watched.registration_told:
                watched.registration_told = True
                registered.update(t.target_group_arn for t in targets)
            if observed.deregistration is not Progress.NOT_BEGUN and not watched.deregistration_told:
                watched.deregistration_told = True
                deregistered.update(t.target_group_arn for t in targets)
                draining += 1
        messages = [wording.registered(record.name, n, group) for group, n in sorted(registered.items())]
        messages += [wording.deregistered(record.name, n, group) for group, n in sorted(deregistered.items())]
        messages += [wording.draining(record.name, draining)] if draining else []
        if messages:
            await self._api.call(_tell, record, messages, self._clock.now())


def _ran_at(observed: TaskObserved) -> datetime | None:
    """A container that exits at once may end a task before it is seen RUNNING; it has run all the same."""
    return min((c.started_at for c in observed.containers.values() if c.started_at is not None), default=None)


def _tell(record: ServiceRecord, messages: Iterable[str], now: datetime) -> None:
    for message in messages:
        record.tell(message, now)


def _is_over(watched: _Watched, active: bool) -> bool:
    stopped = watched.record.last_status is TaskStatus.STOPPED
    return stopped and (watched.accounted or not active)
