"""What ECS needs of the other services, made of them. Together with `cloud.py` the only place that knows everybody."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from emulation.core.api_thread import ApiThread
from emulation.ecs import secrets as secrets_of_ecs
from emulation.ecs.agent import ADDRESS
from emulation.ecs.credentials import Session, cannot_assume
from emulation.ecs.record import Attachment, TaskRequest
from emulation.errors import SunaboxError
from emulation.images.reference import ImageReference, ecr_registry
from emulation.images.source import ImageSource, ResolvedImage
from emulation.logs import options as log_driver_options
from emulation.network.base import Interface
from emulation.network.network import Network


class TaskInterfaces:
    """Interfaces of tasks: EC2's record, and a public address of the host where the task asks for one."""

    def __init__(self, api: ApiThread, network: Network) -> None:
        self._api, self._network = api, network

    async def attach(self, request: TaskRequest, attachment_id: str) -> tuple[Interface, Attachment]:
        from emulation.ec2 import api as ec2

        # Emulation: always the first subnet; AWS spreads tasks over the zones of all of them.
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
    """What ECS asks of CloudWatch Logs, EC2 and IAM before it answers. On the API thread."""

    def log_options(self, options: Mapping[str, str], *, fargate: bool) -> None:
        log_driver_options.validate(options, fargate=fargate)

    def network(self, account: str, region: str, subnets: Sequence[str], security_groups: Sequence[str]) -> None:
        from emulation.ec2 import api as ec2

        ec2.resolve_task_network(account, region, subnets, security_groups)

    def role(self, role_arn: str) -> None:
        from emulation.sts import api as sts

        # Emulation: the role's policies are not asked; AWS needs some of them to pull, to log and to read secrets.
        try:
            sts.check_trust(role_arn, "ecs-tasks.amazonaws.com")
        except sts.RoleNotAssumable as problem:
            raise SunaboxError(cannot_assume(role_arn)) from problem


class TaskSecrets:
    """Parameter Store and Secrets Manager, asked on the API thread."""

    def __init__(self, api: ApiThread) -> None:
        self._api = api

    async def resolve(self, secrets: tuple[tuple[str, str], ...], *, account: str, region: str) -> Mapping[str, str]:
        if not secrets:
            return {}

        def resolve() -> Mapping[str, str]:
            from emulation.secretsmanager.api import get_secret_value
            from emulation.ssm.api import get_parameters

            return secrets_of_ecs.resolve(
                secrets,
                account=account,
                region=region,
                get_parameters=get_parameters,
                get_secret_value=get_secret_value,
            )

        return await self._api.call(resolve)


class AssumeRole:
    """Sessions of task roles, made on the API thread."""

    def __init__(self, api: ApiThread) -> None:
        self._api = api

    async def __call__(
        self, role_arn: str, session_name: str, *, region: str, duration: timedelta, now: datetime
    ) -> Session:
        def assume() -> Session:
            from emulation.sts import api as sts

            return sts.assume_role(role_arn, session_name, region=region, duration=duration, now=now)

        return await self._api.call(assume)


class Images:
    """Where the runtime finds images: ECR for its names, the machine's local images for all others."""

    def __init__(self, ecr: ImageSource, library: ImageSource) -> None:
        self._ecr, self._library = ecr, library

    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        of_ecr = ecr_registry(ImageReference.parse(reference)) is not None
        return await (self._ecr if of_ecr else self._library).resolve(reference, account)


AWS_ADDRESS = IPv4Address(ADDRESS)
"""Where the programs in a task reach the emulator: task metadata and credentials on port 80, the AWS API on its own."""


def container_environment(port: int) -> Mapping[str, str]:
    """What every container gets, beyond what Fargate gives it."""
    # Emulation: AWS_ENDPOINT_URL leads AWS's SDKs here; on AWS there is no such variable.
    return {"AWS_ENDPOINT_URL": f"http://{AWS_ADDRESS}:{port}", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
