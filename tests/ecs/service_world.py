"""A service in a world of plain values: tasks start, get healthy or fail as the test says. No API, no event loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from emulation.core.plan import Plan
from emulation.ecs.observation import Health, TaskStatus
from emulation.ecs.services import actions as a
from emulation.ecs.services.deployment import Deployment, ServiceDesired
from emulation.ecs.services.health import TaskSeen, Verdict, judge
from emulation.ecs.services.outcome import after, deployed, scaled
from emulation.ecs.services.plan import plan_service

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """`works(deployment)` says whether its tasks get healthy; others run and fail their checks."""

    desired: ServiceDesired
    works: Callable[[str], bool] = lambda _deployment: True
    tasks: dict[str, TaskSeen] = field(default_factory=dict)
    now: datetime = NOW
    rollbacks: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.watch: list[Callable[[World, a.ServiceAction], None]] = []

    @property
    def alive(self) -> list[TaskSeen]:
        return [t for t in self.tasks.values() if t.alive]

    @property
    def healthy(self) -> list[TaskSeen]:
        return [t for t in self.alive if judge(t, self.desired.grace_period, self.now).verdict is Verdict.HEALTHY]

    def of(self, deployment: str) -> list[TaskSeen]:
        return [t for t in self.alive if t.deployment_id == deployment]

    def deploy(self) -> str:
        name = f"d{next(self._numbers)}"
        self.desired = deployed(self.desired, name, self.now)
        return name

    def scale(self, desired_count: int) -> None:
        self.desired = scaled(self.desired, desired_count, self.now)

    def plan(self) -> Plan[a.ServiceAction]:
        return plan_service(self.desired, tuple(self.tasks.values()), self.now)

    def settle(self) -> str:
        """Plans and acts until there is nothing to do: all plans, as printed."""
        printed = []
        for _ in range(200):
            plan = self.plan()
            if not plan.actions:
                return "\n".join(printed)
            printed.append(str(plan))
            for action in plan.actions:
                self.act(action)
        raise AssertionError("the plans do not come to an end:\n" + "\n".join(printed[-20:]))

    def act(self, action: a.ServiceAction) -> None:
        for watch in self.watch:
            watch(self, action)
        match action:
            case a.StartTasks(deployment=deployment, providers=providers):
                for provider in providers:
                    self.add(deployment, provider=provider)
            case a.StopTasks(tasks=tasks):
                for task in tasks:
                    self.change(task, stopping=True, stop_code="ServiceSchedulerInitiated")
            case a.StopUnhealthyTask(task=task):
                self.change(task, stopping=True, stop_code="ServiceSchedulerInitiated", failed_checks=True)
            case a.AccountTask(task=task):
                self.change(task, accounted=True)
            case a.AcceptTask(task=task):
                self.change(task, was_healthy=True)
            case a.RollBack():
                self.rollbacks += 1
        self.desired = after(self.desired, action, self.now)

    def add(self, deployment: str, **more: Any) -> str:
        number = f"t{next(self._numbers)}"
        self.tasks[number] = TaskSeen(number, deployment, TaskStatus.PROVISIONING, self.now, checked=True, **more)
        return number

    def change(self, task: str, **changes: Any) -> None:
        self.tasks[task] = replace(self.tasks[task], **changes)

    def run(self, task: str) -> None:
        self.change(task, status=TaskStatus.RUNNING, started_at=self.now)

    def judged(self, task: str) -> None:
        works = self.works(self.tasks[task].deployment_id)
        self.change(task, health=Health.HEALTHY if works else Health.UNHEALTHY)

    def die(self, task: str) -> None:
        self.change(task, stopping=True, status=TaskStatus.STOPPED, stop_code="EssentialContainerExited")

    def step(self) -> None:
        """Every task comes one step further, and the clock with them."""
        self.now += timedelta(seconds=15)
        for task in list(self.tasks.values()):
            if task.stopping:
                if task.accounted:
                    del self.tasks[task.id]
            elif task.on_the_way:
                self.run(task.id)
            elif task.health is Health.UNKNOWN:
                self.judged(task.id)


def service(desired_count: int, **more: Any) -> World:
    first = Deployment("d0", NOW, NOW, desired_count)
    return World(ServiceDesired("web", desired_count, (first,), **more))


def running(desired_count: int, **more: Any) -> World:
    """A service that has come to its steady state."""
    world = service(desired_count, **more)
    for _ in range(4):
        world.settle()
        world.step()
    world.settle()
    return world
