"""All tasks of all accounts: one reconcile loop each, until they are gone."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Event
from emulation.core.plan import Plan
from emulation.core.reconcile import Reconciler
from emulation.ecs.machine import TaskMachine
from emulation.ecs.observation import TaskDesired, TaskObserved, TaskStatus
from emulation.ecs.plan import TaskAction, plan_task
from emulation.ecs.record import TaskRecord
from emulation.ecs.services.engine import ServiceEngine
from emulation.ecs.surroundings import Surroundings

log = logging.getLogger(__name__)

STOPPED_TASKS_ARE_SHOWN = timedelta(hours=1)


class EcsEngine:
    """Lives on the event loop. `adopt` and `poke` are called from the API thread, through `ApiThread.post`."""

    def __init__(self, api: ApiThread, clock: Clock, surroundings: Surroundings) -> None:
        self._api, self._clock, self._surroundings = api, clock, surroundings
        self._machines: dict[str, TaskMachine] = {}
        self._reconciler: Reconciler[str, tuple[TaskDesired, TaskObserved], TaskAction] = Reconciler(
            observe=self._observe, plan=self._plan, apply=self._apply, clock=clock, name="task"
        )
        self.services = ServiceEngine(api, clock, surroundings.bus, surroundings.target_groups, self.poke)

    def adopt(self, records: Iterable[TaskRecord]) -> None:
        """Begins the life of tasks."""
        for record in records:
            wake = partial(self._reconciler.wake, record.task_arn)
            self._machines[record.task_arn] = TaskMachine(
                record, self._surroundings, self._clock, wake, self._moved, self._changed
            )
            if record.request.service_arn:
                self.services.watch(record)
            self._publish(record)
            wake()

    def poke(self, arn: str) -> None:
        """Something was asked of the task: look at it again."""
        if arn in self._machines:
            self._reconciler.wake(arn)

    async def close(self) -> None:
        await self.services.close()
        await self._reconciler.close()
        for machine in list(self._machines.values()):
            await machine.close()

    @property
    def running(self) -> int:
        """How many tasks have not stopped yet."""
        return len(self._machines)

    async def _observe(self, arn: str) -> tuple[TaskDesired, TaskObserved] | None:
        machine = self._machines.get(arn)
        return None if machine is None else (machine.record.desired, machine.observed)

    @staticmethod
    def _plan(state: tuple[TaskDesired, TaskObserved], now: datetime) -> Plan[TaskAction]:
        return plan_task(*state, now)

    async def _apply(self, arn: str, action: TaskAction) -> None:
        await self._machines[arn].apply(action)

    def _moved(self, machine: TaskMachine) -> None:
        record = machine.record
        self._publish(record)
        if record.last_status is TaskStatus.STOPPED:
            del self._machines[record.task_arn]
        self._changed(machine)

    def _changed(self, machine: TaskMachine) -> None:
        if machine.record.request.service_arn:
            self.services.wake(machine.record.request.service_arn)

    def _publish(self, record: TaskRecord) -> None:
        """Source: Amazon ECS task state change events."""
        request = record.request
        self._surroundings.bus.publish(
            Event(
                source="aws.ecs",
                detail_type="ECS Task State Change",
                account=request.account,
                region=request.region,
                resources=(record.task_arn,),
                detail=record.describe(with_tags=False),
                time=self._clock.now(),
            )
        )
