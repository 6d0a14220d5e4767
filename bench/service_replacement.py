"""A service behind a load balancer, on the process runtime: how soon the next task is there when a container dies."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.figures import Figure, spread
from bench.servers import Running, sunabox
from emulation.gateway.control_client import ControlClient
from emulation.images.build import build_python_app
from emulation.images.library import Library

_TARGET_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.005
_SPEED = 10
_IMAGE = "sunabox-bench-service:1"
_MARK = "a-service-of-sunabox-bench"
_ACCOUNT = "300000000000"
_PORT = 7777
_PROGRAM = "from http.server import *; HTTPServer(('', 7777), SimpleHTTPRequestHandler).serve_forever()"


def measure(rounds: int) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="sunabox-bench-") as folder:
        images, app = Path(folder) / "images", Path(folder) / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text('[project]\nname = "page"\nversion = "1"\n')
        command = ["python", "-c", _PROGRAM, _MARK]
        build_python_app(app, library=Library(images), names=[_IMAGE], command=command, ports=[_PORT])
        with sunabox("process", {"SUNABOX_IMAGES": str(images)}) as server:
            ControlClient(server.url).set_speed(_SPEED)  # health checks every half a second
            service = _Service(server)
            service.until(service.is_steady)
            seconds = [service.replacement() for _ in range(max(rounds, 3))]
    name = "killed container → the next RUNNING and registered"
    yield Figure(name, median(seconds), "s", _TARGET_SECONDS, remark=spread(seconds, "s"))


class _Service:
    """One task behind an Application Load Balancer."""

    def __init__(self, server: Running) -> None:
        self._ecs, self._elb = server.client("ecs", _ACCOUNT), server.client("elbv2", _ACCOUNT)
        subnets = server.client("ec2", _ACCOUNT).describe_subnets()["Subnets"]
        here = [subnet["SubnetId"] for subnet in subnets[:2]]
        balancer = self._elb.create_load_balancer(Name="bench", Subnets=here)["LoadBalancers"][0]["LoadBalancerArn"]
        checks = {"HealthCheckIntervalSeconds": 5, "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 10}
        where = {"Protocol": "HTTP", "Port": _PORT, "VpcId": subnets[0]["VpcId"], "TargetType": "ip"}
        group = {**where, **checks, "HealthCheckTimeoutSeconds": 2}
        self._group = self._elb.create_target_group(Name="bench", **group)["TargetGroups"][0]["TargetGroupArn"]
        forward = [{"Type": "forward", "TargetGroupArn": self._group}]
        self._elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=forward)
        self._ecs.create_cluster(clusterName="bench")
        container = {"name": "page", "image": _IMAGE, "portMappings": [{"containerPort": _PORT}], "stopTimeout": 2}
        definition = self._ecs.register_task_definition(
            family="bench",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )["taskDefinition"]["taskDefinitionArn"]
        self._ecs.create_service(
            cluster="bench",
            serviceName="page",
            taskDefinition=definition,
            desiredCount=1,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": here[:1]}},
            loadBalancers=[{"targetGroupArn": self._group, "containerName": "page", "containerPort": _PORT}],
        )

    def is_steady(self) -> bool:
        service = self._ecs.describe_services(cluster="bench", services=["page"])["services"][0]
        return bool(service["events"]) and service["events"][0]["message"].endswith("has reached a steady state.")

    def replacement(self) -> float:
        """The seconds from SIGKILL until a client sees another task RUNNING, and as a target."""
        (before,) = self._tasks()
        begun = time.perf_counter()
        for program in _programs():
            os.kill(program, signal.SIGKILL)
        self.until(lambda: self._serves_another(before), _PAUSE_SECONDS)
        seconds = time.perf_counter() - begun
        self.until(self.is_steady)  # a container that dies before it was healthy is replaced at a slower pace
        return seconds

    def _serves_another(self, before: str) -> bool:
        (task, *_) = [arn for arn in self._tasks() if arn != before] or [""]
        if not task:
            return False
        shown = self._ecs.describe_tasks(cluster="bench", tasks=[task])["tasks"][0]
        if shown["lastStatus"] != "RUNNING":
            return False
        address = shown["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
        health = self._elb.describe_target_health(TargetGroupArn=self._group)["TargetHealthDescriptions"]
        return address in [one["Target"]["Id"] for one in health]

    def _tasks(self) -> list[Any]:
        return list(self._ecs.list_tasks(cluster="bench", serviceName="page")["taskArns"])

    @staticmethod
    def until(check: Callable[[], bool], pause_seconds: float = 0.1) -> None:
        until = time.perf_counter() + _PATIENCE_SECONDS
        while not check():
            if time.perf_counter() > until:
                raise RuntimeError(f"{check} did not come about within {_PATIENCE_SECONDS:g} s")
            time.sleep(pause_seconds)


def _programs() -> Iterator[int]:
    """The containers' programs, as the host sees them."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if _MARK.encode() in file.read_bytes():
                yield int(file.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
