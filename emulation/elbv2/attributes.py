"""Attributes of load balancers and target groups: what there is, which values AWS takes, which of them do something.

Source: API reference, LoadBalancerAttribute and TargetGroupAttribute.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from emulation.elbv2.failures import not_emulated, validation_error


@dataclass(frozen=True, slots=True)
class Attribute:
    """Values are a number of a range, or one of several. `emulated` names those that do what they say; () means all."""

    default: str
    low: int | None = None
    high: int = 0
    values: tuple[str, ...] = ()
    emulated: tuple[str, ...] = ()

    def check(self, name: str, value: str) -> None:
        if self.low is not None and not (value.isdigit() and self.low <= int(value) <= self.high):
            raise validation_error(f"'{name}' value '{value}' must be between '{self.low}-{self.high}' inclusive")
        if self.values and value not in self.values:
            raise validation_error(f"'{name}' value '{value}' must be one of [{', '.join(self.values)}]")
        if self.emulated and value not in self.emulated:
            raise not_emulated(f"the attribute {name} with the value {value}; it does {self.emulated[0]!r}")


_BOOLEAN = ("true", "false")


def _switch(default: str = "false", *, emulated: tuple[str, ...] = ()) -> Attribute:
    return Attribute(default, values=_BOOLEAN, emulated=emulated)


_OFF = _switch(emulated=("false",))
_ON = _switch("true", emulated=("true",))

LOAD_BALANCER: Mapping[str, Attribute] = {
    "access_logs.s3.enabled": _OFF,
    "access_logs.s3.bucket": Attribute(""),
    "access_logs.s3.prefix": Attribute(""),
    "client_keep_alive.seconds": Attribute("3600", 60, 604800),
    "connection_logs.s3.enabled": _OFF,
    "connection_logs.s3.bucket": Attribute(""),
    "connection_logs.s3.prefix": Attribute(""),
    "deletion_protection.enabled": _switch(),
    "idle_timeout.timeout_seconds": Attribute("60", 1, 4000),
    "ipv6.deny_all_igw_traffic": _OFF,
    "load_balancing.cross_zone.enabled": _ON,
    "routing.http.desync_mitigation_mode": Attribute("defensive", values=("monitor", "defensive", "strictest")),
    "routing.http.drop_invalid_header_fields.enabled": _OFF,
    "routing.http.preserve_host_header.enabled": _switch(),
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": _OFF,
    "routing.http.xff_client_port.enabled": _OFF,
    "routing.http.xff_header_processing.mode": Attribute("append", values=("append", "preserve", "remove")),
    "routing.http2.enabled": _switch("true"),
    "waf.fail_open.enabled": _switch(),
    "zonal_shift.config.enabled": _OFF,
}

TARGET_GROUP: Mapping[str, Attribute] = {
    "deregistration_delay.timeout_seconds": Attribute("300", 0, 3600),
    "load_balancing.algorithm.type": Attribute(
        "round_robin", values=("round_robin", "least_outstanding_requests", "weighted_random")
    ),
    "load_balancing.algorithm.anomaly_mitigation": Attribute("off", values=("on", "off"), emulated=("off",)),
    "load_balancing.cross_zone.enabled": Attribute(
        "use_load_balancer_configuration",
        values=(*_BOOLEAN, "use_load_balancer_configuration"),
        emulated=("use_load_balancer_configuration", "true"),
    ),
    "slow_start.duration_seconds": Attribute("0", 0, 900, emulated=("0",)),
    "stickiness.enabled": _switch(),
    "stickiness.type": Attribute("lb_cookie", values=("lb_cookie", "app_cookie"), emulated=("lb_cookie",)),
    "stickiness.lb_cookie.duration_seconds": Attribute("86400", 1, 604800),
    "stickiness.app_cookie.cookie_name": Attribute(""),
    "stickiness.app_cookie.duration_seconds": Attribute("86400", 1, 604800),
    "target_group_health.dns_failover.minimum_healthy_targets.count": Attribute("1", emulated=("1",)),
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": Attribute("off", emulated=("off",)),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": Attribute("1", emulated=("1",)),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": Attribute(
        "off", emulated=("off",)
    ),
}


def defaults(known: Mapping[str, Attribute]) -> dict[str, str]:
    return {name: attribute.default for name, attribute in known.items()}


def check(kind: str, known: Mapping[str, Attribute], given: Mapping[str, str]) -> None:
    """Raises ElbError. `kind` is "Load balancer" or "Target group"."""
    for name, value in given.items():
        attribute = known.get(name)
        if attribute is None:
            raise validation_error(f"{kind} attribute key '{name}' is not recognized")
        attribute.check(name, value)
