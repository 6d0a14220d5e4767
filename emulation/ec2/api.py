"""The seam into moto's EC2: security groups that count, and the network interfaces of tasks.

All functions and methods here run on the API thread. To be imported lazily, after `loading.lighten_import()`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import chain
from typing import Any, ClassVar

from moto.ec2 import models, urls
from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule
from moto.ec2.models.subnets import Subnet

from emulation.ec2.groups import SecurityGroupTable
from emulation.ec2.interface import (
    InsufficientFreeAddresses,
    InvalidNetworkConfiguration,
    TaskInterface,
    TaskNetwork,
)
from emulation.network.base import Interface, Rule

log = logging.getLogger(__name__)

_FIRST_FREE = 4
"""AWS keeps the first four addresses of a subnet and the last. Source: Subnet CIDR blocks, Subnet CIDR reservations."""


class EC2Backend(models.EC2Backend):
    """moto's records of one account and region; tells the network of each change of security groups."""

    runs_instances: ClassVar[bool] = False
    """To be set when instances boot; until then RunInstances and all that calls it are refused."""

    security_group_table: ClassVar[SecurityGroupTable] = SecurityGroupTable()
    security_groups_changed: ClassVar[Callable[[], object]] = lambda: None

    def __init__(self, region_name: str, account_id: str) -> None:
        self._next_host: dict[str, int] = {}
        self._private_ips: dict[str, set[str]] = {}
        super().__init__(region_name, account_id)

    @property
    def _url_module(self) -> Any:
        return urls

    # Instances

    def run_instances(self, *args: Any, **kwargs: Any) -> Any:
        if not self.runs_instances:
            raise EC2ClientError(
                "UnsupportedOperation",
                "Sunabox does not run EC2 instances yet, and does not pretend to. Run the program as an ECS task.",
            )
        return super().run_instances(*args, **kwargs)

    # Security groups

    def create_security_group(self, *args: Any, **kwargs: Any) -> SecurityGroup:
        group = super().create_security_group(*args, **kwargs)
        if group.is_default:
            # Source: Default security groups for your VPCs. It lets its own members in; moto leaves that out.
            own = {"GroupId": group.id, "UserId": self.account_id, "OwnerId": self.account_id}
            group.add_ingress_rule(SecurityGroupRule(self, "-1", group.id, None, None, None, own, is_egress=False))
        self._publish(group.id)
        return group

    def _delete_security_group(self, vpc_id: str | None, group_id: str) -> None:
        if any(group.id == group_id for eni in self.enis.values() for group in eni.group_set):
            raise DependencyViolationError(f"resource {group_id} has a dependent object")
        super()._delete_security_group(vpc_id, group_id)
        self._publish(group_id)

    def authorize_security_group_ingress(self, group_name_or_id: str, *args: Any, **kwargs: Any) -> Any:
        result = super().authorize_security_group_ingress(group_name_or_id, *args, **kwargs)
        self._publish(group_name_or_id, kwargs.get("vpc_id"))
        return result

    def revoke_security_group_ingress(self, group_name_or_id: str, *args: Any, **kwargs: Any) -> None:
        super().revoke_security_group_ingress(group_name_or_id, *args, **kwargs)
        self._publish(group_name_or_id, kwargs.get("vpc_id"))

    def authorize_security_group_egress(self, group_name_or_id: str, *args: Any, **kwargs: Any) -> Any:
        result = super().authorize_security_group_egress(group_name_or_id, *args, **kwargs)
        self._publish(group_name_or_id, kwargs.get("vpc_id"))
        return result

    def revoke_security_group_egress(self, group_name_or_id: str, *args: Any, **kwargs: Any) -> None:
        super().revoke_security_group_egress(group_name_or_id, *args, **kwargs)
        self._publish(group_name_or_id, kwargs.get("vpc_id"))

    def modify_security_group_rules(self, group_id: str, *args: Any, **kwargs: Any) -> None:
        try:
            super().modify_security_group_rules(group_id, *args, **kwargs)
        finally:  # moto changes the rules before the faulty one
            self._publish(group_id)

    def _publish(self, group_name_or_id: str, vpc_id: str | None = None) -> None:
        group = self.get_security_group_by_name_or_id(group_name_or_id, vpc_id)
        if group is None:
            self.security_group_table.remove(group_name_or_id)
        else:
            self.security_group_table.put(group.id, _rules(group.ingress_rules), _rules(group.egress_rules))
        type(self).security_groups_changed()

    # Subnets and network interfaces

    def delete_subnet(self, subnet_id: str) -> Any:
        if any(eni.subnet.id == subnet_id for eni in self.enis.values()):
            raise DependencyViolationError(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
        return super().delete_subnet(subnet_id)

    def create_network_interface(self, subnet: Any, private_ip_address: Any, *args: Any, **kwargs: Any) -> Any:
        """As moto does it, but an address of AWS's choice is one that is free."""
        given = private_ip_address or (args[0] if args else kwargs.get("private_ip_addresses"))
        if not given and isinstance(subnet, Subnet) and isinstance(subnet.cidr, IPv4Network):
            try:
                private_ip_address = str(self.free_private_ip(subnet))
            except InsufficientFreeAddresses as error:
                raise EC2ClientError("InsufficientFreeAddressesInSubnet", str(error)) from error
        return self.keep_network_interface(
            super().create_network_interface(subnet, private_ip_address, *args, **kwargs)
        )

    def keep_network_interface(self, eni: Any) -> Any:
        self.enis[eni.id] = eni
        taken = self._private_ips.setdefault(eni.subnet.id, set())
        taken.update(str(address["PrivateIpAddress"]) for address in eni.private_ip_addresses)
        return eni

    def delete_network_interface(self, eni_id: str) -> None:
        eni = self.enis.get(eni_id)
        if isinstance(eni, TaskNetworkInterface):
            raise EC2ClientError("InvalidParameterValue", f"Network interface '{eni_id}' is currently in use.")
        super().delete_network_interface(eni_id)
        self._forget_addresses(eni)

    def drop_task_interface(self, eni_id: str) -> None:
        eni = self.enis.pop(eni_id, None)
        if eni is not None:
            self.tags.pop(eni_id, None)
            self._forget_addresses(eni)

    def modify_network_interface_attribute(self, eni_id: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.enis.get(eni_id), TaskNetworkInterface):
            raise EC2ClientError("OperationNotPermitted", f"You are not allowed to manage '{eni_id}': it is a task's.")
        super().modify_network_interface_attribute(eni_id, *args, **kwargs)

    def free_private_ip(self, subnet: Any) -> IPv4Address:
        """The next free address of a subnet, round and round, so that a released one rests for a while."""
        network: IPv4Network = subnet.cidr
        hosts = range(_FIRST_FREE, network.num_addresses - 1)
        taken = self._private_ips.get(subnet.id, set())
        start = self._next_host.get(subnet.id, hosts.start)
        for host in chain(range(start, hosts.stop), range(hosts.start, start)):
            address = network[host]
            if str(address) not in taken and str(address) not in subnet._subnet_ips:
                self._next_host[subnet.id] = host + 1
                return address
        raise InsufficientFreeAddresses(subnet.id)

    def _forget_addresses(self, eni: Any) -> None:
        if eni is not None:
            taken = self._private_ips.get(eni.subnet.id, set())
            taken.difference_update(str(address["PrivateIpAddress"]) for address in eni.private_ip_addresses)


class TaskNetworkInterface(NetworkInterface):
    """An interface that ECS manages for a task; DescribeNetworkInterfaces shows it in use while the task is there.

    Source: Amazon ECS task networking options for Fargate; Requester-managed network interfaces.
    """

    def __init__(
        self,
        ec2_backend: EC2Backend,
        subnet: Any,
        group_ids: Sequence[str],
        public_ip: IPv4Address | None,
        description: str,
        tags: Mapping[str, str],
    ) -> None:
        private_ip = str(ec2_backend.free_private_ip(subnet))
        super().__init__(
            ec2_backend, subnet, private_ip, group_ids=list(group_ids), description=description, tags=dict(tags)
        )
        self.status = "in-use"
        self.requester_managed = True
        self.public_ip = str(public_ip) if public_ip else None
        self.private_dns_name = private_dns_name(private_ip, ec2_backend.region_name)
        named = ec2_backend.get_vpc(subnet.vpc_id).enable_dns_hostnames in (True, "true")
        self.public_dns_name = (
            public_dns_name(self.public_ip, ec2_backend.region_name) if self.public_ip and named else ""
        )
        primary = self.private_ip_addresses[0]
        primary["PrivateDnsName"] = self.private_dns_name
        if self.public_ip:
            primary["Association"] = self.association

    @property
    def attachment(self) -> Any:
        return {
            "AttachmentId": self.id.replace("eni-", "eni-attach-"),
            "DeleteOnTermination": True,
            "DeviceIndex": 1,
            "NetworkCardIndex": 0,
            "InstanceOwnerId": "amazon-aws",
            "Status": "attached",
        }

    @property
    def association(self) -> dict[str, Any]:
        if not self.public_ip:
            return {}
        return {"IpOwnerId": "amazon", "PublicIp": self.public_ip, "PublicDnsName": self.public_dns_name}

    @property
    def availability_zone_id(self) -> str:
        return str(self.subnet.availability_zone_id)


def install(table: SecurityGroupTable, changed: Callable[[], object]) -> None:
    """Puts our backend in the place of moto's, before the first request to EC2.

    `changed` is called on the API thread after each change of a security group.
    """
    EC2Backend.security_group_table = table
    EC2Backend.security_groups_changed = staticmethod(changed)
    models.ec2_backends.backend = EC2Backend


def resolve_task_network(
    account: str, region: str, subnet_ids: Sequence[str], security_group_ids: Sequence[str]
) -> TaskNetwork:
    """Checks an awsvpcConfiguration. Raises InvalidNetworkConfiguration.

    Source: Amazon ECS API reference, AwsVpcConfiguration.
    """
    backend = _backend(account, region)
    subnets = [_subnet(backend, subnet_id) for subnet_id in subnet_ids]
    if not subnets:
        raise InvalidNetworkConfiguration("subnets can not be empty.")
    vpc_id: str = subnets[0].vpc_id
    if any(subnet.vpc_id != vpc_id for subnet in subnets):
        raise InvalidNetworkConfiguration(f"The subnets [{', '.join(subnet_ids)}] are from different VPCs.")
    for group_id in security_group_ids:
        group = backend.get_security_group_from_id(group_id)
        if group is None:
            raise InvalidNetworkConfiguration(
                f"Error retrieving security group information for [{', '.join(security_group_ids)}]: "
                f"The security group '{group_id}' does not exist (ErrorCode: InvalidGroup.NotFound)"
            )
        if group.vpc_id != vpc_id:
            raise InvalidNetworkConfiguration(
                f"Security group {group_id} does not appear to belong to the same VPC as the input subnets."
            )
    if not security_group_ids:
        default = backend.get_default_security_group(vpc_id)
        security_group_ids = [default.id] if default else []
    return TaskNetwork(vpc_id, tuple(subnet_ids), tuple(security_group_ids))


def create_task_interface(
    account: str,
    region: str,
    subnet_id: str,
    security_group_ids: Sequence[str] = (),
    *,
    description: str,
    public_ip: IPv4Address | None = None,
    tags: Mapping[str, str] | None = None,
) -> TaskInterface:
    """Creates a task's interface with a free private address of the subnet; without groups, in the VPC's default one.

    `description` is the ARN of the task's attachment. Raises InvalidNetworkConfiguration, InsufficientFreeAddresses.
    """
    backend = _backend(account, region)
    network = resolve_task_network(account, region, [subnet_id], security_group_ids)
    subnet = _subnet(backend, subnet_id)
    eni = TaskNetworkInterface(  # type: ignore[abstract]  # moto leaves CloudFormation's part of it abstract, too
        backend, subnet, network.security_group_ids, public_ip, description, tags or {}
    )
    backend.keep_network_interface(eni)
    interface = Interface(
        eni_id=eni.id,
        vpc_id=network.vpc_id,
        private_ip=IPv4Address(str(eni.private_ip_address)),
        gateway=subnet.cidr[1],
        security_groups=network.security_group_ids,
        public_ip=public_ip,
    )
    return TaskInterface(
        interface, subnet_id, subnet.availability_zone, eni.mac_address, eni.private_dns_name, eni.public_dns_name
    )


def delete_task_interface(account: str, region: str, eni_id: str) -> None:
    """Harmless when it is gone already."""
    _backend(account, region).drop_task_interface(eni_id)


def subnets_of_service(account: str, region: str, subnet_ids: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """(id, Availability Zone) of the subnets, or, without any, of the default VPC's: where managed services may be.

    Raises InvalidNetworkConfiguration where one does not exist, or where there is no default VPC.
    """
    backend = _backend(account, region)
    subnets = [_subnet(backend, subnet_id) for subnet_id in subnet_ids] or [
        subnet
        for in_zone in backend.subnets.values()
        for subnet in in_zone.values()
        if subnet.default_for_az in (True, "true") and backend.vpcs[subnet.vpc_id].is_default in (True, "true")
    ]
    if not subnets:
        raise InvalidNetworkConfiguration("There is no default VPC. Create one, or name subnets.")
    return tuple(sorted(((subnet.id, subnet.availability_zone) for subnet in subnets), key=lambda pair: pair[1]))


def set_interface_groups(account: str, region: str, eni_id: str, security_group_ids: Sequence[str]) -> None:
    """Gives the interface of a task or of a managed service other security groups, which exist in its VPC."""
    backend = _backend(account, region)
    eni = backend.enis.get(eni_id)
    if eni is not None:
        groups = (backend.get_security_group_from_id(group_id) for group_id in security_group_ids)
        eni._group_set = [group for group in groups if group is not None]


def private_dns_name(ip: str, region: str) -> str:
    """Source: Amazon EC2 instance hostname types, IP based naming."""
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    return f"ip-{ip.replace('.', '-')}.{domain}"


def public_dns_name(ip: str, region: str) -> str:
    """Emulation: on the host the name does not resolve; clients there use the address."""
    domain = "compute-1" if region == "us-east-1" else f"{region}.compute"
    return f"ec2-{ip.replace('.', '-')}.{domain}.amazonaws.com"


def _backend(account: str, region: str) -> EC2Backend:
    backend = models.ec2_backends[account][region]
    assert isinstance(backend, EC2Backend), "emulation.ec2.api.install was called too late"
    return backend


def _subnet(backend: EC2Backend, subnet_id: str) -> Any:
    try:
        return backend.get_subnet(subnet_id)
    except EC2ClientError as error:
        raise InvalidNetworkConfiguration(
            f"Error retrieving subnet information for [{subnet_id}]: "
            f"The subnet ID '{subnet_id}' does not exist (ErrorCode: InvalidSubnetID.NotFound)"
        ) from error


def _rules(rules: Sequence[SecurityGroupRule]) -> tuple[Rule, ...]:
    return tuple(converted for rule in rules for converted in _converted(rule))


def _converted(rule: SecurityGroupRule) -> list[Rule]:
    """The network's view of one of moto's rules.

    Emulation: rules for IPv6 ranges and for prefix lists permit nothing.
    """
    made = partial(Rule, *_ports(rule))
    peers: list[IPv4Network | str] = []
    if rule.cidr_ipv4:
        try:
            peers.append(IPv4Network(rule.cidr_ipv4, strict=False))
        except (AddressValueError, ValueError):
            log.warning("A rule of %s has no valid range of addresses: %s", rule.group_id, rule.cidr_ipv4)
    if rule.source_group.get("GroupId"):
        peers.append(rule.source_group["GroupId"])
    return [made(peer=peer) for peer in peers]


def _ports(rule: SecurityGroupRule) -> tuple[str, int, int]:
    protocol = rule.ip_protocol or "-1"
    from_port = int(rule.from_port) if rule.from_port is not None else -1
    to_port = int(rule.to_port) if rule.to_port is not None else -1
    if protocol == "-1" or from_port == -1:
        return protocol, 0, 65535
    return protocol, from_port, to_port
