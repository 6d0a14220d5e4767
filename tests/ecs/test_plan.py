"""Decisions about tasks, told by the plans that they print."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulation.ecs import plan as actions
from emulation.ecs import states
from emulation.ecs.definition import ContainerDefinition, Dependency
from emulation.ecs.observation import (
    ContainerObserved,
    Health,
    Progress,
    Stop,
    TaskDesired,
    TaskObserved,
    TaskStatus,
)
from emulation.ecs.plan import plan_task

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNING = ContainerObserved(start=Progress.DONE, started_at=NOW)


def container(name: str, *depends_on: tuple[str, str], essential: bool = True) -> ContainerDefinition:
    return ContainerDefinition(
        name=name, image="app", essential=essential, depends_on=tuple(Dependency(*d) for d in depends_on)
    )


def task(*containers: ContainerDefinition, stop: Stop | None = None) -> TaskDesired:
    return TaskDesired("t", containers, stop)


def seen(status: str, **more: Any) -> TaskObserved:
    defaults = {"interface": Progress.DONE, "preparation": Progress.DONE, "prepared_at": NOW}
    return TaskObserved(TaskStatus(status), **{**defaults, **more})


def test_a_new_task_gets_its_interface_before_anything_else() -> None:
    """PROVISIONING is the time in which the network interface is made."""
    observed = TaskObserved(TaskStatus.PROVISIONING)
    assert str(plan_task(task(container("web")), observed, NOW)) == (
        "AttachInterface — the task has no network interface yet"
    )


def test_images_are_pulled_before_containers_start() -> None:
    """PENDING begins with the preparation, and waits for its end."""
    observed = seen("PENDING", preparation=Progress.NOT_BEGUN)
    assert str(plan_task(task(container("web")), observed, NOW)) == "PrepareTask — the interface is attached"
    observed = seen("PENDING", preparation=Progress.UNDER_WAY)
    assert str(plan_task(task(container("web")), observed, NOW)) == "(nothing to do)"


def test_containers_start_in_the_order_of_their_dependencies() -> None:
    """A container waits until those that it depends on have come as far as it asks."""
    desired = task(container("web", ("db", "HEALTHY")), container("db"))
    assert str(plan_task(desired, seen("PENDING"), NOW)) == "StartContainer db — the image is there"
    unhealthy = seen("PENDING", containers={"db": RUNNING})
    assert "web" not in str(plan_task(desired, unhealthy, NOW))
    healthy = seen("PENDING", containers={"db": replace(RUNNING, health=Health.HEALTHY)})
    assert str(plan_task(desired, healthy, NOW)) == "StartContainer web — db reached HEALTHY"


def test_a_dependency_that_never_comes_is_given_up_after_the_start_timeout() -> None:
    """The task does not wait for ever: the container that waited cannot start, and being essential it ends the task."""
    desired = task(container("web", ("db", "HEALTHY")), container("db"))
    observed = seen("PENDING", containers={"db": RUNNING})
    deadline = NOW + timedelta(minutes=3)
    assert plan_task(desired, observed, NOW).wake_at == deadline
    assert str(plan_task(desired, observed, deadline)) == (
        "SkipContainer web — Container timed out waiting for: db (HEALTHY)"
    )


def test_an_init_container_that_fails_keeps_the_others_from_starting() -> None:
    """SUCCESS means exit code 0, nothing else."""
    desired = task(container("web", ("init", "SUCCESS")), container("init", essential=False))
    failed = seen("PENDING", containers={"init": replace(RUNNING, stopped=True, exit_code=3)})
    assert str(plan_task(desired, failed, NOW)) == (
        "SkipContainer web — dependency container init exited with code 3, but condition SUCCESS was required"
    )


def test_a_task_runs_once_all_its_containers_have_started() -> None:
    """A container that has already done its work counts as started."""
    desired = task(container("web"), container("init", essential=False))
    observed = seen("PENDING", containers={"web": RUNNING, "init": replace(RUNNING, stopped=True, exit_code=0)})
    assert str(plan_task(desired, observed, NOW)) == "Move ContainersStarted — every container has started"


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ({"web": replace(RUNNING, stopped=True, exit_code=0), "side": RUNNING},
         "StopTask EssentialContainerExited — Essential container in task exited"),
        ({"web": RUNNING, "side": replace(RUNNING, stopped=True, exit_code=1)}, "(nothing to do)"),
    ],
)  # fmt: skip
def test_only_an_essential_container_takes_the_task_with_it(
    containers: dict[str, ContainerObserved], expected: str
) -> None:
    """Whatever its exit code, the end of an essential container is the end of the task; of another it is not."""
    desired = task(container("web"), container("side", essential=False))
    assert str(plan_task(desired, seen("RUNNING", containers=containers), NOW)) == expected


def test_containers_stop_in_the_reverse_order() -> None:
    """Who depends on another is stopped first, and the other only when it has gone."""
    stop = Stop("UserInitiated", "enough")
    desired = task(container("web", ("db", "START")), container("db"), stop=stop)
    both = seen("STOPPING", containers={"web": RUNNING, "db": RUNNING})
    assert str(plan_task(desired, both, NOW)) == "StopContainer web 0:00:30 — enough"
    leaving = seen("STOPPING", containers={"web": replace(RUNNING, stopping=True), "db": RUNNING})
    assert str(plan_task(desired, leaving, NOW)) == "(nothing to do)"
    gone = seen("STOPPING", containers={"web": replace(RUNNING, stopped=True, exit_code=143), "db": RUNNING})
    assert str(plan_task(desired, gone, NOW)) == "StopContainer db 0:00:30 — enough"


def test_a_stop_while_the_interface_is_being_made_waits_for_it() -> None:
    """Otherwise the interface would be left behind."""
    desired = task(container("web"), stop=Stop("UserInitiated", "enough"))
    observed = TaskObserved(TaskStatus.PROVISIONING, interface=Progress.UNDER_WAY)
    assert str(plan_task(desired, observed, NOW)) == "(nothing to do)"


progress = st.sampled_from(Progress)
containers_seen = st.builds(
    ContainerObserved,
    start=progress,
    stopping=st.booleans(),
    stopped=st.booleans(),
    exit_code=st.none() | st.integers(0, 255),
    health=st.sampled_from(Health),
)
definitions = st.lists(
    st.builds(
        lambda essential, on, condition: (essential, on, condition),
        st.booleans(),
        st.integers(0, 3),
        st.sampled_from(["START", "COMPLETE", "SUCCESS", "HEALTHY"]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(
    definitions,
    st.sampled_from(TaskStatus),
    progress,
    progress,
    progress,
    st.lists(containers_seen, min_size=4, max_size=4),
    st.booleans(),
    st.integers(0, 400),
)
def test_a_plan_never_starts_what_runs_nor_stops_what_does_not(
    shapes: list[tuple[bool, int, str]],
    status: TaskStatus,
    interface: Progress,
    preparation: Progress,
    released: Progress,
    states_seen: list[ContainerObserved],
    stopping: bool,
    seconds: int,
) -> None:
    """Whatever was observed: no double start or stop, no start once the task stops, and only moves of the table."""
    containers = tuple(
        ContainerDefinition(f"c{i}", "app", essential, depends_on=(Dependency(f"c{on}", condition),) if on < i else ())
        for i, (essential, on, condition) in enumerate(shapes)
    )
    seen_by_name = {c.name: s for c, s in zip(containers, states_seen, strict=False)}
    desired = TaskDesired("t", containers, Stop("UserInitiated", "enough") if stopping else None)
    observed = TaskObserved(status, interface, preparation, released, None, seen_by_name, NOW)
    now = NOW + timedelta(seconds=seconds)
    plan = plan_task(desired, observed, now)
    assert plan.wake_at is None or plan.wake_at > now
    for action in plan.actions:
        assert action.cause
        match action:
            case actions.StartContainer(container=name):
                assert seen_by_name[name].start is Progress.NOT_BEGUN
                assert not seen_by_name[name].stopped
                assert not stopping
            case actions.StopContainer(container=name):
                assert not seen_by_name[name].stopped
                assert not seen_by_name[name].stopping
            case actions.Move(event=event):
                assert states.TASK.allows(status, event)
            case _:
                pass
