"""What ECS needs of the other services, made of them. Together with `cloud.py` the only place that knows everybody."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from emulation.core.api_thread import ApiThread
from emulation.ecs.record import Attachment, TaskRequest
from emulation.network.base import Interface
from emulation.network.network import Network


class TaskInterfaces:
    """Interfaces of tasks: EC2's record, and a public address of the host where the task asks for one."""

    def __init__(self, api: ApiThread, network: Network) -> None:
        self._api, self._network = api, network

    async def attach(self, request: TaskRequest, attachment_id: str) -> tuple[Interface, Attachment]:
        from emulation.ec2 import api as ec2

        public = self._network.allocate_public_address() if request.assign_public_ip else None
        prefix = request.arn.partition(":task/")[0]
        try:
            made = await self._api.call(
                ec2.create_task_interface,
                request.account,
                request.region,
                request.subnets[0],
                request.security_groups,
                description=f"{prefix}:attachment/{attachment_id}",
                public_ip=public,
                tags={"aws:ecs:clusterName": request.cluster_name},
            )
        except BaseException:
            if public is not None:
                self._network.release_public_address(public)
            raise
        details = (
            ("subnetId", made.subnet_id),
            ("networkInterfaceId", made.interface.eni_id),
            ("macAddress", made.mac_address),
            ("privateDnsName", made.private_dns_name),
            ("privateIPv4Address", str(made.interface.private_ip)),
        )
        private_ip = str(made.interface.private_ip)
        return made.interface, Attachment(attachment_id, "ATTACHED", private_ip, made.availability_zone, details)

    async def release(self, request: TaskRequest, interface: Interface) -> None:
        from emulation.ec2 import api as ec2

        await self._api.call(ec2.delete_task_interface, request.account, request.region, interface.eni_id)
        if interface.public_ip is not None:
            self._network.release_public_address(interface.public_ip)


class Checks:
    """What RunTask asks of EC2 and IAM before it answers. On the API thread."""

    def network(self, account: str, region: str, subnets: Sequence[str], security_groups: Sequence[str]) -> None:
        from emulation.ec2 import api as ec2

        ec2.resolve_task_network(account, region, subnets, security_groups)

    def role(self, account: str, role_arn: str) -> None:
        from emulation.sts import api as sts

        sts.check_role(account, role_arn)


AWS_ADDRESS = IPv4Address("169.254.170.2")
"""Where the programs in a task reach the emulator: task metadata and credentials on port 80, the AWS API on its own."""


def container_environment(port: int) -> Mapping[str, str]:
    """What every container gets, beyond what Fargate gives it."""
    # Emulation: AWS_ENDPOINT_URL leads AWS's SDKs here; on AWS there is no such variable.
    return {"AWS_ENDPOINT_URL": f"http://{AWS_ADDRESS}:{port}", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
