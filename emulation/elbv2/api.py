"""The seam into moto's ELBv2: load balancers that balance, targets whose health is real, and what AWS refuses.

moto keeps the records. After each change, the load balancers and target groups concerned are handed to the event loop
as values. All of this runs on the API thread.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, ClassVar

from moto.core.errors import COMMON_ERROR_CODES
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.elb import urls as elb_urls
from moto.elbv2 import models, urls
from moto.elbv2.responses import ELBV2Response
from moto.moto_api._internal import mock_random

from emulation.core.api_thread import ApiThread
from emulation.elbv2 import attributes, conversion, placement, validation
from emulation.elbv2.engine import LoadBalancing
from emulation.elbv2.failures import ElbError, TargetRefused, validation_error
from emulation.elbv2.health import health_json, newest
from emulation.elbv2.records import Target, TargetHealth
from emulation.elbv2.surroundings import Interfaces, Vpc
from emulation.errors import SunaboxError

_CANONICAL_ZONE = "Z35SXDOTRQ7X7K"


class LoadBalancer(models.FakeLoadBalancer):
    """`address` is the host's, None for an internal load balancer."""

    interfaces: Interfaces
    address: IPv4Address | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.attrs = attributes.defaults(attributes.LOAD_BALANCER)
        self.canonical_hosted_zone_id = _CANONICAL_ZONE

    def activate(self) -> None:
        """Being looked at does not make it active; Envoy does."""

    @property
    def load_balancer_state(self) -> dict[str, str]:
        code, reason = Elbv2Backend.balancing.state(self.arn)
        return {"Code": code, "Reason": reason} if reason else {"Code": code}


class TargetGroup(models.FakeTargetGroup):
    """`targets` are kept by address and port; moto keeps one port an address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.attributes: dict[str, Any] = dict(attributes.defaults(attributes.TARGET_GROUP))
        self.targets: dict[Target, dict[str, Any]] = {}  # type: ignore[assignment]

    @property
    def load_balancer_arns(self) -> list[str]:
        """Those that forward to it now. moto only ever adds to its list."""
        backend = models.elbv2_backends[self.account_id][self.region_name]
        return [b.arn for b in backend.load_balancers.values() if self.arn in conversion.groups_of_balancer(b)]

    @load_balancer_arns.setter
    def load_balancer_arns(self, _: list[str]) -> None: ...


class Elbv2Backend(models.ELBv2Backend):
    api: ClassVar[ApiThread]
    balancing: ClassVar[LoadBalancing]
    vpc: ClassVar[Vpc]

    @property
    def _url_module(self) -> Any:
        return urls

    # ---- load balancers ----

    def create_load_balancer(
        self,
        name: str,
        security_groups: list[str] | None,
        subnet_ids: list[str],
        subnet_mappings: list[dict[str, str]] | None = None,
        scheme: str | None = None,
        loadbalancer_type: str | None = None,
        ip_address_type: str = "ipv4",
        tags: list[dict[str, str]] | None = None,
    ) -> models.FakeLoadBalancer:
        validation.load_balancer_type(loadbalancer_type, scheme, ip_address_type)
        validation.load_balancer_name(name)
        subnets = [*subnet_ids, *(mapping["SubnetId"] for mapping in subnet_mappings or ())]
        scheme = scheme or "internet-facing"
        vpc_id = placement.check_subnets(self.ec2_backend, subnets)
        groups = placement.check_security_groups(self.ec2_backend, security_groups or (), vpc_id)
        if (same := next((b for b in self.load_balancers.values() if b.name == name), None)) is not None:
            if (same.scheme, {s.id for s in same.subnets}, set(same.security_groups)) == (
                scheme, set(subnets), set(groups)
            ):  # fmt: skip
                return same
            message = f"A load balancer with the same name '{name}' exists, but with different settings"
            raise ElbError("DuplicateLoadBalancerName", message)
        if len(self.load_balancers) >= validation.MOST_LOAD_BALANCERS:
            message = "The maximum number of load balancers has been reached"
            raise ElbError("TooManyLoadBalancers", message)
        balancer = super().create_load_balancer(
            name, groups, subnets, None, scheme, "application", ip_address_type, tags
        )
        assert isinstance(balancer, LoadBalancer)
        try:
            self._place(balancer)
        except SunaboxError as problem:
            del self.load_balancers[balancer.arn]
            raise ElbError("InvalidSubnet", str(problem)) from problem
        self._publish(balancer)
        return balancer

    def _place(self, balancer: LoadBalancer) -> None:
        description = f"ELB {balancer.arn.partition(':loadbalancer/')[2]}"
        subnets = [subnet.id for subnet in balancer.subnets]
        balancer.interfaces = self.vpc.attach(
            self.account_id, self.region_name, subnets, balancer.security_groups, description
        )
        if balancer.scheme == "internal":
            number = mock_random.randint(10**8, 10**10)
            balancer.dns_name = f"internal-{balancer.name}-{number}.{self.region_name}.elb.amazonaws.com"
            return
        try:
            balancer.address = self.vpc.public_address()
        except SunaboxError:
            self.vpc.detach(self.account_id, self.region_name, balancer.interfaces.eni_ids)
            raise
        # Emulation: DNSName is an address, which every client on the host can connect to; names do not resolve there.
        balancer.dns_name = str(balancer.address)

    def delete_load_balancer(self, arn: str) -> None:
        balancer = self.load_balancers.get(arn)
        if not isinstance(balancer, LoadBalancer):
            return
        if balancer.attrs["deletion_protection.enabled"] == "true":
            message = f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
            raise ElbError("OperationNotPermitted", message)
        super().delete_load_balancer(arn)
        self.api.post(self.balancing.remove_load_balancer, arn)
        self.vpc.detach(self.account_id, self.region_name, balancer.interfaces.eni_ids)
        if balancer.address is not None:
            self.vpc.release_public_address(balancer.address)

    def modify_load_balancer_attributes(self, arn: str, attrs: dict[str, Any]) -> dict[str, Any]:
        balancer = self._balancer(arn)
        attributes.check("Load balancer", attributes.LOAD_BALANCER, attrs)
        balancer.attrs.update(attrs)
        self._publish(balancer)
        return balancer.attrs

    def set_security_groups(self, arn: str, sec_groups: list[str]) -> None:
        balancer = self._balancer(arn)
        balancer.security_groups = placement.check_security_groups(self.ec2_backend, sec_groups, balancer.vpc_id)
        placement.set_security_groups(self.ec2_backend, balancer.interfaces.eni_ids, balancer.security_groups)
        self._publish(balancer)

    def set_subnets(self, arn: str, subnets: list[str], subnet_mappings: list[dict[str, Any]]) -> Any:
        raise ElbError("NotImplemented", "Sunabox does not emulate SetSubnets. Create another load balancer.")

    def set_ip_address_type(self, arn: str, ip_type: str) -> None:
        validation.load_balancer_type(None, None, ip_type)
        super().set_ip_address_type(arn, ip_type)

    # ---- listeners and rules ----

    def create_listener(
        self, load_balancer_arn: str, protocol: str, port: Any, ssl_policy: str, certificate: str | None,
        actions: list[dict[str, Any]], alpn_policy: list[str] | None = None, tags: list[dict[str, str]] | None = None,
    ) -> models.FakeListener:  # fmt: skip
        balancer = self._balancer(load_balancer_arn)
        validation.listener(protocol, port)
        self._check_port(balancer, port)
        if len(balancer.listeners) >= validation.MOST_LISTENERS:
            raise ElbError("TooManyListeners", "The maximum number of listeners per load balancer has been reached")
        self._check_actions(balancer, actions)
        listener = super().create_listener(
            load_balancer_arn, protocol, port, ssl_policy, certificate, actions, alpn_policy, tags
        )
        vars(listener).update(ssl_policy=None, alpn_policy=None)  # an HTTP listener has neither
        self._publish(balancer)
        return listener

    def modify_listener(
        self, arn: str, port: Any = None, protocol: str | None = None, ssl_policy: str | None = None,
        certificates: list[dict[str, Any]] | None = None, actions: list[dict[str, Any]] | None = None,
    ) -> models.FakeListener:  # fmt: skip
        (listener,) = self.describe_listeners(None, [arn])
        balancer = self._balancer(listener.load_balancer_arn)
        validation.listener(protocol, port)
        if port is not None and int(port) != int(listener.port):
            self._check_port(balancer, port)
        if actions:
            self._check_actions(balancer, actions)
        modified = super().modify_listener(arn, port, protocol, ssl_policy, certificates or [], actions or [])
        self._publish(balancer)
        return modified

    def delete_listener(self, listener_arn: str) -> models.FakeListener:
        listener = super().delete_listener(listener_arn)
        self._publish(self._balancer(listener.load_balancer_arn))
        return listener

    def create_rule(
        self, listener_arn: str, conditions: list[dict[str, Any]], priority: Any, actions: list[dict[str, Any]],
        tags: list[dict[str, str]] | None = None,
    ) -> models.FakeListenerRule:  # fmt: skip
        (listener,) = self.describe_listeners(None, [listener_arn])
        balancer = self._balancer(listener.load_balancer_arn)
        validation.priority(priority)
        validation.conditions(conditions)
        if sum(len(one._non_default_rules) for one in balancer.listeners.values()) >= validation.MOST_RULES:
            raise ElbError("TooManyRules", "The maximum number of rules per load balancer has been reached")
        self._check_actions(balancer, actions)
        rule = super().create_rule(listener_arn, conditions, int(priority), actions, tags)
        self._publish(balancer)
        return rule

    def modify_rule(
        self, rule_arn: str, conditions: list[dict[str, Any]], actions: list[dict[str, Any]]
    ) -> models.FakeRule:
        balancer = self._balancer_of_rule(rule_arn)
        if conditions:
            validation.conditions(conditions)
        if actions:
            self._check_actions(balancer, actions)
        rule = super().modify_rule(rule_arn, conditions, actions)
        self._publish(balancer)
        return rule

    def delete_rule(self, arn: str) -> None:
        (rule,) = self.describe_rules(None, [arn])
        if rule.is_default:
            raise ElbError("OperationNotPermitted", f"Default rule '{arn}' cannot be deleted")
        balancer = self._balancer_of_rule(arn)
        super().delete_rule(arn)
        self._publish(balancer)

    def set_rule_priorities(self, rule_priorities: list[dict[str, Any]]) -> list[models.FakeRule]:
        """All at once, so that rules may change places."""
        wanted = {one["RuleArn"]: int(one["Priority"]) for one in rule_priorities}
        rules = self.describe_rules(None, list(wanted))
        for rule in rules:
            validation.priority(wanted[rule.arn])
            if rule.is_default:
                raise ElbError("OperationNotPermitted", f"The priority of the default rule '{rule.arn}' cannot be set")
            (listener,) = self.describe_listeners(None, [rule.listener_arn])
            others = {wanted.get(o.arn, o.priority) for o in listener.rules.values() if o.arn != rule.arn}
            if wanted[rule.arn] in others:
                raise ElbError("PriorityInUse", f"Priority '{wanted[rule.arn]}' is currently in use")
        for rule in rules:
            rule.priority = wanted[rule.arn]
        for arn in {self._balancer_of_rule(rule.arn).arn for rule in rules}:
            self._publish(self._balancer(arn))
        return rules

    def _check_port(self, balancer: LoadBalancer, port: Any) -> None:
        if port is not None and any(int(listener.port) == int(port) for listener in balancer.listeners.values()):
            message = f"A listener already exists on this port for this load balancer '{balancer.arn}'"
            raise ElbError("DuplicateListener", message)

    def _check_actions(self, balancer: LoadBalancer, actions: Sequence[Mapping[str, Any]]) -> None:
        validation.actions(actions)
        for arn in {arn for action in actions for arn in conversion.groups_of(action)}:
            group = self.target_groups.get(arn)
            if group is None:
                raise ElbError("TargetGroupNotFound", f"Target groups '{arn}' not found")
            if group.vpc_id != balancer.vpc_id:
                message = f"The target group '{arn}' is not in the VPC '{balancer.vpc_id}' of the load balancer"
                raise ElbError("InvalidConfigurationRequest", message)
            if any(other != balancer.arn for other in group.load_balancer_arns):
                message = f"The following target groups cannot be associated with more than one load balancer: {arn}"
                raise ElbError("TargetGroupAssociationLimit", message)

    # ---- target groups ----

    def create_target_group(self, name: str, **kwargs: Any) -> models.FakeTargetGroup:
        validation.target_group(
            {conversion.api_name(key): value for key, value in kwargs.items() if value is not None}, new=True
        )
        if (same := next((g for g in self.target_groups.values() if g.name == name), None)) is not None:
            message = f"A target group with the same name '{same.name}' exists, but with different settings"
            raise ElbError("DuplicateTargetGroupName", message)
        group = super().create_target_group(name, **kwargs)
        self._publish_group(group)
        return group

    def modify_target_group(self, arn: str, *args: Any, **kwargs: Any) -> models.FakeTargetGroup:
        group = super().modify_target_group(arn, *args, **kwargs)
        self._publish_group(group)
        return group

    def modify_target_group_attributes(self, target_group_arn: str, attrs: dict[str, Any]) -> None:
        group = self._group(target_group_arn)
        attributes.check("Target group", attributes.TARGET_GROUP, attrs)
        group.attributes.update(attrs)
        self._publish_group(group)

    def delete_target_group(self, target_group_arn: str) -> models.FakeTargetGroup:
        group = self._group(target_group_arn)
        if group.load_balancer_arns:
            message = f"Target group '{target_group_arn}' is currently in use by a listener or a rule"
            raise ElbError("ResourceInUse", message)
        del self.target_groups[target_group_arn]
        self.api.post(self.balancing.remove_target_group, target_group_arn)
        return group

    # ---- targets ----

    def register_targets(self, target_group_arn: str, instances: Sequence[Mapping[str, Any]]) -> None:
        group = self._group(target_group_arn)
        targets = [conversion.checked_target(target, group.port) for target in instances]
        blocks = placement.blocks(self.ec2_backend, group.vpc_id)
        for target in targets:
            if group.target_type == "instance":
                # Emulation: there are no instances yet, so AWS's own words for one that does not run are true.
                message = "The following targets are not in a running state and cannot be registered"
                raise TargetRefused("InvalidTarget", f"{message}: '{target.id}'")
            validation.ip_target(target.id, target.port, blocks, group.vpc_id)
        if len(group.targets.keys() | set(targets)) > validation.MOST_TARGETS:
            raise ElbError("TooManyTargets", "The maximum number of targets per target group has been reached")
        for target in targets:
            group.targets[target] = {"Id": target.id, "Port": target.port}
        self._publish_group(group)

    def deregister_targets(self, target_group_arn: str, instances: Sequence[Mapping[str, Any]]) -> None:
        """Without a port, all ports of the address. Those that are not registered are passed over, as on AWS."""
        group = self._group(target_group_arn)
        for gone in instances:
            for target in list(group.targets):
                if target.id == gone["Id"] and gone.get("Port") in (None, target.port, str(target.port)):
                    del group.targets[target]
        self._publish_group(group)

    def target_health(
        self, target_group_arn: str, targets: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Target, TargetHealth]]:
        """DescribeTargetHealth: of the given targets, or of all that are registered or drain."""
        group = self._group(target_group_arn)
        seen = self.balancing.health(target_group_arn)
        asked = [conversion.checked_target(target, group.port) for target in targets]
        return [
            (target, newest(target in group.targets, seen.get(target), bool(group.load_balancer_arns)))
            for target in asked or sorted({*seen, *group.targets})
        ]

    # ---- records ----

    def _balancer(self, arn: str) -> LoadBalancer:
        balancer = self.load_balancers.get(arn)
        if not isinstance(balancer, LoadBalancer):
            raise ElbError("LoadBalancerNotFound", f"Load balancer '{arn}' not found")
        return balancer

    def _balancer_of_rule(self, rule_arn: str) -> LoadBalancer:
        (rule,) = self.describe_rules(None, [rule_arn])
        (listener,) = self.describe_listeners(None, [rule.listener_arn])
        return self._balancer(listener.load_balancer_arn)

    def _group(self, arn: str) -> TargetGroup:
        group = self.target_groups.get(arn)
        if not isinstance(group, TargetGroup):
            raise ElbError("TargetGroupNotFound", "One or more target groups not found")
        return group

    def _publish(self, balancer: LoadBalancer) -> None:
        value = conversion.load_balancer(balancer, self.vpc.published_port)
        self.api.post(self.balancing.put_load_balancer, value)

    def _publish_group(self, group: models.FakeTargetGroup) -> None:
        zones = placement.zones(self.ec2_backend, group.vpc_id, {target.id for target in group.targets})  # type: ignore[attr-defined]
        self.api.post(self.balancing.put_target_group, conversion.target_group(group, zones))


class Elbv2Response(ELBV2Response):
    """Operations that moto answers differently, in moto's parsing and serialisation."""

    @property
    def elbv2_backend(self) -> Elbv2Backend:
        return models.elbv2_backends[self.current_account][self.region]  # type: ignore[return-value]

    def call_action(self) -> Any:
        try:
            return super().call_action()
        except ElbError as problem:
            if problem.code not in COMMON_ERROR_CODES:  # moto warns of codes that the service's model does not have
                COMMON_ERROR_CODES.append(problem.code)
            return self.serialized(ActionResult(_Refusal(problem.code, problem.message)))

    def create_rule(self) -> ActionResult:
        if self._get_param("Priority") is None or not self._get_param("Actions"):
            raise validation_error("A priority and an action must be specified")
        return super().create_rule()

    def modify_target_group(self) -> ActionResult:
        request = self._get_params()
        backend = self.elbv2_backend
        group = backend._group(request.get("TargetGroupArn") or "")
        validation.target_group({**request, "TargetType": group.target_type}, new=False)
        validation.health_check_times(
            int(request.get("HealthCheckIntervalSeconds") or group.health_check_interval_seconds),
            int(request.get("HealthCheckTimeoutSeconds") or group.health_check_timeout_seconds),
        )
        modified = backend.modify_target_group(
            group.arn,
            request.get("HealthCheckProtocol"),
            request.get("HealthCheckPort"),
            request.get("HealthCheckPath"),
            request.get("HealthCheckIntervalSeconds"),
            request.get("HealthCheckTimeoutSeconds"),
            request.get("HealthyThresholdCount"),
            request.get("UnhealthyThresholdCount"),
            (request.get("Matcher") or {}).get("HttpCode"),
        )
        return ActionResult({"TargetGroups": [modified]})

    def modify_target_group_attributes(self) -> ActionResult:
        super().modify_target_group_attributes()
        return self.describe_target_group_attributes()

    def describe_target_health(self) -> ActionResult:
        backend, arn = self.elbv2_backend, self._get_param("TargetGroupArn")
        check_port = backend._group(arn).health_check_port
        return ActionResult(
            {
                "TargetHealthDescriptions": [
                    {
                        "Target": {"Id": target.id, "Port": target.port},
                        "HealthCheckPort": str(target.port if check_port == "traffic-port" else check_port),
                        "TargetHealth": health_json(health),
                    }
                    for target, health in backend.target_health(arn, self._get_param("Targets") or [])
                ]
            }
        )

    def add_listener_certificates(self) -> ActionResult:
        raise ElbError("NotImplemented", "Sunabox does not emulate HTTPS listeners.")

    def delete_target_group(self) -> ActionResult:
        self.elbv2_backend.delete_target_group(self._get_param("TargetGroupArn") or "")
        return EmptyResult()


class _Refusal(ServiceException):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)


def register_target(target_group_arn: str, ip: str, port: int) -> None:
    """For other services. Raises TargetRefused where the group is not there, or the address not in its VPC."""
    try:
        _backend_of(target_group_arn).register_targets(target_group_arn, [{"Id": ip, "Port": port}])
    except ElbError as problem:
        raise TargetRefused(problem.code, problem.message) from problem


def deregister_target(target_group_arn: str, ip: str, port: int) -> None:
    """For other services. Harmless where group or target are gone."""
    backend = _backend_of(target_group_arn)
    if target_group_arn in backend.target_groups:
        backend.deregister_targets(target_group_arn, [{"Id": ip, "Port": port}])


def target_group(target_group_arn: str) -> tuple[str, str, bool] | None:
    """For other services' checks: the group's target type and VPC, and whether a load balancer forwards to it."""
    group = _backend_of(target_group_arn).target_groups.get(target_group_arn)
    return None if group is None else (group.target_type, group.vpc_id, bool(group.load_balancer_arns))


def install(api: ApiThread, balancing: LoadBalancing, vpc: Vpc) -> None:
    """Puts all this in moto's place, for the backends that are made from now on."""
    Elbv2Backend.api, Elbv2Backend.balancing, Elbv2Backend.vpc = api, balancing, vpc
    models.elbv2_backends.backend = Elbv2Backend
    models.FakeLoadBalancer = LoadBalancer  # type: ignore[misc]
    models.FakeTargetGroup = TargetGroup  # type: ignore[misc]
    moto_dispatch = elb_urls.api_version_elb_backend

    def by_version(*args: Any, **kwargs: Any) -> Any:
        ours = args[0].values.get("Version") == "2015-12-01"
        return Elbv2Response.dispatch(*args, **kwargs) if ours else moto_dispatch(*args, **kwargs)

    elb_urls.url_paths["{0}/$"] = urls.url_paths["{0}/$"] = by_version


def _backend_of(arn: str) -> Elbv2Backend:
    _, _, _, region, account, _ = arn.split(":", 5)
    backend = models.elbv2_backends[account][region]
    assert isinstance(backend, Elbv2Backend), "emulation.elbv2.api.install was called too late"
    return backend
