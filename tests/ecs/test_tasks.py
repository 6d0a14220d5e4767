"""The life of tasks through the ECS API, with containers that follow scripts."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.runtime.memory import Script
from emulation.testing.eventually import eventually
from tests.ecs.harness import Ecs


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def container(image: str, name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def test_a_task_runs_and_ends_with_the_exit_code_of_its_container(ecs: Ecs) -> None:
    """The clock decides when the container ends; every moment of its life is dated by it."""
    image = ecs.image("job", Script(run_for=seconds(90), exit_with=3))
    arn = ecs.run(ecs.register(container(image)))
    running = ecs.until(arn, "RUNNING")
    assert running["desiredStatus"] == "RUNNING"
    assert running["containers"][0]["lastStatus"] == "RUNNING"

    ecs.advance(90)

    task = ecs.task(arn)
    assert task["lastStatus"] == task["desiredStatus"] == "STOPPED"
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert task["stoppedAt"] - task["startedAt"] == seconds(90)
    order = ["createdAt", "connectivityAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "stoppedAt"]
    assert sorted(order, key=lambda name: task[name]) == order


def test_stop_task_lets_the_container_end_by_itself(ecs: Ecs) -> None:
    """SIGTERM first; the reason of the caller is the task's, and the answer shows at once what is wanted."""
    arn = ecs.run(ecs.register(container(ecs.image("web", Script(stopped_with=0)))))
    ecs.until(arn, "RUNNING")
    answer = ecs.client.stop_task(cluster="c", task=arn, reason="enough")["task"]
    assert answer["desiredStatus"] == "STOPPED"
    task = ecs.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert task["containers"][0]["exitCode"] == 0


def test_a_container_that_ignores_sigterm_is_killed_after_its_stop_timeout(ecs: Ecs) -> None:
    """The timeout is one of the clock: nothing happens before, and SIGKILL then."""
    image = ecs.image("deaf", Script(ignores_stop=True))
    arn = ecs.run(ecs.register(container(image, stopTimeout=45)))
    ecs.until(arn, "RUNNING")
    ecs.client.stop_task(cluster="c", task=arn)
    ecs.until(arn, "STOPPING")
    ecs.advance(44)
    assert ecs.task(arn)["lastStatus"] == "STOPPING"
    ecs.advance(1)
    task = ecs.task(arn)
    assert task["lastStatus"] == "STOPPED"
    assert task["containers"][0]["exitCode"] == 137


def test_a_stopped_task_is_shown_for_an_hour(ecs: Ecs) -> None:
    """Then it is gone from DescribeTasks and ListTasks alike."""
    arn = ecs.run(ecs.register(container(ecs.image("short", Script(run_for=seconds(1))))))
    ecs.until(arn, "RUNNING")
    ecs.advance(1)
    assert ecs.client.list_tasks(cluster="c", desiredStatus="STOPPED")["taskArns"] == [arn]
    ecs.advance(3599)
    assert ecs.task(arn)["lastStatus"] == "STOPPED"
    ecs.advance(1)
    assert ecs.client.list_tasks(cluster="c", desiredStatus="STOPPED")["taskArns"] == []
    answer = ecs.client.describe_tasks(cluster="c", tasks=[arn])
    assert (answer["tasks"], answer["failures"]) == ([], [{"arn": arn, "reason": "MISSING"}])


def test_containers_start_in_order_and_an_init_container_goes_first(ecs: Ecs) -> None:
    """The web container waits for a migration that has to succeed."""
    web, migrate = ecs.image("web", Script()), ecs.image("migrate", Script(run_for=seconds(20)))
    arn = ecs.run(
        ecs.register(
            container(web, "web", dependsOn=[{"containerName": "migrate", "condition": "SUCCESS"}]),
            container(migrate, "migrate", essential=False),
        )
    )
    eventually(lambda: {c["name"]: c["lastStatus"] for c in ecs.task(arn)["containers"]}["migrate"] == "RUNNING")
    assert ecs.task(arn)["lastStatus"] == "PENDING"
    ecs.advance(20)
    task = ecs.until(arn, "RUNNING")
    assert [c["lastStatus"] for c in task["containers"]] == ["RUNNING", "STOPPED"]


def test_a_failed_init_container_keeps_the_task_from_starting(ecs: Ecs) -> None:
    """The task says which container failed and how."""
    web, migrate = ecs.image("web", Script()), ecs.image("migrate", Script(run_for=seconds(0), exit_with=1))
    arn = ecs.run(
        ecs.register(
            container(web, "web", dependsOn=[{"containerName": "migrate", "condition": "SUCCESS"}]),
            container(migrate, "migrate", essential=False),
        )
    )
    ecs.advance(1)
    task = ecs.until(arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert "migrate exited with code 1, but condition SUCCESS was required" in task["stoppedReason"]


def test_a_health_check_makes_a_container_healthy_and_unhealthy(ecs: Ecs) -> None:
    """The command runs in the container every interval; only as many failures in a row as `retries` count."""
    failing = {("/bin/sh", "-c", "false"): Script(run_for=seconds(0), exit_with=1)}
    sick = ecs.image("sick", Script(commands=failing))
    check = {"command": ["CMD-SHELL", "false"], "interval": 10, "retries": 2, "timeout": 5}
    arn = ecs.run(ecs.register(container(sick, healthCheck=check)))
    ecs.until(arn, "RUNNING")
    ecs.advance(10)
    assert ecs.task(arn)["healthStatus"] == "UNKNOWN"
    ecs.advance(10)
    eventually(lambda: ecs.task(arn)["healthStatus"] == "UNHEALTHY")
    assert ecs.task(arn)["containers"][0]["healthStatus"] == "UNHEALTHY"

    well = {**check, "command": ["CMD", "true"]}
    arn = ecs.run(ecs.register(container(ecs.image("well", Script()), healthCheck=well)))
    ecs.until(arn, "RUNNING")
    ecs.advance(10)
    eventually(lambda: ecs.task(arn)["healthStatus"] == "HEALTHY")


def test_out_of_memory_is_told_apart_from_a_kill(ecs: Ecs) -> None:
    """Both exit with 137; the reason is what tells them apart."""
    arn = ecs.run(ecs.register(container(ecs.image("big", Script(out_of_memory=True)))))
    ecs.advance(1)
    task = ecs.until(arn, "STOPPED")
    shown = task["containers"][0]
    assert (shown["exitCode"], shown["reason"]) == (137, "OutOfMemoryError: Container killed due to memory usage")


def test_what_cannot_start_stops_with_the_reason(ecs: Ecs) -> None:
    """An entry point that does not exist never ran: there is no exit code, and the task failed to start."""
    why = 'CannotStartContainerError: Error response from daemon: exec: "nope": executable file not found in $PATH'
    arn = ecs.run(ecs.register(container(ecs.image("broken", Script(fails_to_start=why)))))
    task = ecs.until(arn, "STOPPED")
    assert (task["stopCode"], task["stoppedReason"]) == ("TaskFailedToStart", why)
    assert "exitCode" not in task["containers"][0]


def test_secrets_reach_the_container_and_missing_ones_stop_the_task(ecs: Ecs) -> None:
    """A parameter and a member of a secret become environment variables; what is not there is named."""
    role = ecs.role()
    ecs.aws.client("ssm").put_parameter(Name="/db/password", Value="s3cret", Type="SecureString")
    arn = ecs.aws.client("secretsmanager").create_secret(Name="api", SecretString='{"key": "k-1"}')["ARN"]
    both = [{"name": "PASSWORD", "valueFrom": "/db/password"}, {"name": "KEY", "valueFrom": f"{arn}:key::"}]
    task = ecs.run(ecs.register(container(ecs.image("web", Script()), secrets=both), executionRoleArn=role))
    ecs.until(task, "RUNNING")

    missing = [{"name": "PASSWORD", "valueFrom": "/db/nothing"}]
    task = ecs.run(ecs.register(container(ecs.image("web", Script()), secrets=missing), executionRoleArn=role))
    stopped = ecs.until(task, "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"].startswith("ResourceInitializationError: unable to pull secrets or registry auth")
    assert "/db/nothing" in stopped["stoppedReason"]


def test_a_missing_log_group_stops_the_task(ecs: Ecs) -> None:
    """The log driver cannot create its stream; AWS says so in the task's stopped reason."""
    options = {"awslogs-group": "/nowhere", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "x"}
    log = {"logDriver": "awslogs", "options": options}
    definition = ecs.register(container(ecs.image("web", Script()), logConfiguration=log), executionRoleArn=ecs.role())
    task = ecs.until(ecs.run(definition), "STOPPED")
    assert "The specified log group does not exist" in task["stoppedReason"]


def test_overrides_change_one_run_only(ecs: Ecs) -> None:
    """Command and environment of a run are its own; the task definition stays as it is."""
    definition = ecs.register(container(ecs.image("web", Script()), environment=[{"name": "A", "value": "1"}]))
    override = {"name": "app", "command": ["train"], "environment": [{"name": "B", "value": "2"}]}
    arn = ecs.run(definition, overrides={"containerOverrides": [override], "cpu": "512", "memory": "1024"})
    task = ecs.until(arn, "RUNNING")
    assert task["overrides"]["containerOverrides"] == [override]
    assert (task["cpu"], task["memory"]) == ("512", "1024")
    shown = ecs.client.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    assert "command" not in shown["containerDefinitions"][0]


def test_a_client_token_starts_a_task_once(ecs: Ecs) -> None:
    """A retry of the same request gives the same task."""
    definition = ecs.register(container(ecs.image("web", Script())))
    first = ecs.run(definition, clientToken="once")
    assert ecs.run(definition, clientToken="once") == first
    with pytest.raises(ClientError, match="ConflictException.*already in use with a different RunTask request"):
        ecs.run(definition, clientToken="once", count=2)
    assert ecs.client.list_tasks(cluster="c")["taskArns"] == [first]


def test_a_cluster_counts_its_tasks_and_is_not_deleted_under_them(ecs: Ecs) -> None:
    """DescribeClusters counts what is there; DeleteCluster refuses while a task has not stopped."""
    arn = ecs.run(ecs.register(container(ecs.image("web", Script()))))
    ecs.until(arn, "RUNNING")
    cluster = ecs.client.describe_clusters(clusters=["c"])["clusters"][0]
    assert (cluster["runningTasksCount"], cluster["pendingTasksCount"]) == (1, 0)
    with pytest.raises(ClientError, match="The Cluster cannot be deleted while Tasks are active"):
        ecs.client.delete_cluster(cluster="c")
    ecs.client.stop_task(cluster="c", task=arn)
    ecs.until(arn, "STOPPED")
    assert ecs.client.delete_cluster(cluster="c")["cluster"]["status"] == "INACTIVE"
    with pytest.raises(ClientError, match="The referenced cluster was inactive"):
        ecs.run(ecs.register(container(ecs.image("web", Script()))))


def test_the_interface_lives_as_long_as_the_task(ecs: Ecs) -> None:
    """DescribeNetworkInterfaces shows it in use, with the attachment's ARN, until the task has stopped."""
    ec2 = ecs.aws.client("ec2")
    arn = ecs.run(ecs.register(container(ecs.image("web", Script()))))
    task = ecs.until(arn, "RUNNING")
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    eni = details["networkInterfaceId"]
    shown = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]
    assert (shown["Status"], shown["PrivateIpAddress"]) == ("in-use", details["privateIPv4Address"])
    ecs.client.stop_task(cluster="c", task=arn)
    ecs.until(arn, "STOPPED")
    with pytest.raises(ClientError, match="InvalidNetworkInterfaceID"):
        ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])


def test_tags_are_kept_and_propagated(ecs: Ecs) -> None:
    """A task has the tags of its run, and those of its definition where that was asked for."""
    definition = ecs.register(container(ecs.image("web", Script())), tags=[{"key": "team", "value": "ml"}])
    arn = ecs.run(definition, tags=[{"key": "run", "value": "1"}], propagateTags="TASK_DEFINITION")
    assert ecs.task(arn)["tags"] == [{"key": "run", "value": "1"}, {"key": "team", "value": "ml"}]
    ecs.client.tag_resource(resourceArn=arn, tags=[{"key": "run", "value": "2"}])
    assert ecs.client.list_tags_for_resource(resourceArn=arn)["tags"][0] == {"key": "run", "value": "2"}


def test_lists_of_tasks_are_filtered_and_paged(ecs: Ecs) -> None:
    """ListTasks shows what should run, by family and startedBy, in pages."""
    definition = ecs.register(container(ecs.image("web", Script())))
    mine = {ecs.run(definition, startedBy="me") for _ in range(3)}
    other = ecs.run(definition, startedBy="you")
    pages = ecs.client.get_paginator("list_tasks").paginate(
        cluster="c", startedBy="me", PaginationConfig={"PageSize": 2}
    )
    listed = [page["taskArns"] for page in pages]
    assert [len(page) for page in listed] == [2, 1]
    assert {arn for page in listed for arn in page} == mine
    assert set(ecs.client.list_tasks(cluster="c", family="app")["taskArns"]) == {*mine, other}
    assert ecs.client.list_tasks(cluster="c", family="none")["taskArns"] == []


@pytest.mark.parametrize(
    "step",
    [
        "emulation.wiring.tasks.TaskInterfaces.attach",
        "emulation.ecs.machine.TaskMachine._container_spec",
        "emulation.runtime.memory.MemoryContainer.wait",
        "emulation.runtime.memory.MemoryTask.close",
    ],
)
def test_a_task_ends_also_where_a_step_of_it_fails_inside(ecs: Ecs, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A defect is the task's stopped reason and not a task that hangs for ever."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise ValueError("a defect")

    definition = ecs.register(container(ecs.image("app", Script(run_for=seconds(0)))))
    monkeypatch.setattr(step, fail)
    task = ecs.until(ecs.run(definition), "STOPPED")
    assert task["containers"][0]["lastStatus"] == "STOPPED"
    if "close" not in step:
        assert task["stoppedReason"] == "Sunabox failed inside: ValueError: a defect"
