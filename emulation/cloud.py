"""Cloud: the composition root. It makes every part, wires them to each other, and starts and stops them in order."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from emulation.clock import SystemClock, Timeline, VirtualClock
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Bus
from emulation.ec2.groups import SecurityGroupTable
from emulation.ec2.loading import lighten_import
from emulation.ecr.registry import Registry
from emulation.ecr.service import Ecr
from emulation.ecr.source import EcrImages
from emulation.ecr.store import EcrStore
from emulation.ecs.engine import EcsEngine
from emulation.ecs.metadata_app import MetadataApp
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
from emulation.runtime.base import Runtime
from emulation.runtime.choice import NAMES as RUNTIMES
from emulation.runtime.choice import start_runtime
from emulation.wiring.ground import Ground
from emulation.wiring.images import Images
from emulation.wiring.lazy import Lazy
from emulation.wiring.load_balancing import EcsTargetGroups, LoadBalancerVpc, make_load_balancing
from emulation.wiring.seams import Parts, installers
from emulation.wiring.tasks import AWS_ADDRESS, make_agent, make_tasks
from emulation.wiring.why import Why

if TYPE_CHECKING:
    from emulation.elasticache.engine import ElastiCacheEngine
    from emulation.rds.engine import RdsEngine

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
        self._parts: Parts
        self._authority: Authority
        self._why: Why
        self._exit = AsyncExitStack()

    def status(self) -> dict[str, object]:
        return {"tasks": self._parts.ecs.running}

    async def why(self, subject: str) -> list[str]:
        """In sentences, what is wrong with a task, a service or a target; empty where there is none of that name."""
        return [str(answer) for answer in await self._why.about(subject)]

    def rds_certificates(self) -> bytes:
        """The root certificate of RDS, in PEM: what clients need to verify a database's."""
        return self._authority.bundle().read_bytes()

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
        aws = AwsApi(api)
        loading = asyncio.ensure_future(api.call(self._load, aws))  # while the rest starts
        stack.callback(loading.cancel)
        self.clock.settled.append(lambda: api.call(lambda: None))
        bus = Bus(self.clock)
        stack.push_async_callback(bus.close)
        groups = SecurityGroupTable()
        network = Network(groups, self.clock)
        stack.push_async_callback(network.close)
        ecr = Ecr(EcrStore(folder.path / "ecr"), self.clock, f"{host}:{port}")
        stack.callback(ecr.store.close)
        self.runtime = await start_runtime(
            options.runtime,
            clock=self.clock,
            images=Images(EcrImages(ecr, api), Library(options.library)),
            network=network,
            folder=folder.path / "runtime",
        )
        stack.push_async_callback(self.runtime.close)

        durable = options.data_dir is not None
        ground = Ground(api, self.clock, bus, groups, network, self.runtime, folder.path, durable, options.library)
        await self._make_parts(ground, ecr, port)
        for inside in (80, port):
            await network.announce(Destination(AWS_ADDRESS, inside, door_of_tasks))

        await loading
        await api.call(seams.add, installers(ground, self._parts))
        registry, metadata = Registry(ecr, api), MetadataApp(self._parts.agent)
        await server.start(
            Router(aws, ControlApp(self), registry, metadata),
            for_tasks=Router(aws, ControlApp(self, read_only=True), registry, metadata),
        )
        stack.push_async_callback(server.stop)  # the first thing to stop: nothing new comes in while the rest ends
        await self._restore(ground)
        self._every(_LIFECYCLE_EVERY, lambda: api.call(ecr.apply_lifecycle, self.clock.now()))

    async def _make_parts(self, ground: Ground, ecr: Ecr, port: int) -> None:
        stack = self._exit
        self._authority = Authority(ground.folder / "certificates")
        rds = Lazy(lambda: self._make_rds(ground))
        stack.push_async_callback(_close, rds)
        elasticache = Lazy(lambda: self._make_elasticache(ground))
        stack.push_async_callback(_close, elasticache)
        balancing: LoadBalancing = make_load_balancing(ground)
        stack.push_async_callback(balancing.close)
        logs = AwslogsDriver(ground.api, self.clock)
        stack.push_async_callback(logs.close)
        agent = make_agent(ground)
        ecs: EcsEngine = make_tasks(ground, logs, agent, EcsTargetGroups(ground.api, balancing), port)
        stack.push_async_callback(ecs.close)
        self._parts = Parts(ecr, ecs, agent, balancing, LoadBalancerVpc(ground.network), rds, elasticache)
        self._why = Why(ground, balancing)

    def _make_rds(self, ground: Ground) -> "RdsEngine":
        from emulation.wiring.databases import make_databases

        return make_databases(ground, self._authority)

    def _make_elasticache(self, ground: Ground) -> "ElastiCacheEngine":
        from emulation.wiring.caches import make_caches

        return make_caches(ground, self._authority)

    async def _restore(self, ground: Ground) -> None:
        """Databases and caches that an earlier emulator left in the data folder serve again."""
        if (ground.folder / "rds").exists():
            from emulation.wiring.databases import restore_databases

            await restore_databases(ground, self._parts.rds.get())
        if (ground.folder / "elasticache").exists():
            from emulation.wiring.caches import restore_caches

            await restore_caches(ground, self._parts.elasticache.get())

    def _load(self, aws: AwsApi) -> None:
        """On the API thread: imports moto, and binds it to the clock."""
        lighten_import()
        seams.install(self.clock)
        aws.load()

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


class _Closed(Protocol):
    async def close(self) -> None: ...


async def _close(service: Lazy[_Closed]) -> None:
    if service.made is not None:
        await service.made.close()
