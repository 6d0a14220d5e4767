"""What the service scheduler does to the API's records. On the API thread; it carries no decisions."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from emulation.ecs.failures import EcsError
from emulation.ecs.observation import Stop, TaskStatus
from emulation.ecs.services import actions as a
from emulation.ecs.services import circuit_breaker, events, wording
from emulation.ecs.services.events import Told
from emulation.ecs.services.outcome import after
from emulation.ecs.services.record import ServiceRecord


@dataclass
class Done:
    """What is left to do on the event loop: tasks to look at again, and events to publish."""

    stopped: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


def perform(record: ServiceRecord, generation: int, action: a.ServiceAction, now: datetime) -> Done:
    """Does nothing where a request has come in between, for then the action was planned for a service of the past."""
    done = Done()
    if record.generation != generation:
        return done
    record.desired = after(record.desired, action, now)
    name, deployments = record.name, {d.id: d for d in record.desired.deployments}
    match action:
        case a.StartTasks():
            _start(record, action, now)
        case a.StopTasks(tasks=tasks, pending=pending, cause=cause):
            for task in tasks:
                _stop(record, task, cause, done)
            record.tell(wording.stopped(name, tasks, pending=pending), now)
        case a.StopUnhealthyTask(task=task, cause=cause):
            _stop(record, task, cause, done)
            record.tell(wording.unhealthy(name, action), now)
            record.tell(wording.stopped(name, [task]), now)
        case a.AccountTask() | a.AcceptTask() | a.AccountPlacement():
            pass
        case a.CompleteDeployment(deployment=deployment):
            record.tell(wording.completed(name, deployment), now)
            done.told.append(events.deployment("COMPLETED", deployments[deployment], now))
        case a.FailDeployment(deployment=deployment):
            record.tell(wording.failed(name, deployment), now)
            done.told.append(events.deployment("FAILED", deployments[deployment], now))
        case a.RollBack(to=to):
            record.tell(wording.rolling_back(name, to), now)
            done.told.append(events.deployment("IN_PROGRESS", deployments[to], now))
        case a.RetireDeployment():
            record.forget_releases()
        case a.Report(kind=kind, cause=cause):
            record.tell(wording.trouble(name, kind, cause), now)
            if (trouble := events.trouble(kind, cause)) is not None:
                done.told.append(trouble)
        case a.ReportSteadyState():
            record.tell(wording.steady(name), now)
            done.told.append(events.steady_state())
        case a.BecomeInactive():
            record.status = "INACTIVE"
        case _:
            assert_never(action)
    return done


def _start(record: ServiceRecord, action: a.StartTasks, now: datetime) -> None:
    started: list[str] = []
    problem = ""
    for arn in [arn for arn, task in record.tasks.items() if task.last_status is TaskStatus.STOPPED]:
        del record.tasks[arn]
    for provider in action.providers:
        try:
            task = record.launch(record, action.deployment, provider)
        except EcsError as error:
            problem = error.message
            break
        record.tasks[task.task_arn] = task
        started.append(task.task_arn)
    if started:
        record.tell(wording.started(record.name, started, min(action.replaced, len(started))), now)
    if problem:
        record.tell(wording.could_not_start(record.name, problem), now)
        deployment = record.desired.deployment(action.deployment)
        failed = deployment.failed_tasks + 1 if deployment is not None else 1
        later = now + circuit_breaker.pause_after(failed + 1)
        record.desired = after(record.desired, a.AccountPlacement(action.deployment, failed, later, problem), now)


def _stop(record: ServiceRecord, arn: str, cause: str, done: Done) -> None:
    task = record.tasks.get(arn)
    if task is not None and task.stop is None:
        task.stop = Stop("ServiceSchedulerInitiated", cause)
        done.stopped.append(arn)
