"""Amazon ECS, with what it needs of CloudWatch Logs, EC2, IAM, the parameter stores and load balancing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from emulation.core.api_thread import ApiThread
from emulation.ecs import secrets as secrets_of_ecs
from emulation.ecs.agent import ADDRESS, TaskAgent
from emulation.ecs.credentials import CredentialStore, Session, cannot_assume
from emulation.ecs.engine import EcsEngine
from emulation.ecs.record import Attachment, TaskRequest
from emulation.ecs.surroundings import LogDriver, Surroundings, TargetGroups
from emulation.errors import SunaboxError
from emulation.logs import options as log_driver_options
from emulation.network.base import Interface
from emulation.network.network import Network
from emulation.wiring.ground import Ground


def make_agent(ground: Ground) -> TaskAgent:
    return TaskAgent(CredentialStore(ground.clock, AssumeRole(ground.api)))


def make_tasks(ground: Ground, logs: LogDriver, agent: TaskAgent, target_groups: TargetGroups, port: int) -> EcsEngine:
    """`port` is the gateway's."""
    return EcsEngine(
        ground.api,
        ground.clock,
        Surroundings(
            runtime=ground.runtime,
            interfaces=TaskInterfaces(ground.api, ground.network),
            logs=logs,
            secrets=TaskSecrets(ground.api),
            agent=agent,
            bus=ground.bus,
            environment=container_environment(port),
            target_groups=target_groups,
        ),
    )


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

    def target_group(self, account: str, region: str, target_group_arn: str) -> str:
        from emulation.elbv2 import api as elbv2

        found = elbv2.target_group(target_group_arn)
        if found is None:
            raise SunaboxError(f"The specified target group {target_group_arn} does not exist.")
        target_type, _vpc, attached = found
        if not attached:
            raise SunaboxError(
                f"The target group with targetGroupArn {target_group_arn} does not have an associated load balancer."
            )
        return target_type

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


AWS_ADDRESS = IPv4Address(ADDRESS)
"""Where the programs in a task reach the emulator: task metadata and credentials on port 80, the AWS API on its own."""


def container_environment(port: int) -> Mapping[str, str]:
    """What every container gets, beyond what Fargate gives it."""
    # Emulation: AWS_ENDPOINT_URL leads AWS's SDKs here; on AWS there is no such variable.
    return {"AWS_ENDPOINT_URL": f"http://{AWS_ADDRESS}:{port}", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
