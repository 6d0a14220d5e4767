"""Task interfaces and security groups as EC2's API shows them, through moto with our backend."""

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from emulation.ec2 import api
from emulation.ec2.groups import SecurityGroupTable
from emulation.ec2.interface import InsufficientFreeAddresses, InvalidNetworkConfiguration, TaskInterface
from emulation.network.base import Rule

ACCOUNT, REGION = "123456789012", "eu-central-1"
ANYWHERE = IPv4Network("0.0.0.0/0")
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:attachment/5a5c7ab4"


class Changes:
    """Where our seam writes; counts what it tells the network."""

    def __init__(self) -> None:
        self.table, self.count = SecurityGroupTable(), 0

    def changed(self) -> None:
        self.count += 1


@pytest.fixture
def changes() -> Iterator[Changes]:
    changes, before = Changes(), api.models.ec2_backends.backend
    api.install(changes.table, changes.changed)
    yield changes
    api.models.ec2_backends.backend = before


@pytest.fixture
def ec2(changes: Changes) -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("ec2", REGION, aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture
def vpc_id(ec2: Any) -> str:
    return str(ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])


@pytest.fixture
def subnet_id(ec2: Any, vpc_id: str) -> str:
    return str(ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.0.1.0/28")["Subnet"]["SubnetId"])


@pytest.fixture
def group_id(ec2: Any, vpc_id: str) -> str:
    return str(ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc_id)["GroupId"])


def create(subnet_id: str, *group_ids: str, public_ip: str | None = None) -> TaskInterface:
    public = IPv4Address(public_ip) if public_ip else None
    return api.create_task_interface(ACCOUNT, REGION, subnet_id, group_ids, description=ARN, public_ip=public)


def described(ec2: Any, eni_id: str) -> dict[str, Any]:
    (found,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni_id])["NetworkInterfaces"]
    return dict(found)


def test_a_tasks_interface_is_described_as_aws_does_and_goes_with_its_task(
    ec2: Any, vpc_id: str, subnet_id: str, group_id: str
) -> None:
    """In use, with its addresses, its groups, and the ARN of the attachment."""
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    task = create(subnet_id, group_id, public_ip="127.0.4.1")
    eni = described(ec2, task.interface.eni_id)
    assert eni["Status"] == "in-use" and eni["RequesterManaged"] is True
    assert eni["Description"] == ARN
    assert eni["PrivateIpAddress"] == str(task.interface.private_ip) == "10.0.1.4"
    assert eni["PrivateDnsName"] == task.private_dns_name == "ip-10-0-1-4.eu-central-1.compute.internal"
    assert eni["Association"]["PublicIp"] == "127.0.4.1"
    assert eni["Association"]["PublicDnsName"] == "ec2-127-0-4-1.eu-central-1.compute.amazonaws.com"
    assert eni["PrivateIpAddresses"][0]["Association"]["PublicIp"] == "127.0.4.1"
    assert eni["Attachment"]["Status"] == "attached"
    assert eni["MacAddress"] == task.mac_address
    assert [group["GroupId"] for group in eni["Groups"]] == list(task.interface.security_groups) == [group_id]
    assert (eni["SubnetId"], eni["VpcId"]) == (subnet_id, task.interface.vpc_id)
    assert str(task.interface.gateway) == "10.0.1.1"
    api.delete_task_interface(ACCOUNT, REGION, task.interface.eni_id)
    api.delete_task_interface(ACCOUNT, REGION, task.interface.eni_id)
    assert not ec2.describe_network_interfaces(Filters=[{"Name": "subnet-id", "Values": [subnet_id]}])[
        "NetworkInterfaces"
    ]


def test_without_a_public_address_there_is_no_association(ec2: Any, subnet_id: str) -> None:
    """A task in a private subnet has its private address only."""
    assert "Association" not in described(ec2, create(subnet_id).interface.eni_id)


def test_private_addresses_are_unique_and_leave_out_the_five_that_aws_keeps(ec2: Any, subnet_id: str) -> None:
    """A /28 has room for eleven interfaces, those made through the API included; a released address is used again."""
    made = ec2.create_network_interface(SubnetId=subnet_id)["NetworkInterface"]["PrivateIpAddress"]
    tasks = [create(subnet_id) for _ in range(10)]
    addresses = {made, *(str(task.interface.private_ip) for task in tasks)}
    assert addresses == {f"10.0.1.{host}" for host in range(4, 15)}
    with pytest.raises(InsufficientFreeAddresses, match=subnet_id):
        create(subnet_id)
    with pytest.raises(ClientError, match="InsufficientFreeAddressesInSubnet"):
        ec2.create_network_interface(SubnetId=subnet_id)
    api.delete_task_interface(ACCOUNT, REGION, tasks[3].interface.eni_id)
    assert create(subnet_id).interface.private_ip == tasks[3].interface.private_ip


def test_a_released_address_rests_while_others_are_free(ec2: Any, subnet_id: str) -> None:
    """The next task does not get the address that clients may still know."""
    first = create(subnet_id)
    api.delete_task_interface(ACCOUNT, REGION, first.interface.eni_id)
    assert create(subnet_id).interface.private_ip != first.interface.private_ip


def test_the_vpcs_default_group_stands_in_and_admits_its_members(
    ec2: Any, changes: Changes, vpc_id: str, subnet_id: str
) -> None:
    """Two tasks without security groups reach each other, as on AWS; nobody else reaches them."""
    (default,) = ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"]
    assert create(subnet_id).interface.security_groups == (default["GroupId"],)
    assert changes.table.ingress(default["GroupId"]) == (Rule("-1", 0, 65535, default["GroupId"]),)
    assert changes.table.egress(default["GroupId"]) == (Rule("-1", 0, 65535, ANYWHERE),)
    assert default["IpPermissions"][0]["UserIdGroupPairs"][0]["GroupId"] == default["GroupId"]


def test_the_network_hears_of_each_change_of_a_rule(ec2: Any, changes: Changes, group_id: str) -> None:
    """Authorize, modify, revoke and delete reach the table that decides."""
    before = changes.count
    permission = {
        "IpProtocol": "tcp", "FromPort": 7777, "ToPort": 7780,
        "IpRanges": [{"CidrIp": "10.1.2.3/8"}], "UserIdGroupPairs": [{"GroupId": group_id}],
    }  # fmt: skip
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[permission])
    ten = Rule("tcp", 7777, 7780, IPv4Network("10.0.0.0/8"))
    assert set(changes.table.ingress(group_id)) == {ten, Rule("tcp", 7777, 7780, group_id)}
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group_id]}])[
        "SecurityGroupRules"
    ]
    changed = next(rule["SecurityGroupRuleId"] for rule in rules if rule.get("CidrIpv4") == "10.1.2.3/8")
    new = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIpv4": "0.0.0.0/0"}
    ec2.modify_security_group_rules(
        GroupId=group_id, SecurityGroupRules=[{"SecurityGroupRuleId": changed, "SecurityGroupRule": new}]
    )
    assert Rule("tcp", 80, 80, ANYWHERE) in changes.table.ingress(group_id)
    ec2.revoke_security_group_ingress(GroupId=group_id, SecurityGroupRuleIds=[changed])
    assert changes.table.ingress(group_id) == (Rule("tcp", 7777, 7780, group_id),)
    ec2.revoke_security_group_egress(
        GroupId=group_id, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    assert changes.table.egress(group_id) == ()
    ec2.authorize_security_group_egress(
        GroupId=group_id,
        IpPermissions=[{"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": [{"CidrIp": "10.0.0.2/32"}]}],
    )
    assert changes.table.egress(group_id) == (Rule("udp", 53, 53, IPv4Network("10.0.0.2/32")),)
    ec2.delete_security_group(GroupId=group_id)
    assert changes.table.ingress(group_id) == changes.table.egress(group_id) == ()
    assert changes.count == before + 6


def test_a_security_group_or_subnet_in_use_is_not_deleted(ec2: Any, subnet_id: str, group_id: str) -> None:
    """DependencyViolation while a task is in it."""
    task = create(subnet_id, group_id)
    with pytest.raises(ClientError, match=r"DependencyViolation.*has a dependent object"):
        ec2.delete_security_group(GroupId=group_id)
    with pytest.raises(ClientError, match=r"DependencyViolation.*has dependencies and cannot be deleted"):
        ec2.delete_subnet(SubnetId=subnet_id)
    api.delete_task_interface(ACCOUNT, REGION, task.interface.eni_id)
    ec2.delete_security_group(GroupId=group_id)
    ec2.delete_subnet(SubnetId=subnet_id)


def test_a_tasks_interface_belongs_to_ecs(ec2: Any, subnet_id: str, group_id: str) -> None:
    """Nobody takes it away or moves it to other groups under a running task."""
    eni_id = create(subnet_id).interface.eni_id
    with pytest.raises(ClientError, match="currently in use"):
        ec2.delete_network_interface(NetworkInterfaceId=eni_id)
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        ec2.modify_network_interface_attribute(NetworkInterfaceId=eni_id, Groups=[group_id])


def test_subnets_and_groups_that_do_not_fit_are_refused_in_the_words_of_ecs(ec2: Any, subnet_id: str) -> None:
    """What a wrong awsvpcConfiguration answers."""
    other = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    far = ec2.create_subnet(VpcId=other, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    foreign = ec2.create_security_group(GroupName="x", Description="x", VpcId=other)["GroupId"]
    for subnets, groups, words in (
        (["subnet-x"], [], "The subnet ID 'subnet-x' does not exist"),
        ([subnet_id], ["sg-x"], "The security group 'sg-x' does not exist"),
        ([subnet_id], [foreign], f"Security group {foreign} does not appear to belong to the same VPC as the input"),
        ([subnet_id, far], [], "from different VPCs"),
        ([], [], "subnets can not be empty"),
    ):
        with pytest.raises(InvalidNetworkConfiguration, match=words):
            api.resolve_task_network(ACCOUNT, REGION, subnets, groups)


def test_instances_are_refused_rather_than_pretended(ec2: Any) -> None:
    """RunInstances has no data plane yet, and says so."""
    with pytest.raises(ClientError, match=r"UnsupportedOperation.*Sunabox does not run EC2 instances yet"):
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)


def test_the_light_import_leaves_nothing_out() -> None:
    """Regions, zones, instance types and offerings are what moto gives; the offerings are read only when asked for."""
    program = """
import sys
from emulation.ec2 import loading
if sys.argv[1] == "light":
    loading.lighten_import()
from moto.ec2.models import ec2_backends
from moto.ec2.models import instance_types
if sys.argv[1] == "light":
    unread = instance_types.INSTANCE_TYPE_OFFERINGS["region"]["eu-west-1"]
    assert isinstance(unread, loading.LazyOfferings) and unread._rows is None
backend = ec2_backends["123456789012"]["eu-west-1"]
print(sorted(region.name for region in backend.describe_regions()), len(backend.describe_instance_types()))
print([backend.describe_instance_type_offerings(kind) for kind in ("region", "availability-zone")])
"""
    outputs = [
        subprocess.run([sys.executable, "-c", program, how], capture_output=True, check=True).stdout
        for how in ("light", "plain")
    ]
    assert outputs[0] == outputs[1] and len(outputs[0]) > 100_000
