"""The operations on services, on the API thread. `emulation/ecs/api.py` puts them in the place of moto's.

Source: Amazon ECS API reference, CreateService, UpdateService, DeleteService, DescribeServices, ListServices.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from emulation.core.api_thread import ApiThread
from emulation.ecs.failures import EcsError, client_error, invalid_parameter
from emulation.ecs.launching import Launcher
from emulation.ecs.services import events, outcome, validation
from emulation.ecs.services.deployment import ProviderShare
from emulation.ecs.services.engine import ServiceEngine
from emulation.ecs.services.record import Release, ServiceRecord
from emulation.ecs.validation import normalise_size

Json = Mapping[str, Any]

_MAX_DESCRIBED = 10
_MAX_LISTED = 100
_RELEASE = (
    "taskDefinition",
    "networkConfiguration",
    "platformVersion",
    "launchType",
    "capacityProviderStrategy",
    "loadBalancers",
)
"""Members of requests that make a new deployment where they change."""


class Backend(Protocol):
    """What services need of moto's records: `emulation.ecs.api.EcsBackend`."""

    def living_cluster(self, name: str) -> Any: ...

    def found_cluster(self, name: str) -> Any: ...

    def runnable_definition(self, name: str) -> Any: ...

    def definition_json(self, definition: Any) -> dict[str, Any]: ...

    def launch_type_of(self, cluster: Any, provider: str) -> str:
        """That of a capacity provider of the cluster. Raises EcsError where it has none of that name."""
        ...


class Services:
    """The services of an account in a region. `kept` is moto's dictionary, by "cluster:service"."""

    def __init__(
        self, backend: Backend, launcher: Launcher, kept: dict[str, Any], api: ApiThread, engine: ServiceEngine
    ) -> None:
        self._backend, self._launcher, self._kept, self._api, self._engine = backend, launcher, kept, api, engine

    # ---- what there is ----

    def find(self, cluster: str, service: str) -> ServiceRecord | None:
        """By name or ARN."""
        name = self._backend.found_cluster(cluster).name
        if service.startswith("arn:") and service.count("/") == 2 and service.split("/")[1] != name:
            return None
        found: ServiceRecord | None = self._kept.get(f"{name}:{service.rpartition('/')[2]}")
        return found

    def of_cluster(self, name: str) -> list[ServiceRecord]:
        """Those that are not INACTIVE."""
        return [s for s in self._kept.values() if s.cluster_name == name and s.status != "INACTIVE"]

    def describe(self, request: Json) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        names = request.get("services") or []
        if not names:
            raise invalid_parameter("Services cannot be empty.")
        if len(names) > _MAX_DESCRIBED:
            raise invalid_parameter("Services cannot have more than 10 elements.")
        cluster = request.get("cluster") or "default"
        found, failures = [], []
        with_tags = "TAGS" in (request.get("include") or ())
        for name in names:
            record = self.find(cluster, name)
            if record is None:
                arn = (
                    name if name.startswith("arn:") else self._launcher.arn("service", cluster.rpartition("/")[2], name)
                )
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(record.describe(with_tags=with_tags))
        return found, failures

    def list(self, request: Json) -> dict[str, Any]:
        cluster = self._backend.found_cluster(request.get("cluster") or "default")
        launch_type, strategy = request.get("launchType"), request.get("schedulingStrategy")
        arns = sorted(
            s.arn
            for s in self.of_cluster(cluster.name)
            if launch_type in (None, s.release.launch_type)
            and strategy in (None, s.settings.get("schedulingStrategy") or "REPLICA")
        )
        size = min(request.get("maxResults") or _MAX_DESCRIBED, _MAX_LISTED)
        rest = [arn for arn in arns if arn > (request.get("nextToken") or "")]
        listed: dict[str, Any] = {"serviceArns": rest[:size]}
        if len(rest) > size:
            listed["nextToken"] = rest[size - 1]
        return listed

    # ---- what is asked for ----

    def create(self, request: Json) -> ServiceRecord:
        settings = dict(request)
        name = settings.get("serviceName") or ""
        validation.check_name(name)
        validation.check_request(settings)
        cluster = self._backend.living_cluster(settings.get("cluster") or "default")
        # Emulation: AWS forgets an INACTIVE service after some time; here it is shown until its name is used again.
        known = self._kept.get(f"{cluster.name}:{name}")
        if known is not None and known.status == "DRAINING":
            raise invalid_parameter("Unable to Start a service that is still Draining.")
        if known is not None and known.status == "ACTIVE":
            if settings == known.created_by:
                return known  # type: ignore[no-any-return]
            raise invalid_parameter("Creation of service was not idempotent.")
        if not settings.get("taskDefinition"):
            raise client_error("TaskDefinition can not be blank.")
        release = self._release(cluster, settings)
        validation.check_scheduling(settings, release.launch_type)
        record = ServiceRecord(
            account=self._launcher.account,
            region=self._launcher.region,
            arn=self._launcher.arn("service", cluster.name, name),
            name=name,
            cluster_arn=cluster.arn,
            cluster_name=cluster.name,
            settings=settings,
            desired_count=settings.get("desiredCount") or 0,
            release=release,
            launch=self._launcher.start_for_service,
            now=self._launcher.clock.now(),
        )
        self._kept[f"{cluster.name}:{name}"] = record
        self._api.post(self._engine.adopt, record)
        self._tell_of_deployment(record)
        return record

    def update(self, request: Json) -> ServiceRecord:
        record = self.existing(request.get("cluster") or "default", request.get("service") or "")
        if record.status != "ACTIVE":
            raise EcsError("ServiceNotActiveException", "Service was not ACTIVE.")
        validation.check_request(request)
        if record.daemon and request.get("desiredCount") is not None:
            raise invalid_parameter(
                "The daemon scheduling strategy does not support a desired count for services. "
                "Remove the desired count value and try again"
            )
        given = {k: v for k, v in request.items() if k not in ("cluster", "service", "forceNewDeployment")}
        settings = {**{k: v for k, v in record.settings.items() if k not in _RELEASE}, **record.release.asked, **given}
        if "capacityProviderStrategy" in given:
            settings.pop("launchType", None)
            if not given["capacityProviderStrategy"]:
                settings["launchType"] = record.release.launch_type
        if isinstance(given.get("deploymentConfiguration"), dict):
            before = record.settings.get("deploymentConfiguration") or {}
            settings["deploymentConfiguration"] = {**before, **given["deploymentConfiguration"]}
        forced = bool(request.get("forceNewDeployment"))
        release = record.release
        if forced or any(name in given for name in _RELEASE):
            cluster = self._backend.living_cluster(record.cluster_name)
            release = self._release(cluster, settings)
        else:
            self._check_limits(settings)
        now = self._launcher.clock.now()
        record.generation += 1
        record.configure(settings)
        if request.get("desiredCount") is not None:
            record.desired = outcome.scaled(record.desired, request["desiredCount"], now)
        if forced or release != record.release:
            record.deploy(release, now)
            self._tell_of_deployment(record)
        self._api.post(self._engine.wake, record.arn)
        return record

    def delete(self, request: Json) -> ServiceRecord:
        record = self.existing(request.get("cluster") or "default", request.get("service") or "")
        if record.status == "INACTIVE":
            raise EcsError("ServiceNotFoundException", "Service not found.")
        if record.desired.desired_count > 0 and not request.get("force") and record.status == "ACTIVE":
            raise invalid_parameter("The service cannot be stopped while it is scaled above 0.")
        record.status = "DRAINING"
        record.generation += 1
        record.desired = outcome.deleted(record.desired, self._launcher.clock.now())
        self._api.post(self._engine.wake, record.arn)
        return record

    def existing(self, cluster: str, service: str) -> ServiceRecord:
        record = self.find(cluster, service)
        if record is None:
            raise EcsError("ServiceNotFoundException", "Service not found.")
        return record

    def _tell_of_deployment(self, record: ServiceRecord) -> None:
        told = events.deployment("IN_PROGRESS", record.desired.primary, self._launcher.clock.now())
        self._api.post(self._engine.publish, record, [told])

    # ---- what a deployment runs ----

    def _release(self, cluster: Any, settings: Json) -> Release:
        """Raises EcsError where the settings cannot be."""
        backend = self._backend
        launch_type, strategy = self._placement(cluster, settings)
        definition = backend.runnable_definition(settings["taskDefinition"])
        as_json = backend.definition_json(definition)
        validation.check_release(settings, as_json, definition.compatibilities, launch_type)
        self._check_limits(settings)
        network = (settings.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        if network:
            self._launcher.check_network(network.get("subnets") or (), network.get("securityGroups") or ())
        load_balancers = tuple(dict(lb) for lb in settings.get("loadBalancers") or ())
        for group in [lb["targetGroupArn"] for lb in load_balancers]:
            validation.check_target_type(
                group, self._launcher.target_type(group), as_json.get("networkMode") or "bridge"
            )
        version = settings.get("platformVersion") or "LATEST"
        return Release(
            definition_arn=definition.arn,
            definition=as_json,
            cpu=normalise_size(definition.cpu, "vCPU"),
            memory=normalise_size(definition.memory, "GB"),
            launch_type=launch_type,
            strategy=strategy,
            platform_version="1.4.0" if version == "LATEST" else version,
            network=network,
            load_balancers=load_balancers,
            definition_tags=tuple(definition.tags or ()),
            asked={
                **{name: settings[name] for name in _RELEASE if name in settings},
                "taskDefinition": definition.arn,
            },
        )

    def _placement(self, cluster: Any, settings: Json) -> tuple[str, tuple[ProviderShare, ...]]:
        """The launch type and the capacity provider strategy, '()' where it is the launch type that was asked for."""
        launch_type, strategy = settings.get("launchType"), settings.get("capacityProviderStrategy")
        if launch_type and strategy:
            raise invalid_parameter(
                "Specifying both a launch type and capacity provider strategy is not supported. "
                "Remove one and try again."
            )
        if not launch_type and not strategy:
            strategy = cluster.default_capacity_provider_strategy
        if not strategy:
            return launch_type or "EC2", ()
        shares = tuple(ProviderShare(s["capacityProvider"], s.get("weight") or 0, s.get("base") or 0) for s in strategy)
        types = {self._backend.launch_type_of(cluster, share.provider) for share in shares}
        if len(shares) == 1 and not shares[0].weight:
            shares = (ProviderShare(shares[0].provider, 1, shares[0].base),)
        if not any(share.weight for share in shares):
            raise invalid_parameter("At least one capacity provider must have a weight greater than zero.")
        if sum(share.base > 0 for share in shares) > 1:
            raise invalid_parameter("Only one capacity provider in a strategy can have a base defined.")
        return types.pop(), shares

    @staticmethod
    def _check_limits(settings: Json) -> None:
        daemon = settings.get("schedulingStrategy") == "DAEMON"
        given = settings.get("deploymentConfiguration") or {}
        maximum = given.get("maximumPercent", 100 if daemon else 200)
        validation.check_limits(maximum, given.get("minimumHealthyPercent", 0 if daemon else 100), daemon=daemon)
