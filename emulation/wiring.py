"""What ECS needs of the other services, made of them. Together with `cloud.py` the only place that knows everybody."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from emulation.core.api_thread import ApiThread
from emulation.ec2.groups import SecurityGroupTable
from emulation.ec2.interface import InvalidNetworkConfiguration, TaskInterface
from emulation.ecs import secrets as secrets_of_ecs
from emulation.ecs.agent import ADDRESS
from emulation.ecs.credentials import Session, cannot_assume
from emulation.ecs.record import Attachment, TaskRequest
from emulation.elasticache import record as elasticache
from emulation.elasticache.surroundings import Location
from emulation.errors import SunaboxError
from emulation.images.reference import ImageReference, ecr_registry
from emulation.images.source import ImageSource, ResolvedImage
from emulation.logs import options as log_driver_options
from emulation.network.base import Interface, Rule
from emulation.network.endpoint import Endpoint, Placement
from emulation.network.network import Network
from emulation.rds import record as rds
from emulation.rds.failures import invalid_value


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


class Images:
    """Where the runtime finds images: ECR for its names, the machine's local images for all others."""

    def __init__(self, ecr: ImageSource, library: ImageSource) -> None:
        self._ecr, self._library = ecr, library

    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        of_ecr = ecr_registry(ImageReference.parse(reference)) is not None
        return await (self._ecr if of_ecr else self._library).resolve(reference, account)


class Databases:
    """What RDS needs of EC2 and the network: interfaces, endpoints, the default place, security groups."""

    def __init__(self, api: ApiThread, network: Network, groups: SecurityGroupTable) -> None:
        self._api, self._network, self._groups = api, network, groups
        self._endpoints: dict[IPv4Address, Endpoint] = {}

    async def attach(self, facts: rds.Facts, security_groups: Sequence[str], before: rds.Place | None) -> rds.Place:
        if before is not None:
            for group in security_groups:
                if not self._groups.ingress(group):  # EC2's record of it went with the emulator that was there before
                    self._groups.put(group, tuple(_rule(kept) for kept in before.rules if kept[0] == group), ())
        made = await self._api.call(self._attach, facts, tuple(security_groups))
        endpoint = Endpoint(self._network, 0, before.address if before is not None else None)
        self._endpoints[endpoint.address] = endpoint
        return rds.Place(endpoint.address, made.interface.private_ip, made.interface.vpc_id, made.interface.eni_id)

    def _attach(self, facts: rds.Facts, security_groups: tuple[str, ...]) -> TaskInterface:
        from emulation.ec2 import api as ec2

        wanted = [subnet for subnet, zone in facts.subnet_group.subnets if zone == facts.availability_zone]
        try:
            return ec2.create_task_interface(
                facts.account, facts.region, wanted[0], security_groups, description="RDSNetworkInterface"
            )
        except InvalidNetworkConfiguration:
            # The VPC is gone with an earlier emulator; the database is in the default one now.
            subnet_id, _ = ec2.subnets_of_service(facts.account, facts.region)[0]
            return ec2.create_task_interface(
                facts.account, facts.region, subnet_id, (), description="RDSNetworkInterface"
            )

    async def publish(
        self,
        facts: rds.Facts,
        place: rds.Place,
        security_groups: Sequence[str],
        port: int,
        upstream: tuple[str, int],
        admit: Callable[[bool], None],
    ) -> None:
        endpoint = self._endpoints[place.address]
        await endpoint.withdraw()
        endpoint.port = port
        await self._api.call(self._set_groups, facts, place, tuple(security_groups))
        placement = Placement(place.vpc_id, tuple(security_groups), place.private_ip, place.eni_id)
        await endpoint.announce(placement, (facts.host_name,), upstream, admit)

    @staticmethod
    def _set_groups(facts: rds.Facts, place: rds.Place, security_groups: tuple[str, ...]) -> None:
        from emulation.ec2 import api as ec2

        ec2.set_interface_groups(facts.account, facts.region, place.eni_id, security_groups)

    async def withdraw(self, place: rds.Place) -> None:
        if place.address in self._endpoints:
            await self._endpoints[place.address].withdraw()

    async def release(self, facts: rds.Facts, place: rds.Place) -> None:
        from emulation.ec2 import api as ec2

        await self._api.call(ec2.delete_task_interface, facts.account, facts.region, place.eni_id)
        endpoint = self._endpoints.pop(place.address, None)
        if endpoint is not None:
            await endpoint.release()

    def rules(self, security_groups: Sequence[str]) -> tuple[rds.KeptRule, ...]:
        return _kept(self._groups, security_groups)

    def default_subnet_group(self, account: str, region: str) -> rds.SubnetGroup | None:
        from emulation.ec2 import api as ec2

        try:
            subnets = ec2.subnets_of_service(account, region)
            network = ec2.resolve_task_network(account, region, [subnet for subnet, _ in subnets], ())
        except InvalidNetworkConfiguration:
            return None
        return rds.SubnetGroup("default", "default", network.vpc_id, subnets)

    def security_groups(
        self, account: str, region: str, group: rds.SubnetGroup, group_ids: Sequence[str]
    ) -> tuple[str, ...]:
        from emulation.ec2 import api as ec2

        subnets = [subnet for subnet, _ in group.subnets]
        try:
            return ec2.resolve_task_network(account, region, subnets, group_ids).security_group_ids
        except InvalidNetworkConfiguration as problem:
            named = ", ".join(group_ids)
            raise invalid_value(f"Invalid security group , groupId= {named}, groupName=. {problem}") from None


def _rule(kept: rds.KeptRule) -> Rule:
    _, protocol, from_port, to_port, peer = kept
    return Rule(protocol, from_port, to_port, IPv4Network(peer) if "/" in peer else peer)


class CacheNetwork:
    """What ElastiCache needs of EC2 and the network: interfaces, endpoints, the place of new caches."""

    def __init__(self, api: ApiThread, network: Network, groups: SecurityGroupTable) -> None:
        self._api, self._network, self._groups = api, network, groups

    async def attach(
        self,
        facts: elasticache.Facts,
        node_id: str,
        subnet_id: str,
        groups: Sequence[str],
        rules: Sequence[elasticache.KeptRule],
    ) -> Placement:
        for group in groups:
            if not self._groups.ingress(group):  # EC2's record of it went with the emulator that was there before
                self._groups.put(group, tuple(_rule(kept) for kept in rules if kept[0] == group), ())
        made = await self._api.call(self._attach, facts, node_id, subnet_id, tuple(groups))
        return Placement(made.interface.vpc_id, tuple(groups), made.interface.private_ip, made.interface.eni_id)

    @staticmethod
    def _attach(facts: elasticache.Facts, node_id: str, subnet_id: str, groups: tuple[str, ...]) -> TaskInterface:
        from emulation.ec2 import api as ec2

        description = f"ElastiCache {node_id}"
        try:
            return ec2.create_task_interface(facts.account, facts.region, subnet_id, groups, description=description)
        except InvalidNetworkConfiguration:
            # The VPC is gone with an earlier emulator; the cache is in the default one now.
            subnet_id, _ = ec2.subnets_of_service(facts.account, facts.region)[0]
            return ec2.create_task_interface(facts.account, facts.region, subnet_id, (), description=description)

    async def set_groups(self, facts: elasticache.Facts, placement: Placement, groups: Sequence[str]) -> Placement:
        from emulation.ec2 import api as ec2

        await self._api.call(ec2.set_interface_groups, facts.account, facts.region, placement.eni_id, tuple(groups))
        return replace(placement, security_groups=tuple(groups))

    async def release(self, facts: elasticache.Facts, placement: Placement) -> None:
        from emulation.ec2 import api as ec2

        await self._api.call(ec2.delete_task_interface, facts.account, facts.region, placement.eni_id)

    def endpoint(self, port: int, wish: IPv4Address | None) -> Endpoint:
        return Endpoint(self._network, port, wish)

    def rules(self, groups: Sequence[str]) -> tuple[elasticache.KeptRule, ...]:
        return _kept(self._groups, groups)

    def locate(self, account: str, region: str, subnets: Sequence[str], groups: Sequence[str]) -> Location:
        from emulation.ec2 import api as ec2

        found = ec2.subnets_of_service(account, region, subnets)
        network = ec2.resolve_task_network(account, region, [subnet for subnet, _ in found], groups)
        return Location(network.vpc_id, found, network.security_group_ids)


def _kept(table: SecurityGroupTable, groups: Sequence[str]) -> tuple[rds.KeptRule, ...]:
    return tuple(
        (group, rule.protocol, rule.from_port, rule.to_port, str(rule.peer))
        for group in groups
        for rule in table.ingress(group)
    )


class MasterSecrets:
    """Secrets of master users, in Secrets Manager. On the API thread."""

    def create(self, facts: rds.Facts, password: str, kms_key_id: str) -> rds.Secret:
        from emulation.secretsmanager import api as secretsmanager

        arn, key = secretsmanager.create_managed_secret(
            facts.account,
            facts.region,
            "rds",
            f"rds!db-{uuid.uuid4()}",
            _credentials(facts, password),
            f"The secret associated with the primary RDS DB instance: {facts.arn}",
            kms_key_id,
            f"aws:rds:primaryDBInstanceArn={facts.arn}",
        )
        return rds.Secret(arn, key)

    def put(self, facts: rds.Facts, secret: rds.Secret, password: str) -> None:
        from emulation.secretsmanager import api as secretsmanager

        secretsmanager.put_secret_value(facts.account, facts.region, secret.arn, _credentials(facts, password))

    def delete(self, facts: rds.Facts, secret: rds.Secret) -> None:
        from emulation.secretsmanager import api as secretsmanager

        secretsmanager.delete_secret(facts.account, facts.region, secret.arn)


def _credentials(facts: rds.Facts, password: str) -> str:
    return json.dumps({"username": facts.master_username, "password": password})


AWS_ADDRESS = IPv4Address(ADDRESS)
"""Where the programs in a task reach the emulator: task metadata and credentials on port 80, the AWS API on its own."""


def container_environment(port: int) -> Mapping[str, str]:
    """What every container gets, beyond what Fargate gives it."""
    # Emulation: AWS_ENDPOINT_URL leads AWS's SDKs here; on AWS there is no such variable.
    return {"AWS_ENDPOINT_URL": f"http://{AWS_ADDRESS}:{port}", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
