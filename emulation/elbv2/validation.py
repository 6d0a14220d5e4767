"""What AWS refuses before it changes anything. Pure: requests in, ElbError out."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from emulation.elbv2.failures import ElbError, TargetRefused, not_emulated, validation_error

MOST_LOAD_BALANCERS, MOST_LISTENERS, MOST_RULES, MOST_TARGETS = 50, 50, 100, 1000
"""Source: Quotas for your Application Load Balancers."""
_NAME = re.compile(r"[A-Za-z0-9-]+")
_ACTIONS = ("forward", "redirect", "fixed-response")
_REDIRECTS = ("HTTP_301", "HTTP_302")
_RANGES = {
    "HealthCheckIntervalSeconds": ("Health check interval", 5, 300),
    "HealthCheckTimeoutSeconds": ("Health check timeout", 2, 120),
    "HealthyThresholdCount": ("Healthy threshold count", 2, 10),
    "UnhealthyThresholdCount": ("Unhealthy threshold count", 2, 10),
}


def load_balancer_name(name: str) -> None:
    what = f"The load balancer name '{name}'"
    if len(name) > 32:
        raise validation_error(f"{what} cannot be longer than '32' characters")
    if not _NAME.fullmatch(name):
        raise validation_error(f"{what} can only contain characters that are alphanumeric characters or hyphens(-)")
    if name.startswith("-") or name.endswith("-"):
        raise validation_error(f"{what} cannot begin or end with '-'")
    if name.startswith("internal-"):
        raise validation_error(f"{what} cannot begin with 'internal-'")


def load_balancer_type(kind: str | None, scheme: str | None, ip_address_type: str | None) -> None:
    if kind not in (None, "application"):
        raise not_emulated(f"load balancers of type {kind}; there are Application Load Balancers")
    if scheme not in (None, "internet-facing", "internal"):
        raise _enum(scheme, "scheme", ("internet-facing", "internal"))
    if ip_address_type not in (None, "ipv4"):
        raise not_emulated("IPv6 addresses of load balancers; there is IpAddressType ipv4")


def target_group(request: Mapping[str, Any], *, new: bool) -> None:
    """CreateTargetGroup and ModifyTargetGroup."""
    kind = request.get("TargetType") or "instance"
    if new and kind not in ("instance", "ip"):
        raise not_emulated(f"target groups with target type {kind}; there are ip and instance")
    for name in ("Protocol", "HealthCheckProtocol"):
        if request.get(name) not in (None, "HTTP"):
            raise not_emulated(f"{name} {request[name]} of target groups; there is HTTP")
    if request.get("ProtocolVersion") not in (None, "HTTP1"):
        raise not_emulated(f"ProtocolVersion {request['ProtocolVersion']} of target groups; there is HTTP1")
    if request.get("IpAddressType") not in (None, "ipv4"):
        raise not_emulated("IPv6 targets")
    if str(request.get("HealthCheckEnabled")).lower() == "false":
        raise validation_error(f"Health check enabled must be true for target groups with target type '{kind}'")
    for name, (words, low, high) in _RANGES.items():
        value = request.get(name)
        if value is not None and not low <= int(value) <= high:
            raise validation_error(f"{words} '{value}' must be in the range from {low} to {high}")
    path = request.get("HealthCheckPath")
    if path is not None and not (path.startswith("/") and len(path) <= 1024 and path.isprintable() and " " not in path):
        raise validation_error(f"Health check path '{path}' must begin with a '/' character and be a valid path")
    _port(request.get("Port"), "Port")
    if request.get("HealthCheckPort") != "traffic-port":
        _port(request.get("HealthCheckPort"), "Health check port")
    if (codes := (request.get("Matcher") or {}).get("HttpCode")) is not None:
        _matcher(codes)


def health_check_times(interval: int, timeout: int) -> None:
    if timeout >= interval:
        raise validation_error(f"Health check timeout '{timeout}' must be smaller than the interval '{interval}'")


def listener(protocol: str | None, port: Any) -> None:
    if protocol == "HTTPS":
        raise not_emulated("HTTPS listeners; there are HTTP ones")
    if protocol is not None and protocol != "HTTP":
        raise validation_error(f"Listener protocol '{protocol}' must be one of 'HTTP, HTTPS'")
    _port(port, "Port")


def priority(value: Any) -> None:
    if not 1 <= int(value) <= 50000:
        raise validation_error(f"Priority '{value}' must be between '1-50000' inclusive")


def actions(given: Iterable[Mapping[str, Any]]) -> None:
    listed = list(given)
    if not listed:
        raise validation_error("Listener actions cannot be empty")
    for index, action in enumerate(listed, 1):
        kind = action.get("Type")
        if kind in ("authenticate-oidc", "authenticate-cognito", "jwt-validation"):
            raise not_emulated(f"actions of type {kind}")
        if kind not in _ACTIONS:
            raise _enum(kind, f"actions.{index}.member.type", _ACTIONS)
        if kind == "redirect":
            _redirect(action.get("RedirectConfig") or {}, index)
        if kind == "forward":
            _forward(action)
    if len(listed) > 1:
        raise ElbError("TooManyActions", "You've reached the limit on the number of actions per rule")


def conditions(given: Iterable[Mapping[str, Any]]) -> None:
    """What moto does not look at."""
    listed = list(given)
    if not listed:
        raise validation_error("A condition must be specified")
    for condition in listed:
        if any("RegexValues" in str(name) for name in condition) or any(
            isinstance(value, Mapping) and value.get("RegexValues") for value in condition.values()
        ):
            raise not_emulated("regular expressions in conditions")
        if condition.get("Field") == "source-ip":
            for value in (condition.get("SourceIpConfig") or {}).get("Values") or ():
                try:
                    IPv4Network(value, strict=False)
                except ValueError:
                    raise validation_error(f"The CIDR block '{value}' is not valid") from None


def ip_target(target_id: str, port: int, blocks: Iterable[str], vpc_id: str) -> None:
    """Raises TargetRefused. `blocks` are the CIDR blocks of the target group's VPC."""
    try:
        address = IPv4Address(target_id)
    except AddressValueError:
        raise TargetRefused("ValidationError", f"The IP address '{target_id}' is not a valid IPv4 address") from None
    listed = list(blocks)
    if not any(address in IPv4Network(block) for block in listed):
        raise TargetRefused(
            "InvalidTarget",
            f"The IP address '{target_id}' is not within the CIDR blocks [{', '.join(listed)}] of the VPC '{vpc_id}' "
            "of the target group",
        )
    _port(port, "Port")


def _matcher(codes: str) -> None:
    for part in codes.split(","):
        low, _, high = part.strip().partition("-")
        if not (low.isdigit() and (high or low).isdigit() and 200 <= int(low) <= int(high or low) <= 499):
            raise ElbError(
                "InvalidParameterValue", f"Health check matcher HTTP code '{codes}' must be within '200-499'"
            )


def _redirect(config: Mapping[str, Any], index: int) -> None:
    if config.get("StatusCode") not in _REDIRECTS:
        raise _enum(config.get("StatusCode"), f"actions.{index}.member.redirectConfig.statusCode", _REDIRECTS)
    parts = ("Protocol", "Host", "Port", "Path", "Query")
    if all(not config.get(part) or f"#{{{part.lower()}}}" in config[part] for part in parts[:4]):
        raise ElbError(
            "InvalidLoadBalancerAction", "The redirect configuration is not valid because it creates a loop."
        )


def _forward(action: Mapping[str, Any]) -> None:
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or ()
    if not groups and not action.get("TargetGroupArn"):
        raise validation_error("A target group ARN must be specified")
    if len(groups) > 5:
        raise ElbError("TooManyUniqueTargetGroupsPerLoadBalancer", "A forward action can have 5 target groups at most")
    for group in groups:
        weight = group.get("Weight")
        if weight is not None and not 0 <= int(weight) <= 999:
            raise validation_error(f"The weight '{weight}' must be between '0-999' inclusive")


def _port(value: Any, words: str) -> None:
    if value is not None and not (str(value).isdigit() and 1 <= int(value) <= 65535):
        raise validation_error(f"{words} '{value}' must be between '1-65535' inclusive")


def _enum(value: object, where: str, known: Iterable[str]) -> ElbError:
    return validation_error(
        f"1 validation error detected: Value '{value}' at '{where}' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(known)}]"
    )
