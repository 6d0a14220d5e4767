"""moto's records as values. Pure but for reading them; moto itself is not imported here."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from emulation.elbv2.records import (
    Condition,
    FixedResponse,
    Forward,
    HealthCheck,
    Listener,
    LoadBalancer,
    Redirect,
    Rule,
    RuleAction,
    Target,
    TargetGroup,
)

_CONFIGS = {
    "host-header": "HostHeaderConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "path-pattern": "PathPatternConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}


def load_balancer(record: Any, published_port: Callable[[int], int]) -> LoadBalancer:
    attributes: Mapping[str, str] = record.attrs
    return LoadBalancer(
        arn=record.arn,
        vpc_id=record.vpc_id,
        dns_name=record.dns_name,
        private_ips=record.interfaces.private_ips,
        address=record.address,
        security_groups=tuple(record.security_groups),
        zones=frozenset(subnet.availability_zone for subnet in record.subnets),
        idle_timeout=_seconds(attributes["idle_timeout.timeout_seconds"]),
        client_keep_alive=_seconds(attributes["client_keep_alive.seconds"]),
        xff_mode=attributes["routing.http.xff_header_processing.mode"],
        listeners=tuple(_listener(listener, published_port) for listener in record.listeners.values()),
    )


def target_group(record: Any, zones: Mapping[str, str]) -> TargetGroup:
    """`zones` are those of the targets' addresses, as far as they are in a subnet."""
    attributes = record.attributes
    sticky = str(attributes["stickiness.enabled"]) == "true"
    port = record.health_check_port
    return TargetGroup(
        arn=record.arn,
        vpc_id=record.vpc_id,
        health_check=HealthCheck(
            path=record.health_check_path or "/",
            port=None if port in (None, "traffic-port") else int(port),
            interval=_seconds(record.health_check_interval_seconds),
            timeout=_seconds(record.health_check_timeout_seconds),
            healthy_threshold=int(record.healthy_threshold_count),
            unhealthy_threshold=int(record.unhealthy_threshold_count),
            matcher=record.matcher["HttpCode"],
        ),
        targets=frozenset(record.targets),
        algorithm=str(attributes["load_balancing.algorithm.type"]),
        sticky_for=_seconds(attributes["stickiness.lb_cookie.duration_seconds"]) if sticky else None,
        deregistration_delay=_seconds(attributes["deregistration_delay.timeout_seconds"]),
        zones=tuple(sorted(zones.items())),
    )


def groups_of(action: Mapping[str, Any]) -> list[str]:
    """The ARNs of the target groups that an action forwards to."""
    return [arn for arn, _ in _weighted(action)] if action.get("Type") == "forward" else []


def groups_of_balancer(record: Any) -> set[str]:
    """The ARNs of the target groups that any rule of a load balancer forwards to."""
    rules = (rule for listener in record.listeners.values() for rule in listener.rules.values())
    return {arn for rule in rules for action in rule.actions for arn in groups_of(action.data)}


def api_name(keyword: str) -> str:
    """moto's keyword arguments in the API's names: healthcheck_path → HealthCheckPath."""
    names = {
        "healthcheck_enabled": "HealthCheckEnabled",
        "healthcheck_interval_seconds": "HealthCheckIntervalSeconds",
        "healthcheck_path": "HealthCheckPath",
        "healthcheck_port": "HealthCheckPort",
        "healthcheck_protocol": "HealthCheckProtocol",
        "healthcheck_timeout_seconds": "HealthCheckTimeoutSeconds",
    }
    return names.get(keyword) or "".join(part.capitalize() for part in keyword.split("_"))


def _listener(record: Any, published_port: Callable[[int], int]) -> Listener:
    rules = sorted(record.rules.values(), key=_order)
    port = int(record.port)
    return Listener(record.arn, port, published_port(port), tuple(_rule(rule) for rule in rules))


def _order(rule: Any) -> tuple[bool, int]:
    return rule.is_default, 0 if rule.is_default else int(rule.priority)


def _rule(record: Any) -> Rule:
    return Rule(_action(record.actions[-1].data), tuple(_conditions(record.conditions)))


def _action(data: Mapping[str, Any]) -> RuleAction:
    match data["Type"]:
        case "forward":
            sticky = (data.get("ForwardConfig") or {}).get("TargetGroupStickinessConfig") or {}
            enabled = str(sticky.get("Enabled")).lower() == "true"
            return Forward(tuple(_weighted(data)), _seconds(sticky.get("DurationSeconds") or 3600) if enabled else None)
        case "redirect":
            config = data["RedirectConfig"]
            parts = {name.lower(): config[name] for name in ("Host", "Port", "Path", "Query") if name in config}
            protocol = str(config.get("Protocol") or "#{protocol}").lower()
            return Redirect(int(config["StatusCode"].removeprefix("HTTP_")), protocol, **parts)
        case _:
            config = data["FixedResponseConfig"]
            return FixedResponse(
                int(config["StatusCode"]), config.get("ContentType") or "", config.get("MessageBody") or ""
            )


def _weighted(data: Mapping[str, Any]) -> list[tuple[str, int]]:
    groups = (data.get("ForwardConfig") or {}).get("TargetGroups") or ()
    listed = [(group["TargetGroupArn"], int(group.get("Weight", 1))) for group in groups]
    return listed or [(data["TargetGroupArn"], 1)]


def _conditions(records: Iterable[Mapping[str, Any]]) -> Iterable[Condition]:
    for record in records:
        name = record["Field"]
        config = record.get(_CONFIGS[name]) or {}
        values = config.get("Values") or record.get("Values") or ()
        if name == "query-string":
            keys = tuple(pair.get("Key") or "" for pair in values)
            yield Condition(name, tuple(pair["Value"] for pair in values), keys=keys)
        else:
            yield Condition(name, tuple(values), config.get("HttpHeaderName") or "")


def checked_target(target: Mapping[str, Any], default_port: Any) -> Target:
    return Target(target["Id"], int(target.get("Port") or default_port))


def _seconds(value: Any) -> timedelta:
    return timedelta(seconds=int(value))
