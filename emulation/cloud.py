"""Cloud: the composition root. It makes every part, wires them to each other, and starts and stops them in order."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from emulation.clock import SystemClock, Timeline, VirtualClock
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Bus
from emulation.ec2.groups import SecurityGroupTable
from emulation.ec2.loading import lighten_import
from emulation.ecr.registry import Registry
from emulation.ecr.service import Ecr
from emulation.ecr.source import EcrImages
from emulation.ecr.store import EcrStore
from emulation.ecs.agent import TaskAgent
from emulation.ecs.credentials import CredentialStore
from emulation.ecs.engine import EcsEngine
from emulation.ecs.metadata_app import MetadataApp
from emulation.ecs.surroundings import Surroundings
from emulation.elasticache.embedded import EmbeddedServers as EmbeddedCaches
from emulation.elasticache.engine import ElastiCacheEngine
from emulation.elasticache.servers import CacheServers, NoServers
from emulation.elasticache.surroundings import Surroundings as ElastiCacheSurroundings
from emulation.elbv2.engine import LoadBalancing
from emulation.errors import SunaboxError
from emulation.folders import claim
from emulation.gateway import seams
from emulation.gateway.aws_api import AwsApi
from emulation.gateway.control import ControlApp
from emulation.gateway.server import Router, Server
from emulation.images.library import Library
from emulation.logs.driver import AwslogsDriver
from emulation.network.destination import Destination
from emulation.network.network import Network
from emulation.rds.certificates import Authority
from emulation.rds.embedded import EmbeddedServers
from emulation.rds.engine import RdsEngine
from emulation.rds.servers import DatabaseServers
from emulation.rds.store import Store as DatabaseStore
from emulation.rds.surroundings import Surroundings as RdsSurroundings
from emulation.runtime.base import Runtime
from emulation.runtime.choice import NAMES as RUNTIMES
from emulation.runtime.choice import start_runtime
from emulation.wiring import (
    AWS_ADDRESS,
    AssumeRole,
    CacheNetwork,
    Checks,
    Databases,
    Images,
    MasterSecrets,
    TaskInterfaces,
    TaskSecrets,
    container_environment,
)
from emulation.wiring_elbv2 import EcsTargetGroups, LoadBalancerVpc, make_load_balancing
from emulation.wiring_why import Why

log = logging.getLogger(__name__)

_LIFECYCLE_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class CloudOptions:
    """`port` 0 picks a free one. `data_dir` None means a temporary folder that goes away with the cloud.

    `library` holds the machine's local images (`sunabox image ls`); None means the user's own.
    """

    host: str = "127.0.0.1"
    port: int = 4566
    runtime: str = "auto"
    speed: float = 1.0
    virtual_clock: bool = False
    data_dir: Path | None = None
    library: Path | None = None


class Cloud:
    """An AWS account on this machine. One at a time in a process: moto keeps its state in the process.

    `on_shutdown` is called when the control API is asked to end the program; None where there is nothing to end.
    """

    def __init__(self, options: CloudOptions | None = None, on_shutdown: Callable[[], None] | None = None) -> None:
        self.options = options or CloudOptions()
        if self.options.runtime not in RUNTIMES:
            raise SunaboxError(f"There is no runtime {self.options.runtime!r}. There are: {', '.join(RUNTIMES)}.")
        self.on_shutdown = on_shutdown
        self.clock: Timeline = VirtualClock() if self.options.virtual_clock else SystemClock(self.options.speed)
        self.runtime: Runtime
        self.endpoint_url = ""
        self._ecs: EcsEngine | None = None
        self._rds: RdsEngine | None = None
        self._balancing: LoadBalancing | None = None
        self._balancer_vpc: LoadBalancerVpc
        self._elasticache: ElastiCacheEngine | None = None
        self._why: Why
        self._exit = AsyncExitStack()

    def status(self) -> dict[str, object]:
        return {"tasks": self._ecs.running if self._ecs is not None else 0}

    async def why(self, subject: str) -> list[str]:
        """In sentences, what is wrong with a task, a service or a target; empty where there is none of that name."""
        return [str(answer) for answer in await self._why.about(subject)]

    def rds_certificates(self) -> bytes:
        """The root certificate of RDS, in PEM: what clients need to verify a database's."""
        assert self._rds is not None, "requests are served once everything is wired"
        return self._rds.surroundings.authority.bundle().read_bytes()

    async def start(self) -> None:
        """Returns when the gateway serves. Raises SunaboxError; nothing is left behind then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops everything, newest first. Idempotent."""
        await self._exit.aclose()

    async def _start(self) -> None:
        options, stack = self.options, self._exit
        server = Server(options.host, options.port)
        stack.push_async_callback(server.stop)
        host, port = server.bind()
        door_of_tasks = server.bind_for_tasks()
        self.endpoint_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        folder = claim(options.data_dir)
        stack.callback(folder.release)

        api = ApiThread()
        stack.callback(api.close)
        await api.start()
        self.clock.settled.append(lambda: api.call(lambda: None))
        bus = Bus(self.clock)
        stack.push_async_callback(bus.close)

        groups = SecurityGroupTable()
        network = Network(groups, self.clock)
        stack.push_async_callback(network.close)
        ecr = Ecr(EcrStore(folder.path / "ecr"), self.clock, f"{host}:{port}")
        stack.callback(ecr.store.close)
        aws = AwsApi(api)
        loading = asyncio.ensure_future(api.call(self._load, api, aws, groups, network, ecr))  # while the rest starts
        stack.callback(loading.cancel)
        self.runtime = await start_runtime(
            options.runtime,
            clock=self.clock,
            images=Images(EcrImages(ecr, api), Library(options.library)),
            network=network,
            folder=folder.path / "runtime",
        )
        stack.push_async_callback(self.runtime.close)

        self._rds = self._make_rds(api, network, groups, bus, folder.path)
        stack.push_async_callback(self._rds.close)
        self._elasticache = self._make_elasticache(api, network, groups, bus, folder.path)
        stack.push_async_callback(self._elasticache.close)
        self._balancing = make_load_balancing(api, self.clock, network, folder.path / "elbv2")
        self._balancer_vpc = LoadBalancerVpc(network)
        self._why = Why(api, network, groups, self._balancing)
        stack.push_async_callback(self._balancing.close)
        logs = AwslogsDriver(api, self.clock)
        stack.push_async_callback(logs.close)
        agent = TaskAgent(CredentialStore(self.clock, AssumeRole(api)))
        self._ecs = EcsEngine(
            api,
            self.clock,
            Surroundings(
                runtime=self.runtime,
                interfaces=TaskInterfaces(api, network),
                logs=logs,
                secrets=TaskSecrets(api),
                agent=agent,
                bus=bus,
                environment=container_environment(port),
                target_groups=EcsTargetGroups(api, self._balancing),
            ),
        )
        stack.push_async_callback(self._ecs.close)
        for inside in (80, port):
            await network.announce(Destination(AWS_ADDRESS, inside, door_of_tasks))

        registry, metadata = Registry(ecr, api), MetadataApp(agent)
        await server.start(
            Router(aws, ControlApp(self), registry, metadata),
            for_tasks=Router(aws, ControlApp(self, read_only=True), registry, metadata),
        )
        stack.push_async_callback(server.stop)  # the first thing to stop: nothing new comes in while the rest ends
        await loading
        await self._restore_databases(api)
        await self._restore_caches(api)
        self._every(_LIFECYCLE_EVERY, lambda: api.call(ecr.apply_lifecycle, self.clock.now()))

    def _load(self, api: ApiThread, aws: AwsApi, groups: SecurityGroupTable, network: Network, ecr: Ecr) -> None:
        """On the API thread: binds moto, and says how each service's seam is put in place when it is first used."""

        def install_ec2() -> None:
            from emulation.ec2 import api as ec2

            ec2.install(groups, lambda: api.post(network.refresh_soon))

        def install_ecr() -> None:
            from emulation.ecr import api as ecr_api

            ecr_api.install(ecr)

        def install_ecs() -> None:
            from emulation.ecs import api as ecs_api

            assert self._ecs is not None, "requests are served once everything is wired"
            ecs_api.install(api, self.clock, self._ecs, Checks())

        def install_rds() -> None:
            from emulation.rds import api as rds_api

            assert self._rds is not None, "requests are served once everything is wired"
            rds_api.install(api, self.clock, self._rds)

        def install_elasticache() -> None:
            from emulation.elasticache import api as elasticache_api

            assert self._elasticache is not None, "requests are served once everything is wired"
            elasticache_api.install(api, self.clock, self._elasticache)

        def install_elbv2() -> None:
            from emulation.elbv2 import api as elbv2_api

            assert self._balancing is not None, "requests are served once everything is wired"
            elbv2_api.install(api, self._balancing, self._balancer_vpc)

        def install_secretsmanager() -> None:
            from emulation.secretsmanager import api as secretsmanager_api

            def rotate(account: str, region: str, arn: str) -> None:
                from emulation.rds import api as rds_api

                rds_api.rotate(account, region, arn)

            secretsmanager_api.install({"rds": rotate})

        def install_logs() -> None:
            from emulation.logs import api as logs_api

            logs_api.install(self.clock.now)

        lighten_import()
        installers = {
            "ec2": install_ec2,
            "ecr": install_ecr,
            "ecs": install_ecs,
            "elasticache": install_elasticache,
            "elb": install_elbv2,  # moto serves both at one address
            "elbv2": install_elbv2,
            "logs": install_logs,
            "rds": install_rds,
            "secretsmanager": install_secretsmanager,
        }
        seams.install(self.clock, installers)
        aws.load()

    def _make_rds(
        self, api: ApiThread, network: Network, groups: SecurityGroupTable, bus: Bus, folder: Path
    ) -> RdsEngine:
        databases = Databases(api, network, groups)
        return RdsEngine(
            api,
            self.clock,
            RdsSurroundings(
                servers=self._database_servers(network),
                interfaces=databases,
                networks=databases,
                secrets=MasterSecrets(),
                store=DatabaseStore(folder / "rds"),
                authority=Authority(folder / "certificates"),
                bus=bus,
            ),
        )

    def _make_elasticache(
        self, api: ApiThread, network: Network, groups: SecurityGroupTable, bus: Bus, folder: Path
    ) -> ElastiCacheEngine:
        caches = CacheNetwork(api, network, groups)
        authority = Authority(folder / "certificates")  # the same root as that of RDS
        return ElastiCacheEngine(
            api,
            self.clock,
            ElastiCacheSurroundings(
                servers=self._cache_servers(network, authority),
                interfaces=caches,
                networks=caches,
                bus=bus,
                folder=folder / "elasticache",
                durable=self.options.data_dir is not None,
            ),
        )

    def _servers_are_containers(self) -> bool:
        """Without Testcontainers, the docker runtime has the servers of the process runtime."""
        return self.runtime.name == "docker" and find_spec("testcontainers") is not None

    def _database_servers(self, network: Network) -> DatabaseServers | None:
        addresses = network.allocate_public_address, network.release_public_address
        if self.runtime.name == "memory":
            return None
        if self._servers_are_containers():
            from emulation.rds.testcontainer import ContainerServers

            return ContainerServers(*addresses, labels=self._labels(), library=Library(self.options.library))
        if self.runtime.name == "docker":
            log.warning("Databases and caches run as processes. For containers: pip install 'sunabox[docker]'")
        return EmbeddedServers(*addresses)

    def _cache_servers(self, network: Network, authority: Authority) -> CacheServers:
        addresses = network.allocate_public_address, network.release_public_address
        if self.runtime.name == "memory":
            return NoServers("the memory runtime has no cache servers. Run Sunabox with --runtime process.")
        if self._servers_are_containers():
            from emulation.elasticache.testcontainer import ContainerServers

            library = Library(self.options.library)
            return ContainerServers(*addresses, authority, labels=self._labels(), library=library)
        return EmbeddedCaches(*addresses, authority)

    def _labels(self) -> Mapping[str, str]:
        from emulation.runtime.docker import DockerRuntime

        assert isinstance(self.runtime, DockerRuntime), "it is asked for on docker only"
        return self.runtime.labels

    async def _restore_caches(self, api: ApiThread) -> None:
        """The same for caches."""

        def restore(account: str, region: str) -> None:
            from emulation.elasticache import api as elasticache_api

            elasticache_api.restore(account, region)

        if self._elasticache is not None:
            for account, region in self._elasticache.files.regions():
                await api.call(restore, account, region)

    async def _restore_databases(self, api: ApiThread) -> None:
        """Databases that an earlier emulator left in the data folder serve again, before somebody asks for them."""

        def restore(account: str, region: str) -> None:
            from emulation.rds import api as rds_api

            rds_api.restore(account, region)

        if self._rds is not None:
            for account, region in self._rds.surroundings.store.accounts():
                await api.call(restore, account, region)

    def _every(self, interval: timedelta, work: Callable[[], object]) -> None:
        async def repeat() -> None:
            while True:
                await self.clock.sleep(interval, exact=False)
                with self.clock.working("housekeeping"):
                    result = work()
                    if asyncio.iscoroutine(result):
                        await result

        task = asyncio.get_running_loop().create_task(repeat(), name="housekeeping")
        self._exit.callback(task.cancel)
