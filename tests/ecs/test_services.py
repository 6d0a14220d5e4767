"""Services through the ECS API, with containers that follow scripts."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.core.bus import Event
from emulation.runtime.memory import Script
from emulation.testing.cloud_thread import CloudThread
from tests.ecs.harness import Ecs
from tests.ecs.service_harness import STEADY, Web

BREAKER = {"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}}
FAILS = Script(fails_to_start="CannotStartContainerError: no such file")


@pytest.fixture
def web(ecs: Ecs) -> Web:
    return Web(ecs)


@pytest.fixture
def bus(scripted_cloud: CloudThread, ecs: Ecs) -> Iterator[list[Event]]:
    """What the event bus tells of services of this account."""
    assert scripted_cloud.cloud is not None
    engine: Any = scripted_cloud.cloud._parts.ecs
    heard: list[Event] = []
    subscription = engine._surroundings.bus.subscribe(
        lambda e: heard.append(e) if e.account == ecs.aws.account_id and "Task" not in e.detail_type else None
    )
    yield heard
    subscription.cancel()


def test_a_service_runs_its_tasks_and_comes_to_a_steady_state(web: Web) -> None:
    """Tasks run at once; the deployment completes when they have run for the 40 seconds that AWS waits."""
    made = web.create(web.definition(), 2)
    assert (made["status"], made["desiredCount"], made["runningCount"]) == ("ACTIVE", 2, 0)
    web.settle()
    assert web.counts == (2, 2, 0)
    assert web.deployments == [("PRIMARY", "IN_PROGRESS", 2, 2)]
    web.ecs.advance(40)
    (deployment,) = web.now["deployments"]
    assert deployment["rolloutStateReason"] == f"ECS deployment {deployment['id']} completed."
    started, *rest = web.events
    assert started.startswith("has started 2 tasks: (task ")
    assert rest == [f"(deployment {deployment['id']}) deployment completed.", STEADY]
    (task, _) = web.tasks
    assert (task["group"], task["startedBy"]) == ("service:web", deployment["id"])


def test_a_task_that_dies_is_replaced_at_once(web: Web) -> None:
    """Whoever ends it; the service counts as steady again when the new one has run for a while."""
    web.steady(web.definition(), 2)
    victim = web.tasks[0]["taskArn"]
    web.client.stop_task(cluster="c", task=victim)
    web.settle()
    assert web.counts == (2, 2, 0)
    assert victim not in [t["taskArn"] for t in web.tasks]
    assert web.events[-1].startswith("has started 1 tasks: (task ")
    web.ecs.advance(40)
    assert web.events[-1] == STEADY


def test_a_release_is_rolled_out_without_a_gap(web: Web) -> None:
    """Two deployments are shown meanwhile; the waiter of the SDKs succeeds in the end."""
    web.steady(web.definition(), 2)
    old = {t["taskArn"] for t in web.tasks}
    answer = web.update(taskDefinition=web.definition(name="web-2"))
    assert [d["status"] for d in answer["deployments"]] == ["PRIMARY", "ACTIVE"]
    web.settle()
    assert web.deployments == [("PRIMARY", "IN_PROGRESS", 2, 2), ("ACTIVE", "COMPLETED", 2, 2)]
    web.ecs.advance(39)
    assert old < {t["taskArn"] for t in web.tasks}
    web.ecs.advance(1)
    assert web.deployments == [("PRIMARY", "COMPLETED", 2, 2)]
    assert not old & {t["taskArn"] for t in web.tasks}
    stopped = web.ecs.task(next(iter(old)))
    assert stopped["stopCode"] == "ServiceSchedulerInitiated"
    assert stopped["stoppedReason"].startswith("Scaling activity initiated by (deployment ecs-svc/")
    waiter = web.client.get_waiter("services_stable")
    waiter.wait(cluster="c", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_a_forced_deployment_replaces_tasks_and_the_same_definition_does_not(web: Web) -> None:
    """UpdateService with what is there already is no new deployment."""
    definition = web.definition()
    web.steady(definition, 1)
    before = web.now["deployments"][0]["id"]
    assert len(web.update(taskDefinition=definition)["deployments"]) == 1
    assert len(web.update(forceNewDeployment=True)["deployments"]) == 2
    web.ecs.advance(60)
    (deployment,) = web.now["deployments"]
    assert (deployment["id"] != before, deployment["rolloutState"]) == (True, "COMPLETED")


def test_a_release_that_cannot_start_is_rolled_back(web: Web, bus: list[Event]) -> None:
    """The circuit breaker opens after three tasks; the tasks of the release before never stopped."""
    good = web.definition()
    web.steady(good, 2, **BREAKER)
    before = web.now["deployments"][0]["id"]
    tasks = [t["taskArn"] for t in web.tasks]
    bus.clear()
    bad = web.update(taskDefinition=web.definition(FAILS, "broken"))["deployments"][0]["id"]
    web.ecs.advance(300)
    service = web.now
    assert [(d["id"], d["rolloutState"]) for d in service["deployments"]] == [(before, "COMPLETED")]
    assert service["taskDefinition"] == good
    assert [t["taskArn"] for t in web.tasks] == tasks
    told = web.events
    at = told.index(f"(deployment {bad}) deployment failed: tasks failed to start.")
    assert told[at + 1] == f"rolling back to deployment {before}."
    assert told[-2:] == [f"(deployment {before}) deployment completed.", STEADY]
    names = [(e.detail["eventName"], e.detail.get("deploymentId")) for e in bus]
    assert names == [
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", bad),
        ("SERVICE_DEPLOYMENT_FAILED", bad),
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", before),
        ("SERVICE_DEPLOYMENT_COMPLETED", before),
        ("SERVICE_STEADY_STATE", None),
    ]
    assert bus[1].detail["reason"] == "ECS deployment circuit breaker: tasks failed to start."
    web.update(forceNewDeployment=True)
    web.ecs.advance(60)
    assert web.now["taskDefinition"] == good  # what a forced deployment deploys is what runs, not what failed


def test_a_service_whose_tasks_never_start_tries_ever_more_seldom(web: Web, bus: list[Event]) -> None:
    """It says so once, on the event bus too, and recovers when a release works."""
    web.create(web.definition(FAILS, "broken"), 1)
    web.ecs.advance(3600)
    told = web.events
    impaired = [text for text in told if text.startswith("is unable to consistently start tasks successfully.")]
    assert len(impaired) == 1
    assert 8 <= sum(text.startswith("has started 1 tasks") for text in told) <= 11
    assert [e.detail["eventType"] for e in bus if e.detail["eventName"] == "SERVICE_TASK_START_IMPAIRED"] == ["WARN"]
    assert web.now["deployments"][0]["failedTasks"] >= 8
    web.update(taskDefinition=web.definition(name="works"))
    web.ecs.advance(60)
    assert web.deployments == [("PRIMARY", "COMPLETED", 1, 1)]


def test_a_container_that_exits_at_once_does_not_turn_into_a_busy_loop(web: Web) -> None:
    """The first is replaced at once, the next ones every ten seconds."""
    web.create(web.definition(Script(run_for=timedelta(0), exit_with=1), "crash"), 1)
    web.ecs.advance(100)
    assert 10 <= sum("has started 1 tasks" in text for text in web.events) <= 12


def test_scaling_starts_and_stops_tasks(web: Web) -> None:
    """1 → 5 → 2: the deployment stays completed, and the oldest task stays."""
    web.steady(web.definition(), 1)
    (oldest,) = (t["taskArn"] for t in web.tasks)
    web.update(desiredCount=5)
    web.settle()
    assert web.counts == (5, 5, 0)
    web.ecs.advance(60)
    web.update(desiredCount=2)
    web.settle()
    assert web.counts == (2, 2, 0)
    assert web.tasks[0]["taskArn"] == oldest
    assert web.deployments == [("PRIMARY", "COMPLETED", 2, 2)]
    assert web.events[-2].startswith("has stopped 3 running tasks: (task ")


def test_a_task_with_an_unhealthy_container_is_replaced(web: Web) -> None:
    """The first task fails its container's health check, the next passes it."""
    check = {"healthCheck": {"command": ["CMD", "check"], "interval": 10, "retries": 1, "timeout": 5}}
    exit_codes = iter([7])

    def script(_spec: object) -> Script:
        return Script(commands={("check",): Script(exit_with=next(exit_codes, 0))}, stopped_with=0)

    image = web.ecs.image("checked", Script())
    web.ecs._scripts[image] = script
    definition = web.ecs.register({"name": "app", "image": image, **check})
    web.create(definition, 1)
    web.ecs.advance(11)
    sick, *_ = [e for e in web.events if "failed container health checks" in e]
    stopped = web.ecs.task(f"{sick.partition('(task ')[2].partition(')')[0]}")
    assert stopped["stoppedReason"] == "Task failed container health checks"
    assert any(e.endswith("Amazon ECS replaced 1 tasks due to an unhealthy status.") for e in web.events)
    web.ecs.advance(11)
    assert web.deployments == [("PRIMARY", "COMPLETED", 1, 1)]


def test_tags_are_propagated(web: Web) -> None:
    """Managed tags name cluster and service; the service's own come along where it is asked for."""
    tags = [{"key": "team", "value": "furui"}]
    web.create(web.definition(), 1, tags=tags, propagateTags="SERVICE", enableECSManagedTags=True)
    web.settle()
    found = {t["key"]: t["value"] for t in web.tasks[0]["tags"]}
    assert found == {"aws:ecs:clusterName": "c", "aws:ecs:serviceName": "web", "team": "furui"}
    arn = web.now["serviceArn"]
    assert web.client.list_tags_for_resource(resourceArn=arn)["tags"] == tags
    web.client.tag_resource(resourceArn=arn, tags=[{"key": "stage", "value": "test"}])
    assert {"key": "stage", "value": "test"} in web.now["tags"]


def test_a_strategy_shares_tasks_among_fargate_and_spot(web: Web) -> None:
    """The base on FARGATE, the rest by weight; the tasks show their provider."""
    web.client.put_cluster_capacity_providers(
        cluster="c", capacityProviders=["FARGATE", "FARGATE_SPOT"], defaultCapacityProviderStrategy=[]
    )
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 0},
        {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 1},
    ]
    web.create(web.definition(), 3, launchType=None, capacityProviderStrategy=strategy)
    web.settle()
    assert sorted(t["capacityProviderName"] for t in web.tasks) == ["FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"]
    shown = web.now["capacityProviderStrategy"]
    assert sorted(s["capacityProvider"] for s in shown) == ["FARGATE", "FARGATE_SPOT"]


def test_a_deleted_service_drains_and_stays_known_as_inactive(web: Web) -> None:
    """Not while it is scaled above 0; its name is free again when the last task has stopped."""
    slow = Script(ignores_stop=True)
    web.steady(web.definition(slow, "slow"), 1)
    with pytest.raises(ClientError, match="The service cannot be stopped while it is scaled above 0."):
        web.delete()
    assert web.delete(force=True)["status"] == "DRAINING"
    with pytest.raises(ClientError, match="The Cluster cannot be deleted while Services are active."):
        web.client.delete_cluster(cluster="c")
    with pytest.raises(ClientError, match="Unable to Start a service that is still Draining."):
        web.create(web.definition(), 1)
    with pytest.raises(ClientError, match="Service was not ACTIVE."):
        web.update(desiredCount=1)
    web.ecs.advance(31)
    assert (web.now["status"], web.now["deployments"]) == ("INACTIVE", [])
    assert web.client.list_services(cluster="c")["serviceArns"] == []
    assert web.create(web.definition(), 0)["status"] == "ACTIVE"


def test_services_are_listed_in_pages(web: Web) -> None:
    """Ten at a time where nothing else is said, filtered by what they are."""
    definition = web.definition()
    for number in range(12):
        settings = {"networkConfiguration": web.network, "desiredCount": 0, "launchType": "FARGATE"}
        web.client.create_service(cluster="c", serviceName=f"s{number:02}", taskDefinition=definition, **settings)
    first = web.client.list_services(cluster="c")
    assert len(first["serviceArns"]) == 10
    rest = web.client.list_services(cluster="c", nextToken=first["nextToken"])
    assert [arn.rpartition("/")[2] for arn in rest["serviceArns"]] == ["s10", "s11"]
    assert "nextToken" not in rest
    assert web.client.list_services(cluster="c", launchType="EC2")["serviceArns"] == []
    assert web.client.describe_clusters(clusters=["c"])["clusters"][0]["activeServicesCount"] == 12


def test_a_service_on_ec2_says_that_there_are_no_instances(web: Web, bus: list[Event]) -> None:
    """AWS accepts it, and tells of it in an event."""
    container = {"name": "app", "image": "app", "memory": 64}
    definition = web.ecs.register(container, requiresCompatibilities=["EC2"], networkMode="bridge")
    web.create(definition, 1, launchType="EC2", networkConfiguration=None)
    web.settle()
    assert web.events == [
        "was unable to place a task because no container instance met all of its requirements. Reason: No Container "
        "Instances were found in your cluster. For more information, see the Troubleshooting section of the Amazon "
        "ECS Developer Guide."
    ]
    assert "SERVICE_TASK_PLACEMENT_FAILURE" in [e.detail["eventName"] for e in bus]
