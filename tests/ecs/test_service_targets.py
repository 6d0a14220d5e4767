"""Services behind a load balancer, whose target groups are played by the test."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from emulation.clock import Clock
from emulation.cloud import CloudOptions
from emulation.ecs.surroundings import TargetHealth
from emulation.errors import SunaboxError
from emulation.runtime.memory import Script
from emulation.testing.cloud_thread import CloudThread
from tests.ecs.harness import Ecs
from tests.ecs.service_harness import STEADY, Web

GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef"
INSTANCES = GROUP.replace("/web/", "/instances/")
LOAD_BALANCERS = {"loadBalancers": [{"targetGroupArn": GROUP, "containerName": "app", "containerPort": 7777}]}
CODES = "Health checks failed with these codes: [404]"
INITIAL = TargetHealth("initial", "Elb.RegistrationInProgress")
HEALTHY, DRAINING = TargetHealth("healthy"), TargetHealth("draining", "Target.DeregistrationInProgress")
UNHEALTHY = TargetHealth("unhealthy", "Target.ResponseCodeMismatch", CODES)
DELAY = timedelta(seconds=100)


class PlayedTargetGroups:
    """A new target is what `first` says, and drains for DELAY."""

    def __init__(self) -> None:
        self.clock: Clock
        self.first = HEALTHY
        self.targets: dict[tuple[str, int], TargetHealth] = {}
        self._listeners: list[Callable[[str], None]] = []

    async def register(self, target_group_arn: str, ip: str, port: int) -> None:
        assert target_group_arn == GROUP
        self.targets[ip, port] = self.first

    async def deregister(self, target_group_arn: str, ip: str, port: int) -> None:
        self.targets[ip, port] = DRAINING

    async def deregistered(self, target_group_arn: str, ip: str, port: int) -> None:
        await self.clock.sleep(DELAY)
        del self.targets[ip, port]

    def health(self, target_group_arn: str) -> Mapping[tuple[str, int], TargetHealth]:
        return dict(self.targets)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._listeners.append(changed)

    def become(self, health: TargetHealth, *addresses: tuple[str, int]) -> None:
        """These targets, or all that do not drain, get this health. Called on the clock's own loop."""
        for address in addresses or [a for a, h in self.targets.items() if h != DRAINING]:
            self.targets[address] = health
        for changed in self._listeners:
            changed(GROUP)


def _target_type(_self: object, _account: str, _region: str, target_group_arn: str) -> str:
    if target_group_arn in (GROUP, INSTANCES):
        return "ip" if target_group_arn == GROUP else "instance"
    raise SunaboxError(f"The target group with targetGroupArn {target_group_arn} does not have an associated …")


@pytest.fixture(scope="module")
def groups() -> PlayedTargetGroups:
    return PlayedTargetGroups()


@pytest.fixture(scope="module")
def scripted_cloud(tmp_path_factory: pytest.TempPathFactory, groups: PlayedTargetGroups) -> Iterator[CloudThread]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emulation.cloud.EcsTargetGroups", lambda *_: groups)
        patch.setattr("emulation.wiring.tasks.Checks.target_group", _target_type)
        options = CloudOptions(port=0, runtime="memory", virtual_clock=True, library=tmp_path_factory.mktemp("library"))
        thread = CloudThread(options)
        thread.start()
        assert thread.cloud is not None
        groups.clock = thread.cloud.clock
        yield thread
        thread.stop()


@pytest.fixture
def become(scripted_cloud: CloudThread, groups: PlayedTargetGroups, web: Web) -> Callable[..., None]:
    """Changes the health of targets, and waits until the service has done what it does then."""

    def change(health: TargetHealth, *addresses: tuple[str, int]) -> None:
        loop = scripted_cloud._loop
        assert loop is not None
        loop.call_soon_threadsafe(groups.become, health, *addresses)
        web.settle()

    return change


@pytest.fixture
def web(ecs: Ecs, groups: PlayedTargetGroups) -> Iterator[Web]:
    groups.first = HEALTHY
    yield Web(ecs)
    groups.first = HEALTHY


def test_tasks_are_registered_and_count_once_their_targets_are_healthy(
    web: Web, groups: PlayedTargetGroups, become: Callable[..., None]
) -> None:
    """The deployment is in progress as long as the load balancer says initial."""
    groups.first = INITIAL
    web.create(web.definition(), 2, **LOAD_BALANCERS)
    web.ecs.advance(600)
    assert web.deployments == [("PRIMARY", "IN_PROGRESS", 2, 2)]
    assert len(groups.targets) == 2 and all(port == 7777 for _, port in groups.targets)
    become(HEALTHY)
    assert web.deployments == [("PRIMARY", "COMPLETED", 2, 2)]
    assert sorted(e for e in web.events if "registered" in e) in (
        [f"registered 2 targets in (target-group {GROUP})"],
        [f"registered 1 targets in (target-group {GROUP})"] * 2,
    )


def test_a_release_whose_targets_are_unhealthy_takes_no_old_task_down(
    web: Web, groups: PlayedTargetGroups, become: Callable[..., None]
) -> None:
    """Its tasks are stopped after the grace period, in AWS's words; then the circuit breaker rolls it back."""
    breaker = {"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}}
    web.steady(web.definition(), 1, healthCheckGracePeriodSeconds=30, **breaker, **LOAD_BALANCERS)
    (old,) = (t["taskArn"] for t in web.tasks)
    groups.first = UNHEALTHY
    bad = web.update(taskDefinition=web.definition(name="web-2"))["deployments"][0]["id"]
    web.ecs.advance(29)
    assert len(web.tasks) == 2
    web.ecs.advance(1)
    told = web.events
    (first,) = [e for e in told if "is unhealthy in" in e]
    task = first.partition("(task ")[2].partition(")")[0]
    assert first == f"(task {task}) (port 7777) is unhealthy in (target-group {GROUP}) due to (reason {CODES})."
    assert web.ecs.task(task)["stoppedReason"] == f"Task failed ELB health checks in (target-group {GROUP})"
    groups_seen = []
    for _ in range(12):
        web.ecs.advance(10)
        groups_seen.append(old in [t["taskArn"] for t in web.tasks])
    assert all(groups_seen)
    assert [t["taskArn"] for t in web.tasks] == [old]
    assert f"(deployment {bad}) deployment failed: tasks failed to start." in web.events
    assert web.events[-1] == STEADY


def test_a_task_that_was_healthy_is_stopped_when_another_has_taken_its_place(
    web: Web, groups: PlayedTargetGroups, become: Callable[..., None]
) -> None:
    """The replacement comes first; until it is healthy the sick one goes on serving."""
    web.steady(web.definition(), 1, **LOAD_BALANCERS)
    (sick,) = web.tasks
    address = sick["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
    groups.first = INITIAL
    become(UNHEALTHY, (address, 7777))
    web.ecs.advance(120)
    assert [t["taskArn"] == sick["taskArn"] for t in web.tasks] == [True, False]
    assert web.events[-2].endswith("Amazon ECS replaced 1 tasks due to an unhealthy status.")
    new = next(a for a in groups.targets if a != (address, 7777))
    become(HEALTHY, new)
    assert sick["taskArn"] not in [t["taskArn"] for t in web.tasks]
    assert len(web.tasks) == 1


def test_scaling_in_drains_the_task_before_it_stops(web: Web, groups: PlayedTargetGroups) -> None:
    """DEACTIVATING for as long as the target drains; the service is steady meanwhile."""
    web.steady(web.definition(), 2, **LOAD_BALANCERS)
    web.update(desiredCount=1)
    web.settle()
    (stopping,) = _stopping(web)
    assert web.ecs.task(stopping)["lastStatus"] == "DEACTIVATING"
    assert web.counts == (1, 1, 0)
    told = web.events
    at = told.index(f"deregistered 1 targets in (target-group {GROUP})")
    assert told[at - 1].startswith("has stopped 1 running tasks: (task ") or told[at - 1] == STEADY
    assert told[at + 1] == "has begun draining connections on 1 tasks."
    web.ecs.advance(99)
    assert web.ecs.task(stopping)["lastStatus"] == "DEACTIVATING"
    web.ecs.advance(2)
    assert web.ecs.task(stopping)["lastStatus"] == "STOPPED"
    assert len(groups.targets) == 1


def test_a_dead_container_is_not_waited_for(web: Web, groups: PlayedTargetGroups) -> None:
    """Its target drains, but nobody is left to answer; the replacement is registered at once."""
    lives = iter([timedelta(seconds=70)])

    def script(_spec: object) -> Script:
        return Script(run_for=next(lives, None), exit_with=137)

    image = web.ecs.image("mortal", Script())
    web.ecs._scripts[image] = script
    definition = web.ecs.register({"name": "app", "image": image, "portMappings": [{"containerPort": 7777}]})
    web.steady(definition, 1, **LOAD_BALANCERS)
    (first,) = (t["taskArn"] for t in web.tasks)
    web.ecs.advance(10.5)
    assert web.ecs.task(first)["lastStatus"] == "STOPPED"
    assert web.counts == (1, 1, 0)
    assert HEALTHY in groups.targets.values()


@pytest.mark.parametrize(
    ("load_balancer", "message"),
    [
        ({"containerName": "other"}, "The container other does not exist in the task definition."),
        ({"containerPort": 80}, "The container app did not have a container port 80 defined."),
        ({"targetGroupArn": GROUP.replace("web", "alone")}, "does not have an associated"),
        ({"targetGroupArn": INSTANCES}, "has target type instance, which is incompatible with the awsvpc network mode"),
    ],
)
def test_load_balancers_that_do_not_fit_are_refused(web: Web, load_balancer: dict[str, object], message: str) -> None:
    """In AWS's words, and nothing is left behind."""
    wrong = {**LOAD_BALANCERS["loadBalancers"][0], **load_balancer}
    with pytest.raises(ClientError, match=message):
        web.create(web.definition(), 1, loadBalancers=[wrong])
    assert web.client.list_services(cluster="c")["serviceArns"] == []


def _stopping(web: Web) -> list[str]:
    arns = web.client.list_tasks(cluster="c", serviceName="web", desiredStatus="STOPPED")["taskArns"]
    return [arn for arn in arns if web.ecs.task(arn)["stoppedReason"].startswith("Scaling activity")]
