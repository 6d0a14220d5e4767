"""Elastic Load Balancing, with what it needs of EC2, the network and CloudWatch, and what ECS needs of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from ipaddress import IPv4Address
from itertools import groupby
from typing import TypeVar

from emulation.core.api_thread import ApiThread
from emulation.ecs.surroundings import TargetHealth as HealthOfTask
from emulation.elbv2.engine import LoadBalancing
from emulation.elbv2.envoy import Envoy
from emulation.elbv2.metrics import NAMESPACE, Datum
from emulation.elbv2.records import Target
from emulation.elbv2.surroundings import Interfaces, Surroundings
from emulation.network.network import Network
from emulation.wiring.ground import Ground

T = TypeVar("T")

_LONGEST_SECONDS = 10


def make_load_balancing(ground: Ground) -> LoadBalancing:
    async def report(data: Sequence[Datum]) -> None:
        await ground.api.call(_report, data, ground.clock.now())

    envoy = Envoy(ground.folder / "elbv2")
    return LoadBalancing(ground.clock, Surroundings(network=ground.network, data_plane=envoy, report=report))


class LoadBalancerVpc:
    """Interfaces and public addresses of load balancers. Made on the event loop, used on the API thread."""

    def __init__(self, network: Network) -> None:
        self._network, self._loop = network, asyncio.get_running_loop()

    def attach(
        self, account: str, region: str, subnets: Sequence[str], security_groups: Sequence[str], description: str
    ) -> Interfaces:
        from emulation.ec2 import api as ec2

        made = [
            ec2.create_task_interface(account, region, subnet, security_groups, description=description)
            for subnet in subnets
        ]
        return Interfaces(tuple(one.interface.eni_id for one in made), tuple(one.interface.private_ip for one in made))

    def detach(self, account: str, region: str, eni_ids: Sequence[str]) -> None:
        from emulation.ec2 import api as ec2

        for eni_id in eni_ids:
            ec2.delete_task_interface(account, region, eni_id)

    def public_address(self) -> IPv4Address:
        return self._on_loop(self._network.allocate_public_address)

    def release_public_address(self, address: IPv4Address) -> None:
        self._on_loop(lambda: self._network.release_public_address(address))

    def published_port(self, port: int) -> int:
        return self._on_loop(lambda: self._network.published_port(port))

    def _on_loop(self, function: Callable[[], T]) -> T:
        """The network belongs to the event loop, which never waits for the API thread without going on."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as problem:
                done.set_exception(problem)

        self._loop.call_soon_threadsafe(run)
        return done.result(_LONGEST_SECONDS)


class EcsTargetGroups:
    """The target groups of ECS services' tasks. `TargetGroups` of `ecs/surroundings.py`."""

    def __init__(self, api: ApiThread, balancing: LoadBalancing) -> None:
        self._api, self._balancing = api, balancing

    async def register(self, target_group_arn: str, ip: str, port: int) -> None:
        def register() -> None:
            from emulation.elbv2 import api as elbv2

            elbv2.register_target(target_group_arn, ip, port)

        await self._api.call(register)

    async def deregister(self, target_group_arn: str, ip: str, port: int) -> None:
        def deregister() -> None:
            from emulation.elbv2 import api as elbv2

            elbv2.deregister_target(target_group_arn, ip, port)

        await self._api.call(deregister)

    async def deregistered(self, target_group_arn: str, ip: str, port: int) -> None:
        target, gone = Target(ip, port), asyncio.Event()

        def look(arn: str) -> None:
            if arn == target_group_arn and target not in self._balancing.health(arn):
                gone.set()

        unsubscribe = self._balancing.subscribe(look)
        try:
            look(target_group_arn)
            await gone.wait()
        finally:
            unsubscribe()

    def health(self, target_group_arn: str) -> Mapping[tuple[str, int], HealthOfTask]:
        seen = self._balancing.health(target_group_arn)
        return {
            (target.id, target.port): HealthOfTask(str(health.state), health.reason, health.description)
            for target, health in seen.items()
        }

    def attached(self, target_group_arn: str) -> bool:
        return self._balancing.attached(target_group_arn)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self._balancing.subscribe(changed)


def _report(data: Sequence[Datum], now: datetime) -> None:
    """On the API thread."""
    from emulation.cloudwatch.api import StatisticSet, report

    def place(one: Datum) -> tuple[str, str]:
        return one.account, one.region

    for (account, region), of_place in groupby(sorted(data, key=place), place):
        sets = [
            StatisticSet(one.name, one.dimensions, one.unit, now, one.total, one.average, one.average, one.count)
            for one in of_place
        ]
        report(account, region, NAMESPACE, sets)
