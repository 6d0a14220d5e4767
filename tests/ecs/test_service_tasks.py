"""What being a target means for a task's own plan: registered before it runs, drained before it stops."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from emulation.ecs.definition import ContainerDefinition
from emulation.ecs.observation import ContainerObserved, Progress, Stop, TaskDesired, TaskObserved, TaskStatus
from emulation.ecs.plan import plan_task

NOW = datetime(2026, 1, 1, tzinfo=UTC)
APP = ContainerDefinition(name="app", image="app")
TASK = TaskDesired("t", (APP,), Stop("ServiceSchedulerInitiated", "enough"), frozenset({"app"}))
RUNS = {"app": ContainerObserved(start=Progress.DONE, started_at=NOW)}
ACTIVATING = TaskObserved(TaskStatus.ACTIVATING, containers=RUNS)
DEACTIVATING = replace(ACTIVATING, status=TaskStatus.DEACTIVATING, registration=Progress.DONE)


@pytest.mark.parametrize(
    ("observed", "plan"),
    [
        (ACTIVATING, "RegisterTargets — every container has started"),
        (replace(ACTIVATING, registration=Progress.UNDER_WAY), "(nothing to do)"),
        (replace(ACTIVATING, registration=Progress.DONE), "Move Activated — its targets are registered"),
        (DEACTIVATING, "DeregisterTargets — enough"),
        (replace(DEACTIVATING, deregistration=Progress.UNDER_WAY), "(nothing to do)"),
        (replace(DEACTIVATING, deregistration=Progress.DONE), "Move Deactivated — its targets have drained"),
        (
            replace(DEACTIVATING, registration=Progress.NOT_BEGUN),
            "Move Deactivated — no load balancer has the task as a target",
        ),
        (
            replace(
                DEACTIVATING,
                deregistration=Progress.UNDER_WAY,
                containers={"app": replace(RUNS["app"], stopped=True, exit_code=137)},
            ),
            "Move Deactivated — nobody is left to answer a request in flight",
        ),
    ],
)
def test_a_task_is_a_target_for_as_long_as_it_serves(observed: TaskObserved, plan: str) -> None:
    """Each step waits for the one before; the end of draining is not waited for when its container is dead."""
    assert str(plan_task(TASK, observed, NOW)) == plan
