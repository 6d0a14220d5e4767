"""What the chapter on services does again and again: a service on Fargate, alone or behind a load balancer."""

from typing import Any

from balancer import Balancer
from fargate import Fargate

PORT = 7777

PROGRAM = """
import http.server, os, socket, time
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/die":
            os._exit(1)
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.rpartition("/")[2]))
        body = os.environ["RELEASE"].encode()
        self.send_response(404 if os.environ["RELEASE"] == "broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", 7777), Page).serve_forever()
"""
"""Answers with the name of its release; dies when it is asked to; `broken` knows no page."""


class Service:
    """The service `web`, in the words of the AWS CLI: create, update, describe, and what its events say."""

    def __init__(self, fargate: Fargate, image: str) -> None:
        self.fargate, self.ecs, self._image = fargate, fargate.ecs, image
        self.group = fargate.security_group("web", PORT)

    def release(self, name: str) -> str:
        """A revision of the task definition: its ARN."""
        environment = [{"name": "RELEASE", "value": name}]
        ports = [{"containerPort": PORT}]
        program = ["python3", "-c", PROGRAM]
        return self.fargate.register("web", self._image, program, environment=environment, portMappings=ports)

    def create(self, release: str, tasks: int, **settings: Any) -> None:
        network = {"subnets": [self.fargate.subnet], "securityGroups": [self.group], "assignPublicIp": "ENABLED"}
        self.ecs.create_service(
            cluster=self.fargate.cluster,
            serviceName="web",
            taskDefinition=self.release(release),
            desiredCount=tasks,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": network},
            **settings,
        )

    def behind(self, balancer: Balancer, **settings: Any) -> dict[str, Any]:
        """Settings of a service whose tasks are the load balancer's targets. Connections drain for five seconds."""
        target_group = balancer.target_group(**settings)
        delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "5"}
        balancer.elb.modify_target_group_attributes(TargetGroupArn=target_group, Attributes=[delay])
        balancer.listen(target_group)
        target = {"targetGroupArn": target_group, "containerName": "furui", "containerPort": PORT}
        return {"loadBalancers": [target]}

    def update(self, **changes: Any) -> None:
        self.ecs.update_service(cluster=self.fargate.cluster, service="web", **changes)

    @property
    def now(self) -> dict[str, Any]:
        (only,) = self.ecs.describe_services(cluster=self.fargate.cluster, services=["web"])["services"]
        return dict(only)

    @property
    def running(self) -> int:
        return int(self.now["runningCount"])

    @property
    def rollout(self) -> list[str]:
        """The rolloutState of each deployment, PRIMARY first."""
        return [deployment["rolloutState"] for deployment in self.now["deployments"]]

    @property
    def events(self) -> list[str]:
        """Oldest first."""
        return [event["message"] for event in reversed(self.now["events"])]

    @property
    def tasks(self) -> list[str]:
        """ARNs of the tasks that are to run."""
        return list(self.ecs.list_tasks(cluster=self.fargate.cluster, serviceName="web")["taskArns"])

    def is_steady(self) -> bool:
        """The deployment has completed, and the last event says that nothing is left to do."""
        return self.rollout == ["COMPLETED"] and self.events[-1].endswith("has reached a steady state.")
