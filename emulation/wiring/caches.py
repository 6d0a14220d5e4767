"""Amazon ElastiCache, with what it needs of EC2 and the network."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from emulation.ec2.interface import InvalidNetworkConfiguration, TaskInterface
from emulation.elasticache import record as elasticache
from emulation.elasticache.embedded import EmbeddedServers
from emulation.elasticache.engine import ElastiCacheEngine
from emulation.elasticache.servers import CacheServers, NoServers
from emulation.elasticache.surroundings import Location, Surroundings
from emulation.images.library import Library
from emulation.network.endpoint import Endpoint, Placement
from emulation.rds.certificates import Authority
from emulation.wiring.ground import Ground
from emulation.wiring.kept_rules import bring_back, kept_rules


def make_caches(ground: Ground, authority: Authority) -> ElastiCacheEngine:
    caches = CacheNetwork(ground)
    return ElastiCacheEngine(
        ground.api,
        ground.clock,
        Surroundings(
            servers=_servers(ground, authority),
            interfaces=caches,
            networks=caches,
            bus=ground.bus,
            folder=ground.folder / "elasticache",
            durable=ground.durable,
        ),
    )


async def restore_caches(ground: Ground, engine: ElastiCacheEngine) -> None:
    """What an earlier emulator left in the data folder serves again, before somebody asks for it."""

    def restore(account: str, region: str) -> None:
        from emulation.elasticache import api

        api.restore(account, region)

    for account, region in engine.files.regions():
        await ground.api.call(restore, account, region)


def _servers(ground: Ground, authority: Authority) -> CacheServers:
    addresses = ground.network.allocate_public_address, ground.network.release_public_address
    if ground.runtime.name == "memory":
        return NoServers("the memory runtime has no cache servers. Run Sunabox with --runtime process.")
    if ground.servers_are_containers:
        from emulation.elasticache.testcontainer import ContainerServers

        return ContainerServers(*addresses, authority, labels=ground.labels, library=Library(ground.library))
    return EmbeddedServers(*addresses, authority)


class CacheNetwork:
    """What ElastiCache needs of EC2 and the network: interfaces, endpoints, the place of new caches."""

    def __init__(self, ground: Ground) -> None:
        self._api, self._network, self._groups = ground.api, ground.network, ground.groups

    async def attach(
        self,
        facts: elasticache.Facts,
        node_id: str,
        subnet_id: str,
        groups: Sequence[str],
        rules: Sequence[elasticache.KeptRule],
    ) -> Placement:
        bring_back(self._groups, groups, rules)
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
        return kept_rules(self._groups, groups)

    def locate(self, account: str, region: str, subnets: Sequence[str], groups: Sequence[str]) -> Location:
        from emulation.ec2 import api as ec2

        found = ec2.subnets_of_service(account, region, subnets)
        network = ec2.resolve_task_network(account, region, [subnet for subnet, _ in found], groups)
        return Location(network.vpc_id, found, network.security_group_ids)
