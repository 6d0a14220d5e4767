"""Chapter 7: a load balancer stands before the tasks, watches over them, and lets nobody notice when one goes.

The engineer had one container and one address. When the container died, so did the page. Behind an Application Load
Balancer there are several, and what he has to learn is how the load balancer looks at them: health checks, the states
of targets, and the security group that he forgets each time.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from balancer import SILENT, WHO, Balancer, Load
from fargate import Fargate

from emulation.testing.handles import ClockHandle

pytestmark = pytest.mark.needs_runtime("process", "docker")

Eventually = Callable[..., Any]
PORT = 7777
A_CHECK = timedelta(seconds=5)


class Web:
    """Tasks behind a load balancer. Their security group lets the load balancer in, and nobody else."""

    def __init__(self, fargate: Fargate, image: str, eventually: Eventually, **settings: Any) -> None:
        self.fargate, self._image, self._eventually = fargate, image, eventually
        self.balancer = Balancer(fargate, **settings)
        self.group = fargate.security_group("web")
        self._definitions: dict[str, str] = {}

    def let_in(self, port: int = PORT) -> None:
        pair = [{"GroupId": self.balancer.group}]
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "UserIdGroupPairs": pair}
        self.fargate.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[permission])

    def run(self, program: str = WHO) -> tuple[str, str]:
        """A task that runs: its ARN, its private address."""
        if program not in self._definitions:
            command = ["python3", "-c", program]
            ports = [{"containerPort": PORT}]
            name = f"web-{len(self._definitions)}"
            self._definitions[program] = self.fargate.register(name, self._image, command, portMappings=ports)
        arn = self.fargate.run(self._definitions[program], self.group)
        self._eventually(lambda: self.fargate.status(arn) == "RUNNING", within=20)
        return arn, self.fargate.private_ip(arn)

    def serve(self, tasks: int) -> tuple[str, list[str]]:
        """That many healthy targets of a listener's group: the group, their addresses."""
        self.let_in()
        addresses = [self.run()[1] for _ in range(tasks)]
        group = self.balancer.target_group()
        self.balancer.register(group, *addresses)
        self.balancer.listen(group)
        self._eventually(lambda: set(self.balancer.states(group).values()) == {"healthy"}, within=20)
        self._eventually(lambda: self.balancer.get().status == 200, within=10)
        return group, addresses


@pytest.fixture
def web(fargate: Fargate, eventually: Eventually) -> Web:
    return Web(fargate, fargate.push("furui:1", "furui")[0], eventually)


def test_every_task_must_answer_behind_the_one_name(web: Web) -> None:
    """DNSName is all that a client needs: a browser, `curl`, `ab`. Requests go round the healthy targets.

    Look at what a target sees: the load balancer's address as its peer, and the client's in X-Forwarded-For.
    """
    _, addresses = web.serve(2)

    answers = [web.balancer.get(X_Forwarded_For="198.51.100.7") for _ in range(10)]

    assert {answer.who for answer in answers} == set(addresses)
    assert "x-forwarded-for: 198.51.100.7," in answers[0].text
    assert "x-forwarded-port: 80" in answers[0].text
    assert "x-amzn-trace-id: Root=1-" in answers[0].text


def test_a_target_must_pass_a_health_check_before_it_serves(web: Web, eventually: Eventually) -> None:
    """A target is `unused` until a listener forwards to its group, then `initial`, and `healthy` once it has answered.

    Look at Reason while you wait: it says what the load balancer is waiting for.
    """
    web.let_in()
    _, address = web.run()
    group = web.balancer.target_group()
    web.balancer.register(group, address)
    assert web.balancer.health(group)[address] == {
        "State": "unused",
        "Reason": "Target.NotInUse",
        "Description": "Target group is not configured to receive traffic from the load balancer",
    }

    web.balancer.listen(group)

    eventually(lambda: web.balancer.states(group)[address] == "healthy", within=20)
    assert web.balancer.health(group)[address] == {"State": "healthy"}


def test_a_health_path_that_is_not_found_must_be_named_with_its_code(
    web: Web, eventually: Eventually, clock: ClockHandle
) -> None:
    """The program has no such page: it answers 404, and the load balancer expects 200. The program itself is well.

    All targets are unhealthy then, and the load balancer sends requests to all of them (it fails open): better a page
    from a target that may be ill than none. Look at how the target recovers when the path is put right.
    """
    group, (address,) = web.serve(1)
    web.balancer.elb.modify_target_group(TargetGroupArn=group, HealthCheckPath="/lost")

    def unhealthy() -> bool:
        clock.advance(A_CHECK)
        return web.balancer.states(group)[address] == "unhealthy"

    eventually(unhealthy, within=20)
    health = web.balancer.health(group)[address]
    assert health["Reason"] == "Target.ResponseCodeMismatch"
    assert health["Description"] == "Health checks failed with these codes: [404]"
    assert web.balancer.get().status == 200

    web.balancer.elb.modify_target_group(TargetGroupArn=group, Matcher={"HttpCode": "200-299,404"})

    def healthy() -> bool:
        clock.advance(A_CHECK)
        return web.balancer.states(group)[address] == "healthy"

    eventually(healthy, within=20)


def test_a_security_group_that_keeps_the_load_balancer_out_must_show_as_a_timeout(
    web: Web, eventually: Eventually, clock: ClockHandle
) -> None:
    """The one mistake that everybody makes: the tasks' security group does not let the load balancer in.

    Nothing refuses, nothing is logged; health checks time out. Look at Reason: Target.Timeout. One rule cures it.
    """
    _, address = web.run()
    group = web.balancer.target_group()
    web.balancer.register(group, address)
    web.balancer.listen(group)

    def unhealthy() -> bool:
        clock.advance(A_CHECK)
        return web.balancer.states(group)[address] == "unhealthy"

    eventually(unhealthy, within=30)
    assert web.balancer.health(group)[address]["Reason"] == "Target.Timeout"
    assert web.balancer.health(group)[address]["Description"] == "Request timed out"

    web.let_in()

    def healthy() -> bool:
        clock.advance(A_CHECK)
        return web.balancer.states(group)[address] == "healthy"

    eventually(healthy, within=20)
    assert web.balancer.get().who == address


def test_a_deregistered_target_must_finish_its_requests_in_flight(
    web: Web, eventually: Eventually, clock: ClockHandle
) -> None:
    """Deregistering drains: the target gets no new requests, and finishes those that it has. Not one request fails.

    It is `draining` until the deregistration delay is over, and then it is gone.
    """
    group, (one, other) = web.serve(2)
    answers: list[str] = []
    in_flight = [threading.Thread(target=lambda: answers.append(web.balancer.get("/slow/2").who)) for _ in range(4)]
    load = Load(web.balancer.url, 400)
    for request in in_flight:
        request.start()
    eventually(lambda: web.balancer.get().status == 200)

    web.balancer.deregister(group, one)

    health = web.balancer.health(group)[one]
    assert (health["State"], health["Reason"]) == ("draining", "Target.DeregistrationInProgress")
    eventually(lambda: {web.balancer.get().who for _ in range(6)} == {other})
    for request in in_flight:
        request.join()
    assert set(answers) == {one, other} and len(answers) == 4
    assert load.report().failed == 0
    clock.advance(timedelta(minutes=5))
    eventually(lambda: web.balancer.states(group) == {other: "healthy"})


def test_a_killed_container_must_be_left_out_after_its_checks_have_failed(
    web: Web, eventually: Eventually, clock: ClockHandle
) -> None:
    """A task dies under load. Until the health checks have noticed, requests to it fail (504); then none does.

    Look at the state: `unhealthy`, and requests go to the other target alone.
    """
    web.let_in()
    arn, one = web.run()
    _, other = web.run()
    group = web.balancer.target_group()
    web.balancer.register(group, one, other)
    web.balancer.listen(group)
    eventually(lambda: set(web.balancer.states(group).values()) == {"healthy"}, within=20)
    load = Load(web.balancer.url, 40)

    web.fargate.ecs.stop_task(cluster=web.fargate.cluster, task=arn)
    web.fargate.stopped(arn)

    def unhealthy() -> bool:
        clock.advance(A_CHECK)
        return web.balancer.states(group)[one] == "unhealthy"

    eventually(unhealthy, within=30)
    load.report()
    eventually(lambda: web.balancer.get().status == 200)
    after = Load(web.balancer.url, 100).report()
    assert after.failed == 0 and after.complete == 100
    assert {web.balancer.get().who for _ in range(6)} == {other}


def test_what_the_load_balancer_answers_itself_must_look_like_it(web: Web, eventually: Eventually) -> None:
    """503 where there is no target, 504 where a target accepts and never answers, 502 where it refuses.

    Three numbers, three different mistakes, and nothing in the program's log for any of them.
    """
    web.let_in()
    group = web.balancer.target_group()
    web.balancer.listen(group)
    eventually(lambda: web.balancer.get().status == 503)
    assert "<h1>503 Service Temporarily Unavailable</h1>" in web.balancer.get().text
    assert web.balancer.get().headers["server"] == "awselb/2.0"

    attribute = {"Key": "idle_timeout.timeout_seconds", "Value": "1"}
    web.balancer.elb.modify_load_balancer_attributes(LoadBalancerArn=web.balancer.arn, Attributes=[attribute])
    web.balancer.register(group, web.run(SILENT)[1])
    eventually(lambda: web.balancer.get().status == 504, within=40)

    web.let_in(9999)
    (silent,) = web.balancer.states(group)
    web.balancer.deregister(group, silent)
    web.balancer.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": silent, "Port": 9999}])
    eventually(lambda: web.balancer.get().status == 502, within=40)


def test_rules_must_send_each_request_where_it_belongs(web: Web, eventually: Eventually) -> None:
    """One load balancer, several programs: rules look at the host, the path, headers and the query, in their order.

    Look at the answers that need no target at all: a redirect, and a fixed response.
    """
    _, (address,) = web.serve(1)

    def rule(priority: int, condition: dict[str, Any], action: dict[str, Any]) -> None:
        web.balancer.elb.create_rule(
            ListenerArn=web.balancer.listener, Priority=priority, Conditions=[condition], Actions=[action]
        )

    there = {"Host": "www.example.com", "Path": "/new/#{path}", "StatusCode": "HTTP_301"}
    down = {"StatusCode": "503", "ContentType": "text/plain", "MessageBody": "back soon"}
    rule(1, {"Field": "path-pattern", "Values": ["/old/*"]}, {"Type": "redirect", "RedirectConfig": there})
    rule(
        2,
        {"Field": "host-header", "Values": ["*.example.org"]},
        {"Type": "fixed-response", "FixedResponseConfig": down},
    )

    eventually(lambda: web.balancer.get("/old/a?b=c").status == 301)
    moved = web.balancer.get("/old/a?b=c")
    assert moved.headers["location"] == f"http://www.example.com:{web.balancer.port}/new/old/a?b=c"
    eventually(lambda: web.balancer.get(Host="shop.example.org").text == "back soon")
    assert web.balancer.get("/other").who == address


def test_a_minute_of_requests_must_be_in_cloudwatch(web: Web, eventually: Eventually, clock: ClockHandle) -> None:
    """Every minute the load balancer reports what it has done: requests, answers by their class, healthy targets.

    Look at RequestCount beside HTTPCode_Target_2XX_Count: what lies between them did not come from the program.
    """
    group, _ = web.serve(1)
    began = clock.now()
    for _ in range(5):
        assert web.balancer.get().status == 200
    clock.advance(timedelta(minutes=2))
    cloudwatch = web.fargate.aws.client("cloudwatch")

    def total(metric: str, statistic: str, **more: str) -> float:
        dimensions = {"LoadBalancer": web.balancer.arn.partition(":loadbalancer/")[2], **more}
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/ApplicationELB",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=began - timedelta(minutes=1),
            EndTime=clock.now() + timedelta(minutes=1),
            Period=60,
            Statistics=[statistic],
        )["Datapoints"]
        return sum(point[statistic] for point in points)

    eventually(lambda: total("RequestCount", "Sum") >= 5)
    assert total("HTTPCode_Target_2XX_Count", "Sum") >= 5

    def measured() -> bool:
        clock.advance(timedelta(minutes=1))
        return total("TargetResponseTime", "Average", TargetGroup=group.rpartition(":")[2]) > 0

    eventually(measured)
    eventually(lambda: total("HealthyHostCount", "Maximum", TargetGroup=group.rpartition(":")[2]) >= 1)
