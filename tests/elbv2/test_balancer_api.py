"""What the API of load balancers keeps, and what it refuses, in AWS's codes."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.testing.account import AwsAccount
from emulation.testing.eventually import eventually


class Elb:
    """An account with a VPC, and requests that are right but for what a test changes."""

    def __init__(self, account: AwsAccount) -> None:
        self.elb, self.ec2 = account.client("elbv2"), account.client("ec2")
        found = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        self.subnets = [subnet["SubnetId"] for subnet in found]
        self.vpc = found[0]["VpcId"]
        self.inside = found[0]["CidrBlock"].rpartition(".")[0] + ".77"

    def balancer(self, name: str = "web", **more: Any) -> dict[str, Any]:
        return dict(
            self.elb.create_load_balancer(**{"Name": name, "Subnets": self.subnets[:2], **more})["LoadBalancers"][0]
        )

    def group(self, name: str = "tg", **more: Any) -> str:
        request = {"Name": name, "Protocol": "HTTP", "Port": 80, "VpcId": self.vpc, "TargetType": "ip", **more}
        return str(self.elb.create_target_group(**request)["TargetGroups"][0]["TargetGroupArn"])

    def listen(self, balancer: str, group: str, port: int = 80, **more: Any) -> str:
        action = {"Type": "forward", "TargetGroupArn": group}
        request = {"LoadBalancerArn": balancer, "Protocol": "HTTP", "Port": port, "DefaultActions": [action], **more}
        return str(self.elb.create_listener(**request)["Listeners"][0]["ListenerArn"])

    def rule(self, listener: str, priority: int = 1, **more: Any) -> str:
        fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
        condition = {"Field": "path-pattern", "Values": ["/a"]}
        request = {"ListenerArn": listener, "Priority": priority, "Conditions": [condition], "Actions": [fixed], **more}
        return str(self.elb.create_rule(**request)["Rules"][0]["RuleArn"])

    def register(self, group: str, id: str, **port: int) -> None:
        self.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": id, **port}])

    def health(self, group: str) -> list[tuple[str, int, str, str]]:
        shown = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [
            (one["Target"]["Id"], one["Target"]["Port"], one["TargetHealth"]["State"], one["TargetHealth"]["Reason"])
            for one in shown
        ]


@pytest.fixture
def elb(account: AwsAccount) -> Elb:
    return Elb(account)


def share_a_group(elb: Elb) -> None:
    group = elb.group()
    for name in ("one", "two"):
        elb.listen(elb.balancer(name)["LoadBalancerArn"], group)


def delete_a_used_group(elb: Elb) -> None:
    group = elb.group()
    elb.listen(elb.balancer()["LoadBalancerArn"], group)
    elb.elb.delete_target_group(TargetGroupArn=group)


Request = Callable[[Elb], object]

REFUSED: dict[str, tuple[Request, str, str]] = {
    "one zone": (lambda e: e.balancer(Subnets=e.subnets[:1]), "ValidationError", "At least two subnets"),
    "no such subnet": (lambda e: e.balancer(Subnets=["subnet-1", "subnet-2"]), "SubnetNotFound", "subnet-1"),
    "a bad name": (lambda e: e.balancer("-web"), "ValidationError", "cannot begin or end with '-'"),
    "no such security group": (
        lambda e: e.balancer(SecurityGroups=["sg-1"]), "InvalidConfigurationRequest", "'sg-1' does not exist"
    ),
    "a network load balancer": (lambda e: e.balancer(Type="network"), "NotImplemented", "type network"),
    "a name twice": (
        lambda e: [e.balancer(), e.balancer(Scheme="internal")], "DuplicateLoadBalancerName", "'web' exists"
    ),
    "a group twice": (lambda e: [e.group(), e.group()], "DuplicateTargetGroupName", "'tg' exists"),
    "lambda targets": (
        lambda e: e.elb.create_target_group(Name="l", TargetType="lambda"), "NotImplemented", "target type lambda"
    ),
    "an interval of 400": (lambda e: e.group(HealthCheckIntervalSeconds=400), "ValidationError", "range from 5 to 300"),
    "a matcher of 600": (lambda e: e.group(Matcher={"HttpCode": "600"}), "InvalidParameterValue", "200-499"),
    "no health checks": (lambda e: e.group(HealthCheckEnabled=False), "ValidationError", "must be true"),
    "HTTPS": (
        lambda e: e.listen(e.balancer()["LoadBalancerArn"], e.group(), Protocol="HTTPS"), "NotImplemented", "HTTPS"
    ),
    "a port twice": (
        lambda e: [e.listen(e.balancer()["LoadBalancerArn"], e.group(f"g{n}")) for n in range(2)],
        "DuplicateListener", "A listener already exists on this port",
    ),
    "a group of two load balancers": (share_a_group, "TargetGroupAssociationLimit", "more than one load balancer"),
    "a priority in use": (
        lambda e: [e.rule(x, 5) for x in [e.listen(e.balancer()["LoadBalancerArn"], e.group())] * 2],
        "PriorityInUse", "priority is in use",
    ),
    "priority 60000": (
        lambda e: e.rule(e.listen(e.balancer()["LoadBalancerArn"], e.group()), 60000), "ValidationError", "1-50000"
    ),
    "a redirect to itself": (
        lambda e: e.rule(
            e.listen(e.balancer()["LoadBalancerArn"], e.group()),
            Actions=[{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}],
        ),
        "InvalidLoadBalancerAction", "loop",
    ),
    "a target outside the VPC": (lambda e: e.register(e.group(), "10.9.9.9"), "InvalidTarget", "not within the CIDR"),
    "an instance": (lambda e: e.register(e.group(TargetType="instance"), "i-1"), "InvalidTarget", "'i-1'"),
    "a group in use": (delete_a_used_group, "ResourceInUse", "is currently in use by a listener or a rule"),
    "an unknown attribute": (
        lambda e: e.elb.modify_target_group_attributes(
            TargetGroupArn=e.group(), Attributes=[{"Key": "speed", "Value": "1"}]
        ),
        "ValidationError", "attribute key 'speed' is not recognized",
    ),
    "a delay of two hours": (
        lambda e: e.elb.modify_target_group_attributes(
            TargetGroupArn=e.group(), Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "7200"}]
        ),
        "ValidationError", "must be between '0-3600' inclusive",
    ),
    "access logs": (
        lambda e: e.elb.modify_load_balancer_attributes(
            LoadBalancerArn=e.balancer()["LoadBalancerArn"],
            Attributes=[{"Key": "access_logs.s3.enabled", "Value": "true"}],
        ),
        "NotImplemented", "access_logs.s3.enabled",
    ),
    "a protected load balancer": (
        lambda e: [
            e.elb.modify_load_balancer_attributes(
                LoadBalancerArn=arn, Attributes=[{"Key": "deletion_protection.enabled", "Value": "true"}]
            ) and e.elb.delete_load_balancer(LoadBalancerArn=arn)
            for arn in [e.balancer()["LoadBalancerArn"]]
        ],
        "OperationNotPermitted", "deletion protection is enabled",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_aws_refuses_is_refused(elb: Elb, what: str) -> None:
    """With AWS's code, and what Sunabox does not do with a clear word."""
    request, code, words = REFUSED[what]
    with pytest.raises(ClientError) as caught:
        request(elb)
    assert caught.value.response["Error"]["Code"] == code
    assert words in caught.value.response["Error"]["Message"]


def test_two_ports_of_one_address_are_two_targets(elb: Elb) -> None:
    """Unused at first; deregistering one leaves the other, deregistering what is not there is passed over."""
    group = elb.group()
    for port in (8001, 8002):
        elb.register(group, elb.inside, Port=port)
    unused = ("unused", "Target.NotInUse")
    eventually(lambda: elb.health(group) == [(elb.inside, 8001, *unused), (elb.inside, 8002, *unused)])
    elb.elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": elb.inside, "Port": 8001}, {"Id": "172.31.0.1"}])
    eventually(lambda: elb.health(group) == [(elb.inside, 8002, *unused)])
    asked = elb.elb.describe_target_health(TargetGroupArn=group, Targets=[{"Id": elb.inside, "Port": 8001}])
    (shown,) = asked["TargetHealthDescriptions"]
    assert shown["TargetHealth"]["Reason"] == "Target.NotRegistered"


def test_a_load_balancer_has_interfaces_that_go_with_it(elb: Elb) -> None:
    """One in each subnet, with its security groups, which cannot be deleted meanwhile; its name is an address."""
    group = elb.ec2.create_security_group(GroupName="alb", Description="alb", VpcId=elb.vpc)["GroupId"]
    balancer = elb.balancer(SecurityGroups=[group])
    assert balancer["DNSName"].startswith("127.0.")
    wanted = [{"Name": "description", "Values": [f"ELB {balancer['LoadBalancerArn'].partition(':loadbalancer/')[2]}"]}]
    interfaces = elb.ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"]
    assert sorted(interface["SubnetId"] for interface in interfaces) == sorted(elb.subnets[:2])
    with pytest.raises(ClientError, match="DependencyViolation"):
        elb.ec2.delete_security_group(GroupId=group)
    elb.elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
    elb.elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
    elb.ec2.delete_security_group(GroupId=group)


def test_rules_may_change_places(elb: Elb) -> None:
    """SetRulePriorities is one step: no moment at which two rules have one priority."""
    group = elb.group()
    listener = elb.listen(elb.balancer()["LoadBalancerArn"], group)
    one, two = elb.rule(listener, 1), elb.rule(listener, 2)
    elb.elb.set_rule_priorities(RulePriorities=[{"RuleArn": one, "Priority": 2}, {"RuleArn": two, "Priority": 1}])
    shown = {rule["RuleArn"]: rule["Priority"] for rule in elb.elb.describe_rules(ListenerArn=listener)["Rules"]}
    assert (shown[one], shown[two]) == ("2", "1")
    assert elb.elb.describe_target_groups(TargetGroupArns=[group])["TargetGroups"][0]["LoadBalancerArns"]
    elb.elb.delete_listener(ListenerArn=listener)
    assert not elb.elb.describe_target_groups(TargetGroupArns=[group])["TargetGroups"][0].get("LoadBalancerArns")
    elb.elb.delete_target_group(TargetGroupArn=group)
