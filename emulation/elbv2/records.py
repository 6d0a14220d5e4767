"""What the API has been asked for, as values: load balancers with their listeners and rules, and target groups.

They are made from moto's records on the API thread (`api.py`), handed over to the event loop, and never change.

Source: Elastic Load Balancing API reference, version 2015-12-01.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Address
from typing import NamedTuple


class Target(NamedTuple):
    """A target is its address together with its port: one address with two ports is two targets."""

    id: str
    port: int

    def __str__(self) -> str:
        return f"{self.id}:{self.port}"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """`port` None means the port on which each target receives traffic; `matcher` is AWS's: "200-299,301"."""

    path: str = "/"
    port: int | None = None
    interval: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(seconds=5)
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2
    matcher: str = "200"


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """`sticky_for` is the duration of the load balancer's cookie, None without stickiness.

    `zones` are those of the targets whose address is in a subnet of the VPC.
    """

    arn: str
    vpc_id: str
    health_check: HealthCheck = HealthCheck()
    targets: frozenset[Target] = frozenset()
    algorithm: str = "round_robin"
    sticky_for: timedelta | None = None
    deregistration_delay: timedelta = timedelta(seconds=300)
    zones: tuple[tuple[str, str], ...] = ()

    @property
    def full_name(self) -> str:
        """As in the metrics' dimensions: targetgroup/my-targets/73e2d6bc24d8a067."""
        return self.arn.rpartition(":")[2]

    def zone(self, target: Target) -> str:
        return dict(self.zones).get(target.id, "")


@dataclass(frozen=True, slots=True)
class Condition:
    """`values` are patterns with * and ?; `name` is the header's. A query's values are pairs: `keys` go with them."""

    field: str
    values: tuple[str, ...]
    name: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forward:
    """Target groups with their weights. `sticky_for` keeps a client at the group that it was sent to."""

    groups: tuple[tuple[str, int], ...]
    sticky_for: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """The parts of the address to which it leads, with #{protocol}, #{host}, #{port}, #{path}, #{query} in them."""

    status: int
    protocol: str = "#{protocol}"
    host: str = "#{host}"
    port: str = "#{port}"
    path: str = "/#{path}"
    query: str = "#{query}"


@dataclass(frozen=True, slots=True)
class FixedResponse:
    status: int
    content_type: str = ""
    body: str = ""


RuleAction = Forward | Redirect | FixedResponse


@dataclass(frozen=True, slots=True)
class Rule:
    """All its conditions must be met; those of the default rule are none."""

    action: RuleAction
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Listener:
    """`rules` in the order in which they are tried; the last is the default rule. `published_port` is the host's."""

    arn: str
    port: int
    published_port: int
    rules: tuple[Rule, ...]

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def target_groups(self) -> frozenset[str]:
        forwards = (rule.action for rule in self.rules if isinstance(rule.action, Forward))
        return frozenset(arn for forward in forwards for arn, _ in forward.groups)


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """`address` is the host's, None for an internal one; `private_ips` are those of its interfaces, one a subnet.

    `xff_mode` is "append", "preserve" or "remove".
    """

    arn: str
    vpc_id: str
    dns_name: str
    private_ips: tuple[IPv4Address, ...]
    address: IPv4Address | None = None
    security_groups: tuple[str, ...] = ()
    zones: frozenset[str] = frozenset()
    idle_timeout: timedelta = timedelta(seconds=60)
    client_keep_alive: timedelta = timedelta(seconds=3600)
    xff_mode: str = "append"
    xff_client_port: bool = False
    listeners: tuple[Listener, ...] = field(default=())

    @property
    def full_name(self) -> str:
        """As in the metrics' dimensions: app/my-load-balancer/50dc6c495c0c9188."""
        return self.arn.partition(":loadbalancer/")[2]

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def name(self) -> str:
        return self.full_name.split("/")[1]

    @property
    def target_groups(self) -> frozenset[str]:
        return frozenset(arn for listener in self.listeners for arn in listener.target_groups)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """As DescribeTargetHealth shows it: `state` "healthy", and AWS's reason code and description where it is not."""

    state: str
    reason: str = ""
    description: str = ""
