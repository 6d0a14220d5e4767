"""Values that ECS gets from EC2: where a task may run, its network interface, and what can be wrong with either."""

from dataclasses import dataclass

from emulation.errors import SunaboxError
from emulation.network.base import Interface


class InvalidNetworkConfiguration(SunaboxError):
    """A subnet or security group of an awsvpcConfiguration does not exist or does not fit. The message is in the words
    of ECS, for an InvalidParameterException."""


class InsufficientFreeAddresses(SunaboxError):
    """The subnet is full. Source: Amazon EC2 error codes, InsufficientFreeAddressesInSubnet."""

    def __init__(self, subnet_id: str) -> None:
        super().__init__(
            f"The specified subnet {subnet_id} does not have enough free addresses to satisfy the request. "
            "Stop tasks, or create a larger subnet."
        )


@dataclass(frozen=True, slots=True)
class TaskNetwork:
    """An awsvpcConfiguration that exists: all subnets and groups are of one VPC; the VPC's default group stands in
    where none was given."""

    vpc_id: str
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskInterface:
    """A task's elastic network interface. `public_dns_name` is empty without a public address."""

    interface: Interface
    subnet_id: str
    availability_zone: str
    mac_address: str
    private_dns_name: str
    public_dns_name: str = ""
