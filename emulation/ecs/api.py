"""The seam into moto's ECS: tasks of our own in the place of moto's, and what a real ECS refuses.

moto keeps clusters, task definitions, attributes and settings. Its tasks, which are RUNNING at once and run nothing,
are never made. All of this runs on the API thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionContext, ActionResult
from moto.ecs import models, urls
from moto.ecs.responses import EC2ContainerServiceResponse

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.ecs import secrets, validation
from emulation.ecs.checks import Checks
from emulation.ecs.engine import STOPPED_TASKS_ARE_SHOWN, EcsEngine
from emulation.ecs.failures import EcsError, client_error, invalid_parameter
from emulation.ecs.launching import Launcher
from emulation.ecs.observation import Stop, TaskStatus
from emulation.ecs.record import TaskRecord
from emulation.ecs.services.api import Services
from emulation.errors import SunaboxError

_MAX_LISTED = 100


class EcsBackend(models.EC2ContainerServiceBackend):
    api: ClassVar[ApiThread]
    engine: ClassVar[EcsEngine]
    clock: ClassVar[Clock]
    checks: ClassVar[Checks]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.records: dict[str, TaskRecord] = {}
        self._client_tokens: dict[str, tuple[dict[str, Any], list[TaskRecord]]] = {}
        self._nothing_old_until = self.clock.now()
        self.launcher = Launcher(
            self.partition, account_id, region_name, self.clock, self.checks, begin=self._begin_tasks
        )
        self.of_services = Services(self, self.launcher, self.services, self.api, self.engine.services)

    @property
    def _url_module(self) -> Any:
        return urls

    # ---- task definitions ----

    def describe_task_definition(self, task_definition_str: str) -> models.TaskDefinition:
        """A family without a revision means its latest ACTIVE one; moto takes the latest of any."""
        name = task_definition_str.split("/")[-1]
        family, _, revision = name.partition(":")
        if revision and not revision.isdigit():
            raise client_error(f"Invalid revision number. Number: {revision}")
        if not revision:
            active = [r for r, d in self.task_definitions.get(family, {}).items() if d.status == "ACTIVE"]
            if not active:
                raise client_error("Unable to describe task definition.")
            return self.task_definitions[family][max(active)]
        return super().describe_task_definition(task_definition_str)

    @staticmethod
    def definition_json(definition: models.TaskDefinition) -> dict[str, Any]:
        """moto's record of a task definition in the API's JSON, as far as a task needs it."""
        members = {
            "family": definition.family,
            "containerDefinitions": definition.container_definitions,
            "networkMode": definition.network_mode,
            "pidMode": definition.pid_mode,
            "cpu": definition.cpu,
            "memory": definition.memory,
            "volumes": definition.volumes,
            "taskRoleArn": getattr(definition, "task_role_arn", None),
            "executionRoleArn": getattr(definition, "execution_role_arn", None),
            "ephemeralStorage": definition.ephemeral_storage,
            "proxyConfiguration": definition.proxy_configuration,
            "runtimePlatform": definition.runtime_platform,
            "inferenceAccelerators": definition.inference_accelerators,
        }
        return {name: value for name, value in members.items() if value is not None}

    # ---- tasks ----

    def run(self, request: Mapping[str, Any]) -> list[TaskRecord]:
        """RunTask. `request` is the API's JSON."""
        token = request.get("clientToken")
        if token in self._client_tokens:
            first, records = self._client_tokens[token]
            if first != dict(request):
                raise EcsError(
                    "ConflictException",
                    "The RunTask request could not be processed due to conflicts. The provided clientToken is already "
                    "in use with a different RunTask request.",
                )
            return records
        cluster = self.living_cluster(request.get("cluster") or "default")
        definition = self.runnable_definition(request.get("taskDefinition") or "")
        as_json = self.definition_json(definition)
        launch_type, provider = self._capacity(cluster, request)
        validation.check_run(request, as_json, definition.compatibilities, launch_type)
        if launch_type != "FARGATE":
            # Emulation: there are no container instances yet, so AWS's own words for a cluster without any are true.
            raise invalid_parameter("No Container Instances were found in your cluster.")
        validation.check_emulated(as_json)
        network = (request.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        subnets, groups = tuple(network.get("subnets") or ()), tuple(network.get("securityGroups") or ())
        self.launcher.check_network(subnets, groups)
        overrides = request.get("overrides") or {}
        tags = list(request.get("tags") or [])
        if request.get("propagateTags") == "TASK_DEFINITION":
            own = {t["key"] for t in tags}
            tags += [t for t in definition.tags if t["key"] not in own]
        requests = [
            self.launcher.request(
                cluster.name,
                definition_arn=definition.arn,
                definition=as_json,
                overrides=overrides,
                group=request.get("group") or f"family:{definition.family}",
                started_by=request.get("startedBy") or "",
                launch_type=launch_type,
                capacity_provider=provider,
                subnets=subnets,
                security_groups=groups,
                assign_public_ip=network.get("assignPublicIp") == "ENABLED",
                cpu=validation.normalise_size(overrides.get("cpu") or definition.cpu, "vCPU"),
                memory=validation.normalise_size(overrides.get("memory") or definition.memory, "GB"),
            )
            for _ in range(request.get("count", 1))
        ]
        self.launcher.check_roles(requests[0])
        records = self.launcher.start(requests, tags)
        if token:
            self._client_tokens[token] = dict(request), records
        return records

    def _begin_tasks(self, records: Sequence[TaskRecord]) -> None:
        for record in records:
            self.records[record.task_arn] = record
            of_cluster: dict[str, Any] = self.tasks.setdefault(record.request.cluster_name, {})
            of_cluster[record.task_arn] = record  # in the place of moto's task
        self.api.post(self.engine.adopt, records)

    def _capacity(self, cluster: Any, request: Mapping[str, Any]) -> tuple[str, str]:
        """The launch type and the capacity provider (or '') that a request means."""
        launch_type, strategy = request.get("launchType"), request.get("capacityProviderStrategy")
        if launch_type and strategy:
            raise invalid_parameter(
                "Specifying both a launch type and capacity provider strategy is not supported. "
                "Remove one and try again."
            )
        if not launch_type and not strategy:
            strategy = cluster.default_capacity_provider_strategy
        if not strategy:
            return launch_type or "EC2", ""
        provider = strategy[0]["capacityProvider"]
        return self.launch_type_of(cluster, provider), provider

    def launch_type_of(self, cluster: Any, provider: str) -> str:
        """That of a capacity provider of the cluster."""
        if provider not in ("FARGATE", "FARGATE_SPOT"):
            raise invalid_parameter(
                f"The specified capacity provider '{provider}' was not found. "
                "Specify a valid name or ARN and try again."
            )
        if provider not in (cluster.capacity_providers or ()):
            raise invalid_parameter(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated "
                "with the cluster. Associate the capacity provider with the cluster and try again."
            )
        return "FARGATE"

    def found_cluster(self, name: str) -> models.Cluster:
        return self._get_cluster(name)

    def living_cluster(self, name: str) -> Any:
        cluster = self._get_cluster(name)
        if cluster.status != "ACTIVE":
            raise EcsError("ClusterNotFoundException", "The referenced cluster was inactive.")
        return cluster

    def runnable_definition(self, name: str) -> models.TaskDefinition:
        if not name:
            raise client_error("TaskDefinition can not be blank.")
        try:
            definition = self.describe_task_definition(name)
        except (EcsError, ServiceException) as problem:
            raise client_error("TaskDefinition not found.") from problem
        if definition.status != "ACTIVE":
            raise invalid_parameter("TaskDefinition is inactive")
        return definition

    def _found(self, cluster: str, task: str) -> TaskRecord | None:
        """A task by its id or ARN, in a cluster. Stopped tasks are shown for an hour of clock time."""
        self._forget_old()
        return self.records.get(self._task_arn(cluster, task.rpartition("/")[2]))

    def _task_arn(self, cluster: str, task_id: str) -> str:
        """`cluster` is a name or an ARN."""
        name = cluster.rpartition("/")[2]
        return f"arn:{self.partition}:ecs:{self.region_name}:{self.account_id}:task/{name}/{task_id}"

    def _forget_old(self) -> None:
        """Every call comes by here, so it looks at the tasks only when one can have become old since the last time."""
        now = self.clock.now()
        if now < self._nothing_old_until:
            return
        next_to_go = now
        for arn, record in list(self.records.items()):
            stopped = record.seen.times.get("stoppedAt")
            if stopped is not None and stopped <= now - STOPPED_TASKS_ARE_SHOWN:
                del self.tasks[record.request.cluster_name][arn], self.records[arn]
            elif stopped is not None:
                next_to_go = min(next_to_go, stopped)
        self._nothing_old_until = next_to_go + STOPPED_TASKS_ARE_SHOWN

    def stop_task(self, cluster_str: str, task_str: str, reason: str) -> TaskRecord:  # type: ignore[override]
        self._get_cluster(cluster_str)
        record = self._found(cluster_str, task_str)
        if record is None:
            raise invalid_parameter("The referenced task was not found.")
        if record.desired_status == "RUNNING":
            record.stop = Stop("UserInitiated", reason or "Task stopped by user")
            self.api.post(self.engine.poke, record.task_arn)
        return record

    def find_tasks(self, cluster: str, tasks: Iterable[str]) -> tuple[list[TaskRecord], list[dict[str, str]]]:
        """DescribeTasks: the tasks, and AWS's failures for those that are not there."""
        self._get_cluster(cluster)
        found, failures = [], []
        for task in tasks:
            record = self._found(cluster, task)
            if record is None:
                arn = task if task.startswith("arn:") else self._task_arn(cluster, task)
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(record)
        return found, failures

    def list_tasks(self, *_args: object, **_filters: object) -> list[TaskRecord]:  # type: ignore[override]
        """All that are still shown; moto's tagging asks. ListTasks itself is `list_task_arns`."""
        self._forget_old()
        return list(self.records.values())

    def list_task_arns(self, request: Mapping[str, Any]) -> list[str]:
        cluster = self._get_cluster(request.get("cluster") or "default")
        service = None
        if request.get("serviceName"):
            service = self.of_services.existing(cluster.name, request["serviceName"]).arn
        wanted = request.get("desiredStatus") or "RUNNING"
        if wanted not in ("RUNNING", "PENDING", "STOPPED"):
            raise invalid_parameter(f"desiredStatus '{wanted}' should be one of [RUNNING,PENDING,STOPPED]")
        return [
            record.task_arn
            for record in self.list_tasks()
            if record.request.cluster_arn == cluster.arn
            and record.desired_status == wanted
            and service in (None, record.request.service_arn)
            and not request.get("containerInstance")
            and request.get("family") in (None, record.request.family)
            and request.get("startedBy") in (None, record.started_by)
            and request.get("launchType") in (None, record.request.launch_type)
        ]

    # ---- clusters ----

    def describe_clusters(self, cluster_names: list[str]) -> tuple[list[models.Cluster], list[models.ClusterFailure]]:
        clusters, failures = super().describe_clusters(cluster_names)
        for cluster in clusters:
            states = [r.last_status for r in self.tasks.get(cluster.name, {}).values()]
            cluster.running_tasks_count = states.count(TaskStatus.RUNNING)
            pending = (TaskStatus.PROVISIONING, TaskStatus.PENDING, TaskStatus.ACTIVATING)
            cluster.pending_tasks_count = sum(state in pending for state in states)
            cluster.active_services_count = len(self.of_services.of_cluster(cluster.name))
        return clusters, failures

    def delete_cluster(self, cluster_str: str) -> models.Cluster:
        name = self._get_cluster(cluster_str).name
        if self.of_services.of_cluster(name):
            raise EcsError(
                "ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active."
            )
        if any(r.last_status is not TaskStatus.STOPPED for r in self.tasks.get(name, {}).values()):
            raise EcsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        return super().delete_cluster(cluster_str)


class EcsResponse(EC2ContainerServiceResponse):
    """Operations that moto answers differently, in moto's parsing and serialisation."""

    @property
    def ecs_backend(self) -> EcsBackend:
        return models.ecs_backends[self.current_account][self.region]  # type: ignore[return-value]

    def call_action(self) -> Any:
        try:
            return super().call_action()
        except EcsError as problem:
            status, headers, body = self.serialized(ActionResult(_EcsFailure(problem.code, problem.message)))
            return status, headers, body

    def register_task_definition(self) -> ActionResult:
        validation.check_definition(self.params)
        fargate = "FARGATE" in (self.params.get("requiresCompatibilities") or ())
        for container in self.params["containerDefinitions"]:
            pairs = [(secret["name"], secret["valueFrom"]) for secret in container.get("secrets") or ()]
            log = container.get("logConfiguration") or {}
            try:
                secrets.validate(pairs, account=self.current_account, region=self.region)
                if log.get("logDriver") == "awslogs":
                    self.ecs_backend.checks.log_options(log.get("options") or {}, fargate=fargate)
            except SunaboxError as problem:
                raise client_error(str(problem)) from problem
        for name, unit in (("cpu", "vCPU"), ("memory", "GB")):
            if self.params.get(name):
                self.params[name] = validation.normalise_size(self.params[name], unit)
        return super().register_task_definition()

    def run_task(self) -> ActionResult:
        records = self.ecs_backend.run(self.params)
        return _JsonResult({"tasks": [r.describe() for r in records], "failures": []})

    def describe_tasks(self) -> ActionResult:
        tasks = self.params.get("tasks") or []
        if not tasks:
            raise invalid_parameter("Tasks cannot be empty.")
        if len(tasks) > _MAX_LISTED:
            raise invalid_parameter("Tasks cannot have more than 100 elements.")
        found, failures = self.ecs_backend.find_tasks(self.params.get("cluster") or "default", tasks)
        with_tags = "TAGS" in (self.params.get("include") or ())
        return _JsonResult({"tasks": [r.describe(with_tags=with_tags) for r in found], "failures": failures})

    def list_tasks(self) -> ActionResult:
        arns = sorted(self.ecs_backend.list_task_arns(self.params))
        size = min(self.params.get("maxResults") or _MAX_LISTED, _MAX_LISTED)
        after = self.params.get("nextToken") or ""
        rest = [arn for arn in arns if arn > after]
        result: dict[str, Any] = {"taskArns": rest[:size]}
        if len(rest) > size:
            result["nextToken"] = rest[size - 1]
        return ActionResult(result)

    def stop_task(self) -> ActionResult:
        cluster = self.params.get("cluster") or "default"
        record = self.ecs_backend.stop_task(cluster, self.params.get("task") or "", self.params.get("reason") or "")
        return _JsonResult({"task": record.describe()})

    def create_service(self) -> ActionResult:
        return _JsonResult({"service": self.ecs_backend.of_services.create(self.params).describe()})

    def update_service(self) -> ActionResult:
        return _JsonResult({"service": self.ecs_backend.of_services.update(self.params).describe()})

    def delete_service(self) -> ActionResult:
        return _JsonResult({"service": self.ecs_backend.of_services.delete(self.params).describe()})

    def describe_services(self) -> ActionResult:
        found, failures = self.ecs_backend.of_services.describe(self.params)
        return _JsonResult({"services": found, "failures": failures})

    def list_services(self) -> ActionResult:
        return _JsonResult(self.ecs_backend.of_services.list(self.params))


class _EcsFailure(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _JsonResult(ActionResult):
    """A result in the API's JSON already. moto would look for each of its members under every name that a Python object
    could have it by, which takes most of the time of RunTask and DescribeTasks.
    """

    def execute_result(self, context: ActionContext) -> Any:
        serializer: Any = context.serializer_class(context.operation_model)
        serializer.get_value = _member
        serialized = serializer.serialize(self.result)
        return serialized["status_code"], serialized["headers"], serialized["body"]


def _member(value: Mapping[str, Any], name: str, _shape: object) -> Any:
    """moto serialises naive datetimes, in UTC."""
    member = value.get(name)
    return member.replace(tzinfo=None) if isinstance(member, datetime) else member


def all_backends() -> list[EcsBackend]:
    """Those of all accounts and regions that have been used."""
    return [one for _, _, one in models.ecs_backends.iter_backends() if isinstance(one, EcsBackend)]


def install(api: ApiThread, clock: Clock, engine: EcsEngine, checks: Checks) -> None:
    """Puts all this in moto's place, for the backends that are made from now on."""
    EcsBackend.api, EcsBackend.clock, EcsBackend.engine = api, clock, engine
    EcsBackend.checks = checks
    models.ecs_backends.backend = EcsBackend
    urls.url_paths["{0}/$"] = EcsResponse.dispatch
