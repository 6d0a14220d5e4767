"""How a task comes to be, whoever asks for it: RunTask or a service. On the API thread."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from emulation.clock import Clock
from emulation.ecs.checks import Checks
from emulation.ecs.credentials import role_arn
from emulation.ecs.failures import client_error, invalid_parameter
from emulation.ecs.observation import TaskObserved, TaskStatus
from emulation.ecs.record import Attachment, ContainerFacts, Seen, TaskRecord, TaskRequest
from emulation.ecs.services.record import ServiceRecord
from emulation.errors import SunaboxError


@dataclass(frozen=True)
class Launcher:
    """In one account and region. `begin` takes records of tasks whose life begins."""

    partition: str
    account: str
    region: str
    clock: Clock
    checks: Checks
    begin: Callable[[Sequence[TaskRecord]], None]

    def arn(self, kind: str, *names: str) -> str:
        return f"arn:{self.partition}:ecs:{self.region}:{self.account}:{kind}/{'/'.join(names)}"

    def request(self, cluster: str, **settings: Any) -> TaskRequest:
        """A task with a new id, in the cluster of that name."""
        task_id = uuid.uuid4().hex
        return TaskRequest(
            account=self.account,
            region=self.region,
            arn=self.arn("task", cluster, task_id),
            task_id=task_id,
            cluster_arn=self.arn("cluster", cluster),
            cluster_name=cluster,
            created_at=self.clock.now(),
            **settings,
        )

    def start(self, requests: Iterable[TaskRequest], tags: Sequence[dict[str, str]]) -> list[TaskRecord]:
        records = [TaskRecord(request, _unseen(request), list(tags)) for request in requests]
        self.begin(records)
        return records

    def start_for_service(self, service: ServiceRecord, deployment: str, provider: str) -> TaskRecord:
        """One task of a deployment. Raises EcsError where what it needs is not there any more."""
        release = service.releases[deployment]
        request = self.request(
            service.cluster_name,
            definition_arn=release.definition_arn,
            definition=release.definition,
            group=f"service:{service.name}",
            started_by=deployment,
            launch_type=release.launch_type,
            capacity_provider=provider,
            platform_version=release.platform_version,
            subnets=tuple(release.network.get("subnets") or ()),
            security_groups=tuple(release.network.get("securityGroups") or ()),
            assign_public_ip=release.network.get("assignPublicIp") == "ENABLED",
            cpu=release.cpu,
            memory=release.memory,
            service_arn=service.arn,
            targets=release.targets,
        )
        self.check_network(request.subnets, request.security_groups)
        self.check_roles(request)
        return self.start([request], _tags(service, deployment))[0]

    # ---- what is asked of other services before ----

    def check_network(self, subnets: Sequence[str], security_groups: Sequence[str]) -> None:
        try:
            self.checks.network(self.account, self.region, subnets, security_groups)
        except SunaboxError as problem:
            raise invalid_parameter(str(problem)) from problem

    def check_roles(self, request: TaskRequest) -> None:
        for role in (request.execution_role_arn, request.task_role_arn):
            if role:
                try:
                    self.checks.role(role_arn(role, account=self.account, partition=self.partition))
                except SunaboxError as problem:
                    raise client_error(str(problem)) from problem

    def target_type(self, target_group_arn: str) -> str:
        try:
            return self.checks.target_group(self.account, self.region, target_group_arn)
        except SunaboxError as problem:
            raise invalid_parameter(str(problem)) from problem


def _unseen(request: TaskRequest) -> Seen:
    prefix = request.arn.replace(":task/", ":container/")
    names = [c["name"] for c in request.definition["containerDefinitions"]]
    facts = {name: ContainerFacts(f"{prefix}/{uuid.uuid4()}") for name in names}
    details = tuple(("subnetId", subnet) for subnet in request.subnets[:1])
    return Seen(TaskObserved(TaskStatus.PROVISIONING), Attachment(str(uuid.uuid4()), details=details), facts)


def _tags(service: ServiceRecord, deployment: str) -> list[dict[str, str]]:
    """Source: Tagging your Amazon ECS resources."""
    settings = service.settings
    tags: dict[str, str] = {}
    if settings.get("enableECSManagedTags"):
        tags |= {"aws:ecs:clusterName": service.cluster_name, "aws:ecs:serviceName": service.name}
    propagated: Sequence[Any] = ()
    if settings.get("propagateTags") == "SERVICE":
        propagated = service.tags
    elif settings.get("propagateTags") == "TASK_DEFINITION":
        propagated = service.releases[deployment].definition_tags
    tags |= {t["key"]: t.get("value", "") for t in propagated}
    return [{"key": key, "value": value} for key, value in tags.items()]
