"""Services in the cloud of scripted containers, asked for in few words."""

from typing import Any

from emulation.runtime.memory import Script
from tests.ecs.harness import Ecs

STEADY = "has reached a steady state."


def events(service: dict[str, Any]) -> list[str]:
    """The messages of service events, oldest first, without what they all begin with."""
    return [e["message"].removeprefix(f"(service {service['serviceName']}) ") for e in reversed(service["events"])]


class Web:
    """The service `web` in cluster `c`."""

    def __init__(self, ecs: Ecs) -> None:
        self.ecs, self.client = ecs, ecs.client
        self.network = {"awsvpcConfiguration": {"subnets": [ecs.subnet]}}

    def definition(self, script: Script | None = None, name: str = "web", **container: Any) -> str:
        image = self.ecs.image(name, script or Script(stopped_with=0))
        return self.ecs.register(
            {"name": "app", "image": image, "portMappings": [{"containerPort": 7777}], **container}
        )

    def create(self, definition: str, count: int | None = 1, **more: Any) -> dict[str, Any]:
        given = {} if count is None else {"desiredCount": count}
        settings = {"launchType": "FARGATE", "networkConfiguration": self.network, **given, **more}
        answer = self.client.create_service(
            cluster="c",
            serviceName="web",
            taskDefinition=definition,
            **{name: value for name, value in settings.items() if value is not None},
        )
        return dict(answer["service"])

    def update(self, **changes: Any) -> dict[str, Any]:
        return dict(self.client.update_service(cluster="c", service="web", **changes)["service"])

    def delete(self, **more: Any) -> dict[str, Any]:
        return dict(self.client.delete_service(cluster="c", service="web", **more)["service"])

    @property
    def now(self) -> dict[str, Any]:
        answer = self.client.describe_services(cluster="c", services=["web"], include=["TAGS"])
        return dict(answer["services"][0])

    @property
    def counts(self) -> tuple[int, int, int]:
        """desiredCount, runningCount, pendingCount."""
        service = self.now
        return service["desiredCount"], service["runningCount"], service["pendingCount"]

    @property
    def events(self) -> list[str]:
        return events(self.now)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """Those that are to run, oldest first."""
        arns = self.client.list_tasks(cluster="c", serviceName="web")["taskArns"]
        if not arns:
            return []
        tasks = self.client.describe_tasks(cluster="c", tasks=arns, include=["TAGS"])["tasks"]
        return sorted(tasks, key=lambda task: task["createdAt"])

    @property
    def deployments(self) -> list[tuple[str, str, int, int]]:
        """Status, rolloutState, desiredCount and runningCount of each."""
        return [(d["status"], d["rolloutState"], d["desiredCount"], d["runningCount"]) for d in self.now["deployments"]]

    def settle(self) -> None:
        """What is under way comes to rest; no time passes but a millisecond."""
        self.ecs.advance(0.001)

    def steady(self, definition: str, count: int = 1, **more: Any) -> None:
        self.create(definition, count, **more)
        self.ecs.advance(60)
        assert self.events[-1] == STEADY
