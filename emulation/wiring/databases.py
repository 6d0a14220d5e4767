"""Amazon RDS, with what it needs of EC2, the network and Secrets Manager."""

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from emulation.ec2.interface import InvalidNetworkConfiguration, TaskInterface
from emulation.images.library import Library
from emulation.network.endpoint import Endpoint, Placement
from emulation.rds import record as rds
from emulation.rds.certificates import Authority
from emulation.rds.embedded import EmbeddedServers
from emulation.rds.engine import RdsEngine
from emulation.rds.failures import invalid_value
from emulation.rds.servers import DatabaseServers
from emulation.rds.store import Store
from emulation.rds.surroundings import Surroundings
from emulation.wiring.ground import Ground
from emulation.wiring.kept_rules import bring_back, kept_rules

log = logging.getLogger(__name__)


def make_databases(ground: Ground, authority: Authority) -> RdsEngine:
    """On any thread."""
    databases = Databases(ground)
    return RdsEngine(
        ground.api,
        ground.clock,
        Surroundings(
            servers=_servers(ground),
            interfaces=databases,
            networks=databases,
            secrets=MasterSecrets(),
            store=Store(ground.folder / "rds"),
            authority=authority,
            bus=ground.bus,
        ),
    )


async def restore_databases(ground: Ground, engine: RdsEngine) -> None:
    """What an earlier emulator left in the data folder serves again, before somebody asks for it."""

    def restore(account: str, region: str) -> None:
        from emulation.rds import api

        api.restore(account, region)

    for account, region in engine.surroundings.store.accounts():
        await ground.api.call(restore, account, region)


def _servers(ground: Ground) -> DatabaseServers | None:
    addresses = ground.network.allocate_public_address, ground.network.release_public_address
    if ground.runtime.name == "memory":
        return None
    if ground.servers_are_containers:
        from emulation.rds.testcontainer import ContainerServers

        return ContainerServers(*addresses, labels=ground.labels, library=Library(ground.library))
    if ground.runtime.name == "docker":
        log.warning("Databases and caches run as processes. For containers: pip install 'sunabox[docker]'")
    return EmbeddedServers(*addresses)


class Databases:
    """What RDS needs of EC2 and the network: interfaces, endpoints, the default place, security groups."""

    def __init__(self, ground: Ground) -> None:
        self._api, self._network, self._groups = ground.api, ground.network, ground.groups
        self._endpoints: dict[IPv4Address, Endpoint] = {}

    async def attach(self, facts: rds.Facts, security_groups: Sequence[str], before: rds.Place | None) -> rds.Place:
        if before is not None:
            bring_back(self._groups, security_groups, before.rules)
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
        return kept_rules(self._groups, security_groups)

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
