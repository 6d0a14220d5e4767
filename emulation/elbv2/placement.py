"""Where load balancers and targets are, as EC2's records say: subnets, zones, security groups, the VPC's addresses.

moto's EC2 backend is handed in, and only read; moto itself is not imported here. All functions are for the API thread.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from emulation.elbv2.failures import ElbError, validation_error


def check_subnets(ec2: Any, subnet_ids: Sequence[str]) -> str:
    """The VPC of a new load balancer's subnets. Raises ElbError."""
    known = {subnet.id: subnet for subnet in _subnets(ec2)}
    for subnet_id in subnet_ids:
        if subnet_id not in known:
            raise ElbError("SubnetNotFound", f"The subnet ID '{subnet_id}' does not exist")
    subnets = [known[subnet_id] for subnet_id in subnet_ids]
    zones = {subnet.availability_zone for subnet in subnets}
    if len(zones) < 2:
        raise validation_error("At least two subnets in two different Availability Zones must be specified")
    if len(zones) < len(subnets):
        message = "A load balancer cannot be attached to multiple subnets in the same Availability Zone"
        raise ElbError("InvalidConfigurationRequest", message)
    if len({subnet.vpc_id for subnet in subnets}) > 1:
        raise ElbError("InvalidConfigurationRequest", "All subnets must be of the same VPC")
    return str(subnets[0].vpc_id)


def check_security_groups(ec2: Any, group_ids: Sequence[str], vpc_id: str) -> list[str]:
    """The groups, or the VPC's default one where none is given. Raises ElbError."""
    for group_id in group_ids:
        group = ec2.get_security_group_from_id(group_id)
        if group is None:
            raise ElbError("InvalidConfigurationRequest", f"Security group '{group_id}' does not exist")
        if group.vpc_id != vpc_id:
            message = f"Security group '{group_id}' does not belong to VPC '{vpc_id}'"
            raise ElbError("InvalidConfigurationRequest", message)
    default = ec2.get_default_security_group(vpc_id)
    return list(group_ids) or ([default.id] if default else [])


def set_security_groups(ec2: Any, eni_ids: Iterable[str], group_ids: Iterable[str]) -> None:
    """Gives the interfaces of a load balancer other groups."""
    groups = [ec2.get_security_group_from_id(group_id) for group_id in group_ids]
    for eni_id in eni_ids:
        ec2.get_network_interface(eni_id).group_set[:] = groups


def blocks(ec2: Any, vpc_id: str) -> list[str]:
    """The CIDR blocks of a VPC."""
    vpc = ec2.get_vpc(vpc_id)
    return sorted({vpc.cidr_block, *(one["cidr_block"] for one in vpc.get_cidr_block_association_set())})


def zones(ec2: Any, vpc_id: str, addresses: Iterable[str]) -> dict[str, str]:
    """The zones of addresses, as far as they are in a subnet of the VPC."""
    networks = [
        (IPv4Network(subnet.cidr_block), subnet.availability_zone)
        for subnet in _subnets(ec2)
        if subnet.vpc_id == vpc_id
    ]
    return {address: zone for address in addresses for network, zone in networks if IPv4Address(address) in network}


def _subnets(ec2: Any) -> list[Any]:
    return [subnet for of_zone in ec2.subnets.values() for subnet in of_zone.values()]
