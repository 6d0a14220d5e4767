"""`sunabox why`: for each cause the sentence that names it, and where to change it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from emulation.why.explain import explain_service, explain_target, explain_task
from emulation.why.facts import ContainerFacts, HealthCheckFacts, ServiceFacts, TargetFacts, TaskFacts

WEB = ContainerFacts("web", "furui:1", "RUNNING", ports=(7777,), log_group="/ecs/web", log_stream="web/web/1a2b")
TASK = TaskFacts("1a2b", "web:3", "RUNNING", (WEB,), private_ip="10.0.1.5", listening=frozenset({7777}))
CHECK = HealthCheckFacts("/", "traffic-port", "200", timedelta(seconds=30), timedelta(seconds=5), 2)
TARGET = TargetFacts("web", "10.0.1.5", 7777, "unhealthy", check=CHECK, security_groups=("sg-1",), task=TASK)


def stopped(why: str, **container: object) -> TaskFacts:
    gone = replace(WEB, status="STOPPED", **container)  # type: ignore[arg-type]
    return replace(TASK, status="STOPPED", stopped_reason=why, containers=(gone,))


def test_a_task_that_is_well_has_nothing_to_do() -> None:
    """No cause is made up."""
    answer = explain_task(TASK)
    assert str(answer) == "Task 1a2b (web:3) is RUNNING.\n  Nothing is wrong with it."
    assert answer.todo == ()


@pytest.mark.parametrize(
    ("task", "sentence", "todo"),
    [
        (stopped("CannotPullContainerError: pull image manifest: 127.0.0.1:4566/1/r/app:2: not found"),
         "not found", "There is no image 127.0.0.1:4566/1/r/app:2."),
        (stopped("Essential container in task exited", exit_code=137, reason="OutOfMemoryError: Container killed …"),
         "used more memory than it may", "Raise `memory` of container web"),
        (stopped("CannotStart…", reason='exec: "nope": executable file not found in $PATH: unknown'),
         "could not start nope: executable file not found in $PATH", "the image furui:1 has no such program"),
        (stopped("Essential container in task exited", exit_code=1), "ended with exit code 1.",
         "sunabox logs /ecs/web --stream web/web/1a2b"),
        (stopped("… The specified log group does not exist."), "log group", "aws logs create-log-group"),
        (stopped("… unable to retrieve secrets from ssm: invalid ssm parameters: /a"), "/a", "Create the secret"),
        (replace(TASK, listening=frozenset({8080})), "Nobody listens on port 7777, which the task definition declares. "
         "The task listens on 8080.", "change containerPort"),
        (replace(TASK, listening=frozenset(), loopback=frozenset({7777})), "127.0.0.1:7777, which is the task's own",
         "Let it listen on 0.0.0.0:7777."),
        (replace(TASK, denials=("the host → 127.0.4.1:7777 got no answer: no rule",), security_groups=("sg-1",)),
         "got no answer", "--group-id sg-1"),
    ],
)  # fmt: skip
def test_each_cause_of_a_task_is_named(task: TaskFacts, sentence: str, todo: str) -> None:
    """One sentence says what is wrong, one step where to change it."""
    answer = explain_task(task)
    assert sentence in " ".join(answer.sentences)
    assert todo in " ".join(answer.todo)


@pytest.mark.parametrize(
    ("target", "sentence", "todo"),
    [
        (replace(TARGET, reason="Target.Timeout", denied="no security group of eni-1 allows tcp 7777 from 10.0.0.9"),
         "security groups keep the load balancer out", "Allow TCP 7777 from the load balancer's security group"),
        (replace(TARGET, reason="Target.FailedHealthChecks", task=replace(TASK, listening=frozenset({8080}))),
         "port 7777, where nobody listens. The task listens on 8080.", "change containerPort"),
        (replace(TARGET, reason="Target.ResponseCodeMismatch", description="… with these codes: [404]"),
         "GET / is answered with 404, not 200", "health check path"),
        (replace(TARGET, reason="Target.Timeout"), "does not answer within 5 s", "timeout"),
        (replace(TARGET, state="unused", reason="Target.NotInUse", description="Target group is not configured …"),
         "not configured", "create-listener"),
        (replace(TARGET, reason="Target.Timeout", task=None), "No running task has the address", "Deregister"),
    ],
)  # fmt: skip
def test_each_cause_of_a_target_is_named(target: TargetFacts, sentence: str, todo: str) -> None:
    """The engineer guessed at exactly this."""
    answer = explain_target(target)
    assert sentence in " ".join(answer.sentences)
    assert todo in " ".join(answer.todo)


def test_a_target_that_is_still_being_checked_is_not_blamed() -> None:
    """INITIAL is no failure."""
    assert explain_target(replace(TARGET, state="initial", reason="Elb.InitialHealthChecking")).todo == ()


def test_a_service_is_explained_by_its_targets_and_by_the_tasks_that_died() -> None:
    """What keeps it below its desired count, and a grace period that is shorter than what its checks need."""
    dead = stopped("Task failed ELB health checks in (target-group …)")
    service = ServiceFacts("web", "ACTIVE", 1, 0, 1, "web:3", targets=(TARGET,), stopped=(dead,))
    words = str(explain_service(service))
    assert words.startswith("Service web is ACTIVE: 0 of 1 tasks run.")
    assert "Target 10.0.1.5:7777 of web is unhealthy." in words
    assert "Raise healthCheckGracePeriodSeconds" in words
    patient = replace(service, grace_period=timedelta(minutes=5))
    assert "healthCheckGracePeriodSeconds" not in str(explain_service(patient))
    well = ServiceFacts("web", "ACTIVE", 1, 1, 0, "web:3", tasks=(TASK,))
    assert explain_service(well).sentences == ("Nothing is wrong with it.",)
