"""What CreateService and UpdateService refuse. Pure: the API's JSON in, an EcsError or nothing out.

Source: Amazon ECS API reference, CreateService, UpdateService, DeploymentConfiguration.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulation.ecs.failures import EcsError, client_error, invalid_parameter
from emulation.ecs.validation import check_emulated, check_run

Json = Mapping[str, Any]

_TARGET_GROUP = re.compile(r"arn:[\w-]+:elasticloadbalancing:[\w-]+:\d{12}:targetgroup/[\w-]+/\w+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}")
_FARGATE_VERSIONS = ("LATEST", "1.4.0", "1.3.0")
_ROLLING = (None, "ROLLING")


def _configuration(request: Json) -> Json:
    return request.get("deploymentConfiguration") or {}


def _breaker(request: Json) -> Json:
    return _configuration(request).get("deploymentCircuitBreaker") or {}


# Emulation: none of these is left out silently.
UNSUPPORTED: Mapping[str, Callable[[Json], object]] = {
    "Classic Load Balancers": lambda r: any(lb.get("loadBalancerName") for lb in r.get("loadBalancers") or ()),
    "blue/green target groups": lambda r: any(lb.get("advancedConfiguration") for lb in r.get("loadBalancers") or ()),
    "deployment controllers other than ECS": lambda r: (
        (r.get("deploymentController") or {}).get("type") not in (None, "ECS")
    ),
    "deployment strategies other than ROLLING": lambda r: _configuration(r).get("strategy") not in _ROLLING,
    "deployment alarms": lambda r: (_configuration(r).get("alarms") or {}).get("enable"),
    "lifecycle hooks of deployments": lambda r: _configuration(r).get("lifecycleHooks"),
    "bake times of deployments": lambda r: _configuration(r).get("bakeTimeInMinutes"),
    "early success criteria of deployments": lambda r: _configuration(r).get("earlySuccessCriteria"),
    "thresholds of the circuit breaker other than the default": lambda r: _breaker(r).get("thresholdConfiguration"),
    "circuit breakers that count all failures": lambda r: _breaker(r).get("resetOnHealthyTask") is False,
    "service discovery": lambda r: r.get("serviceRegistries"),
    "Service Connect": lambda r: (r.get("serviceConnectConfiguration") or {}).get("enabled"),
    "volumes configured at deployment": lambda r: r.get("volumeConfigurations"),
    "VPC Lattice": lambda r: r.get("vpcLatticeConfigurations"),
    "gateway connectors": lambda r: r.get("gatewayConnectors"),
    "monitoring configurations": lambda r: r.get("monitoring"),
}
"""What a service may ask for on AWS and cannot have here."""


def check_request(request: Json) -> None:
    """What can be judged without knowing the cluster and the task definition."""
    for what, asked in UNSUPPORTED.items():
        if asked(request):
            raise EcsError("UnsupportedFeatureException", f"Sunabox does not emulate {what} in services.")
    desired = request.get("desiredCount")
    if desired is not None and desired < 0:
        raise invalid_parameter("desiredCount must not be negative.")
    grace = request.get("healthCheckGracePeriodSeconds")
    if grace is not None and grace < 0:
        raise invalid_parameter("healthCheckGracePeriodSeconds must not be negative.")
    for load_balancer in request.get("loadBalancers") or ():
        target_group = load_balancer.get("targetGroupArn") or ""
        if not _TARGET_GROUP.fullmatch(target_group):
            raise invalid_parameter(f"Invalid target group ARN: '{target_group}'.")
        if not load_balancer.get("containerName") or load_balancer.get("containerPort") is None:
            raise invalid_parameter("A load balancer of a service needs containerName and containerPort.")


def check_name(name: str) -> None:
    if not name:
        raise client_error("Service name can not be blank.")
    if not _NAME.fullmatch(name):
        raise client_error("Service name may have up to 255 letters, digits, hyphens and underscores.")


def check_limits(maximum_percent: int, minimum_healthy_percent: int, *, daemon: bool) -> None:
    if daemon and maximum_percent != 100:
        raise invalid_parameter("maximumPercent must be 100 for the DAEMON scheduling strategy.")
    if minimum_healthy_percent < 0 or (maximum_percent < 100 and not daemon):
        raise invalid_parameter("maximumPercent must be at least 100, and minimumHealthyPercent at least 0.")
    if minimum_healthy_percent > maximum_percent:
        raise invalid_parameter("minimumHealthyPercent must not be greater than maximumPercent.")
    if not daemon and maximum_percent == minimum_healthy_percent == 100:
        raise invalid_parameter(
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments."
        )


def check_scheduling(request: Json, launch_type: str) -> None:
    """REPLICA or DAEMON. `request` as CreateService was given it."""
    if request.get("schedulingStrategy") != "DAEMON":
        if request.get("desiredCount") is None:
            raise invalid_parameter("desiredCount is required for the REPLICA scheduling strategy.")
        return
    if launch_type == "FARGATE":
        raise invalid_parameter("The daemon scheduling strategy is not supported for the Fargate launch type.")
    if request.get("desiredCount") is not None:
        raise invalid_parameter(
            "The daemon scheduling strategy does not support a desired count for services. "
            "Remove the desired count value and try again"
        )


def check_release(request: Json, definition: Json, compatibilities: Sequence[str], launch_type: str) -> None:
    """The merged settings of a service, with the task definition that they name."""
    network = (request.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    version = request.get("platformVersion")
    if launch_type == "FARGATE":
        if version and version not in _FARGATE_VERSIONS:
            raise EcsError("PlatformUnknownException", f"The specified platform version {version} does not exist.")
    else:
        if version:
            raise invalid_parameter("The platform version must be null when specifying an EC2 launch type.")
        if network.get("assignPublicIp") == "ENABLED":
            raise invalid_parameter("Assign public IP is not supported for this launch type.")
    check_run({"networkConfiguration": request.get("networkConfiguration")}, definition, compatibilities, launch_type)
    check_emulated(definition)
    for load_balancer in request.get("loadBalancers") or ():
        _check_load_balancer(load_balancer, definition)


def _check_load_balancer(load_balancer: Json, definition: Json) -> None:
    name, port = load_balancer["containerName"], load_balancer["containerPort"]
    container = next((c for c in definition["containerDefinitions"] if c["name"] == name), None)
    if container is None:
        raise invalid_parameter(f"The container {name} does not exist in the task definition.")
    if port not in [m.get("containerPort") for m in container.get("portMappings") or ()]:
        raise invalid_parameter(f"The container {name} did not have a container port {port} defined.")


def check_target_type(target_group_arn: str, target_type: str, network_mode: str) -> None:
    """`ip` for tasks that have an interface of their own, `instance` for the others."""
    if network_mode == "awsvpc" and target_type != "ip":
        raise invalid_parameter(
            f"The provided target group {target_group_arn} has target type {target_type}, which is incompatible with "
            f"the {network_mode} network mode specified in the task definition."
        )
