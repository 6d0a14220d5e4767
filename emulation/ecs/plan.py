"""What to do next with a task. Pure: values in, a plan out.

Theory of operation. A task moves through its states by the table in `states.py`. In PROVISIONING it gets its network
interface; in PENDING its secrets, log streams and images, and then its containers, each when those that it depends on
have come as far as it asks; in ACTIVATING the targets of a service's load balancers are registered; in RUNNING it stays
until an essential container stops or somebody asks for it; in DEACTIVATING its targets drain; then its containers are
stopped, dependants first, and what it held is released. Slow steps run beside the loop: a plan starts one, its end is
observed, and the next plan goes on from there.

Source: Amazon ECS task lifecycle; Container dependency; Stopped task error codes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from emulation.core.plan import Action, Plan
from emulation.ecs import states
from emulation.ecs.definition import ContainerDefinition, Dependency
from emulation.ecs.observation import ContainerObserved, Health, Progress, Stop, TaskDesired, TaskObserved, TaskStatus

ESSENTIAL_EXITED = Stop("EssentialContainerExited", "Essential container in task exited")


@dataclass(frozen=True)
class AttachInterface(Action):
    cause: str


@dataclass(frozen=True)
class PrepareTask(Action):
    """Secrets, log streams and images."""

    cause: str


@dataclass(frozen=True)
class StartContainer(Action):
    container: str
    cause: str


@dataclass(frozen=True)
class StopContainer(Action):
    """The stop signal, and SIGKILL after `timeout`."""

    container: str
    timeout: timedelta
    cause: str


@dataclass(frozen=True)
class SkipContainer(Action):
    """A container that will never start; it is recorded as stopped, with the reason."""

    container: str
    cause: str


@dataclass(frozen=True)
class StopTask(Action):
    """The emulation itself decides that the task has to stop; `code` is AWS's stopCode, the cause its stoppedReason."""

    code: str
    cause: str


@dataclass(frozen=True)
class RegisterTargets(Action):
    cause: str


@dataclass(frozen=True)
class DeregisterTargets(Action):
    """Ends when the targets have drained."""

    cause: str


@dataclass(frozen=True)
class Move(Action):
    """An event of the state table."""

    event: str
    cause: str


@dataclass(frozen=True)
class Release(Action):
    """Ends what still runs and gives the interface, the files and the log streams back."""

    cause: str


TaskAction = (
    AttachInterface
    | PrepareTask
    | StartContainer
    | StopContainer
    | SkipContainer
    | StopTask
    | RegisterTargets
    | DeregisterTargets
    | Move
    | Release
)


def plan_task(desired: TaskDesired, observed: TaskObserved, now: datetime) -> Plan[TaskAction]:
    stop = desired.stop or observed.failure
    match observed.status:
        case TaskStatus.PROVISIONING:
            return _provision(observed, stop)
        case TaskStatus.PENDING:
            return _start(desired, observed, stop, now)
        case TaskStatus.ACTIVATING:
            return _activate(desired, observed)
        case TaskStatus.RUNNING:
            return _run(desired, observed, stop)
        case TaskStatus.DEACTIVATING:
            return _deactivate(desired, observed, stop)
        case TaskStatus.STOPPING:
            return _stop(desired, observed, stop)
        case TaskStatus.DEPROVISIONING:
            return _deprovision(observed)
        case TaskStatus.STOPPED:
            return Plan(())


def _provision(observed: TaskObserved, stop: Stop | None) -> Plan[TaskAction]:
    if observed.interface is Progress.UNDER_WAY:
        return Plan(())  # also a stop waits until there is something to give back
    if stop:
        return Plan((Move(states.STOP, stop.reason),))
    if observed.interface is Progress.DONE:
        return Plan((Move(states.INTERFACE_ATTACHED, "the network interface is attached"),))
    return Plan((AttachInterface("the task has no network interface yet"),))


def _start(desired: TaskDesired, observed: TaskObserved, stop: Stop | None, now: datetime) -> Plan[TaskAction]:
    if stop:
        return Plan((Move(states.STOP, stop.reason),))
    if observed.preparation is Progress.NOT_BEGUN:
        return Plan((PrepareTask("the interface is attached"),))
    if observed.preparation is Progress.UNDER_WAY:
        return Plan(())
    if ended := _ended(desired, observed):
        return Plan((StopTask(ended.code, ended.reason),))
    actions, wake_at = _starts(desired, observed, now)
    if not actions and all(_settled(observed, c.name) for c in desired.containers):
        return Plan((Move(states.CONTAINERS_STARTED, "every container has started"),))
    return Plan(tuple(actions), wake_at)


def _activate(desired: TaskDesired, observed: TaskObserved) -> Plan[TaskAction]:
    if not desired.target_containers:
        return Plan((Move(states.ACTIVATED, "no service waits for the task"),))
    match observed.registration:
        case Progress.NOT_BEGUN:
            return Plan((RegisterTargets("every container has started"),))
        case Progress.UNDER_WAY:
            return Plan(())
        case Progress.DONE:
            return Plan((Move(states.ACTIVATED, "its targets are registered"),))


def _deactivate(desired: TaskDesired, observed: TaskObserved, stop: Stop | None) -> Plan[TaskAction]:
    if not desired.target_containers or observed.registration is Progress.NOT_BEGUN:
        return Plan((Move(states.DEACTIVATED, "no load balancer has the task as a target"),))
    if observed.deregistration is Progress.NOT_BEGUN:
        return Plan((DeregisterTargets(stop.reason if stop else "the task stops"),))
    if observed.deregistration is Progress.DONE:
        return Plan((Move(states.DEACTIVATED, "its targets have drained"),))
    gone = ContainerObserved(stopped=True)
    if all(observed.containers.get(name, gone).stopped for name in desired.target_containers):
        return Plan((Move(states.DEACTIVATED, "nobody is left to answer a request in flight"),))
    return Plan(())


def _run(desired: TaskDesired, observed: TaskObserved, stop: Stop | None) -> Plan[TaskAction]:
    if stop:
        return Plan((Move(states.STOP, stop.reason),))
    if ended := _ended(desired, observed):
        return Plan((StopTask(ended.code, ended.reason),))
    return Plan(())


def _ended(desired: TaskDesired, observed: TaskObserved) -> Stop | None:
    """Why the task has to stop by itself: an essential container is not running any more, or could never start."""
    for container in desired.containers:
        seen = observed.containers.get(container.name, ContainerObserved())
        if seen.stopped and container.essential:
            if seen.exit_code is None or seen.start is not Progress.DONE:
                return Stop("TaskFailedToStart", seen.reason or f"Container {container.name} could not be started")
            return ESSENTIAL_EXITED
    return None


def _settled(observed: TaskObserved, name: str) -> bool:
    seen = observed.containers.get(name, ContainerObserved())
    return seen.stopped or seen.start is Progress.DONE


def _starts(desired: TaskDesired, observed: TaskObserved, now: datetime) -> tuple[list[TaskAction], datetime | None]:
    actions: list[TaskAction] = []
    wake_at: datetime | None = None
    for container in desired.containers:
        seen = observed.containers.get(container.name, ContainerObserved())
        if seen.start is not Progress.NOT_BEGUN or seen.stopped:
            continue
        waiting = [d for d in container.depends_on if not _satisfied(d, observed)]
        hopeless = next((text for d in waiting if (text := _hopeless(d, observed))), "")
        if hopeless:
            actions.append(SkipContainer(container.name, hopeless))
        elif not waiting:
            actions.append(StartContainer(container.name, _start_cause(container)))
        elif observed.prepared_at is not None:
            deadline = observed.prepared_at + container.start_timeout
            if now >= deadline:
                names = ", ".join(f"{d.container} ({d.condition})" for d in waiting)
                actions.append(SkipContainer(container.name, f"Container timed out waiting for: {names}"))
            else:
                wake_at = min(wake_at or deadline, deadline)
    return actions, wake_at


def _start_cause(container: ContainerDefinition) -> str:
    if not container.depends_on:
        return "the image is there"
    return "; ".join(f"{d.container} reached {d.condition}" for d in container.depends_on)


def _satisfied(dependency: Dependency, observed: TaskObserved) -> bool:
    seen = observed.containers.get(dependency.container, ContainerObserved())
    match dependency.condition:
        case "START":
            return seen.start is Progress.DONE
        case "COMPLETE":
            return seen.stopped and seen.start is Progress.DONE
        case "SUCCESS":
            return seen.stopped and seen.exit_code == 0
        case _:
            return seen.health is Health.HEALTHY and not seen.stopped


def _hopeless(dependency: Dependency, observed: TaskObserved) -> str:
    """Why a condition can never be met any more, or ''."""
    seen = observed.containers.get(dependency.container, ContainerObserved())
    if not seen.stopped:
        return ""
    name = dependency.container
    if dependency.condition == "SUCCESS":
        return f"dependency container {name} exited with code {seen.exit_code}, but condition SUCCESS was required"
    return f"dependency container {name} stopped before condition {dependency.condition} was met"


def _stop(desired: TaskDesired, observed: TaskObserved, stop: Stop | None) -> Plan[TaskAction]:
    if observed.preparation is Progress.UNDER_WAY:
        return Plan(())
    cause = stop.reason if stop else "the task stops"
    living = {
        c.name
        for c in desired.containers
        if (seen := observed.containers.get(c.name, ContainerObserved())).start is not Progress.NOT_BEGUN
        and not seen.stopped
    }
    if not living:
        return Plan((Move(states.CONTAINERS_STOPPED, "no container runs any more"),))
    actions: list[TaskAction] = []
    for container in desired.containers:
        seen = observed.containers.get(container.name, ContainerObserved())
        if container.name not in living or seen.stopping or seen.start is Progress.UNDER_WAY:
            continue
        dependants = [c.name for c in desired.containers if c.name in living and _depends(c, container.name)]
        if not dependants:
            actions.append(StopContainer(container.name, container.stop_timeout, cause))
    return Plan(tuple(actions))


def _depends(container: ContainerDefinition, on: str) -> bool:
    """Whether `container` must be stopped before `on`: shutdown is the reverse of the order of starting."""
    return any(d.container == on for d in container.depends_on)


def _deprovision(observed: TaskObserved) -> Plan[TaskAction]:
    match observed.released:
        case Progress.NOT_BEGUN:
            return Plan((Release("the task has stopped"),))
        case Progress.UNDER_WAY:
            return Plan(())
        case Progress.DONE:
            return Plan((Move(states.RELEASED, "nothing of the task is left"),))
