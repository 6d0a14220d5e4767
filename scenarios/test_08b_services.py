"""Chapter 8, services: what runs is kept running, and one release is replaced by the next without anybody noticing.

The engineer started a task by hand, and it died in the night. A service is the promise that as many tasks run as he
asked for. He kills containers to believe it, rolls out releases under load, and ships one that is broken: the one
before it goes on, and after a while ECS gives the new one up.
"""

import http.client
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from balancer import Balancer, Load, get
from fargate import Fargate
from services import PORT, Service

from emulation.testing.handles import ClockHandle

pytestmark = pytest.mark.needs_runtime("process", "docker")

Eventually = Callable[..., Any]
BREAKER = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
UNTIL_A_TASK_COUNTS = timedelta(seconds=40)


@pytest.fixture
def service(fargate: Fargate, furui_image: str) -> Service:
    return Service(fargate, furui_image)


@pytest.fixture
def balancer(fargate: Fargate) -> Balancer:
    return Balancer(fargate)


def says(address: str, path: str = "/") -> str:
    """What the task answers, '' where it does not."""
    with suppress(OSError, http.client.HTTPException):
        return get(f"{address}:{PORT}", path).text
    return ""


def test_a_dead_container_must_be_replaced_at_once(service: Service, eventually: Eventually) -> None:
    """The service wants two tasks. One of them crashes; the service scheduler starts another without being asked.

    Look at the service's events: "has started 1 tasks". The stopped task is still shown, with its exit code.
    """
    service.create("1", tasks=2)
    eventually(lambda: service.running == 2, within=30)
    victim, _ = before = service.tasks
    address = service.fargate.public_ip(victim)
    eventually(lambda: says(address) == "1", within=20)

    says(address, "/die")

    eventually(lambda: service.running == 2 and victim not in service.tasks, within=20)
    assert len(set(service.tasks) - set(before)) == 1
    assert service.events[-1].startswith("(service web) has started 1 tasks: (task ")
    stopped = service.fargate.stopped(victim)
    assert (stopped["stopCode"], stopped["containers"][0]["exitCode"]) == ("EssentialContainerExited", 1)


def test_a_service_must_follow_the_number_that_is_asked_for(
    service: Service, eventually: Eventually, clock: ClockHandle
) -> None:
    """1 → 5 → 2. The tasks that were there first are the ones that stay.

    Look at `desiredCount`, `pendingCount` and `runningCount`, as on the console.
    """
    service.create("1", tasks=1)
    eventually(lambda: service.running == 1, within=30)
    (first,) = service.tasks
    clock.advance(UNTIL_A_TASK_COUNTS)

    service.update(desiredCount=5)
    eventually(lambda: service.running == 5, within=30)
    clock.advance(UNTIL_A_TASK_COUNTS)
    service.update(desiredCount=2)

    eventually(lambda: service.running == 2 and len(service.tasks) == 2, within=20)
    assert first in service.tasks
    eventually(service.is_steady, within=10)


@pytest.mark.parametrize(("maximum", "minimum"), [(200, 100), (100, 50)])
def test_a_release_under_load_must_not_fail_a_request(
    service: Service,
    balancer: Balancer,
    eventually: Eventually,
    clock: ClockHandle,
    maximum: int,
    minimum: int,
) -> None:
    """New tasks become targets and pass their checks before old ones go; those drain before they are stopped.

    With 200/100 percent all new tasks start beside the old ones, with 100/50 half of the old ones make room first.
    Look at the two deployments meanwhile: PRIMARY, and ACTIVE with ever fewer tasks.
    """
    clock.speed(5)
    limits = {"maximumPercent": maximum, "minimumHealthyPercent": minimum}
    service.create("1", tasks=4, deploymentConfiguration=limits, **service.behind(balancer))
    eventually(service.is_steady, within=60)
    healthy_at_least = 4 * minimum // 100

    load = Load(balancer.url, requests=4000)
    service.update(taskDefinition=service.release("2"))
    while not service.is_steady():
        shown = service.now
        assert shown["runningCount"] + shown["pendingCount"] <= 4 * maximum // 100
        assert shown["runningCount"] >= healthy_at_least
        if load.over:
            assert load.report().failed == 0
            load = Load(balancer.url, requests=4000)
    report = load.report()

    assert (report.complete, report.failed) == (4000, 0)
    assert {balancer.get().text for _ in range(20)} == {"2"}
    waiter = service.ecs.get_waiter("services_stable")
    waiter.wait(cluster=service.fargate.cluster, services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_a_broken_release_must_be_given_up_while_the_one_before_it_serves(
    service: Service, balancer: Balancer, eventually: Eventually, clock: ClockHandle
) -> None:
    """The new tasks run, and answer 404 to the health check. The load balancer never sends anybody to them.

    Look at the events: each of them "is unhealthy in (target-group …) due to (reason Health checks failed with these
    codes: [404])", after three of them "deployment failed", then "rolling back".
    """
    clock.speed(5)
    service.create("1", tasks=2, deploymentConfiguration=BREAKER, **service.behind(balancer))
    eventually(service.is_steady, within=60)
    good, tasks = service.now["taskDefinition"], set(service.tasks)

    load = Load(balancer.url, requests=4000)
    service.update(taskDefinition=service.release("broken"))
    eventually(lambda: any("rolling back to deployment ecs-svc/" in event for event in service.events), within=60)
    eventually(service.is_steady, within=60)
    report = load.report()

    assert (report.complete, report.failed) == (4000, 0)
    assert (service.now["taskDefinition"], set(service.tasks)) == (good, tasks)
    assert any("due to (reason Health checks failed with these codes: [404])." in event for event in service.events)


def test_scaling_in_under_load_must_not_fail_a_request(
    service: Service, balancer: Balancer, eventually: Eventually, clock: ClockHandle
) -> None:
    """A task that is too many is deregistered first, finishes what it has begun, and is stopped only then.

    Look at the task: DEACTIVATING while its target is draining.
    """
    clock.speed(5)
    service.create("1", tasks=3, **service.behind(balancer))
    eventually(service.is_steady, within=60)
    load = Load(balancer.url, requests=3000)

    service.update(desiredCount=1)
    eventually(lambda: len(service.tasks) == 1 and service.is_steady(), within=30)
    eventually(lambda: len(balancer.states(service.now["loadBalancers"][0]["targetGroupArn"])) == 1, within=30)
    report = load.report()

    assert (report.complete, report.failed) == (3000, 0)
    assert any("has begun draining connections on 2 tasks." in event for event in service.events)
