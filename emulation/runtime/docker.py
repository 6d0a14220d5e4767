"""The docker runtime: containers of a Docker daemon on this machine. See `dockerd` for how a task is made of them.

Emulation: a killed emulator's containers live until the next start, which removes them (the process runtime's end with
it). While the daemon is restarted with `live-restore`, lines that containers print are lost.
"""

import asyncio
import logging
import os
import resource
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from emulation.clock import Clock
from emulation.errors import RuntimeUnavailable
from emulation.images.source import ImageSource
from emulation.runtime.base import PulledImage, TaskSpec
from emulation.runtime.dockerd import address, configuration, limits, ownership
from emulation.runtime.dockerd.daemon import Daemon, DaemonError, DaemonGone
from emulation.runtime.dockerd.images import DockerImages
from emulation.runtime.dockerd.ownership import Owner
from emulation.runtime.dockerd.routers import Routers
from emulation.runtime.dockerd.task import DockerTask, Machine, private_namespace
from emulation.runtime.runs import ended
from emulation.runtime.sandbox.forkserver import AgentFailed
from emulation.runtime.sandbox.rootfs import Folder
from emulation.runtime.sandbox.task import MTU, NetworkPort

log = logging.getLogger(__name__)

_TRIAL = {"eni": "10.255.255.2", "gateway": "10.255.255.1", "mtu": MTU}


class DockerRuntime:
    """A Runtime. `folder` is its own; `url` is the daemon's, $DOCKER_HOST's unless given."""

    name: ClassVar[str] = "docker"

    def __init__(
        self, *, clock: Clock, images: ImageSource, network: NetworkPort, folder: Path, url: str | None = None
    ) -> None:
        self._clock, self._source, self._network = clock, images, network
        self._folder = Folder(folder.absolute())
        self._url = address.daemon_url() if url is None else url
        self._owner = Owner(self._folder.path)
        self._daemon: Daemon | None = None
        self._images: DockerImages | None = None
        self._routers: Routers | None = None
        self._machine: Machine | None = None
        self._tasks: set[DockerTask] = set()
        self._numbers = count(1)
        self._closed = False

    @property
    def labels(self) -> Mapping[str, str]:
        """What everything in the daemon carries, by which the next start finds it if this emulator is killed."""
        return self._owner.labels

    async def start(self) -> None:
        """Raises RuntimeUnavailable: no daemon, one that is elsewhere, no root, or no way into its containers."""
        if obstacle := address.obstacle(self._url):
            raise RuntimeUnavailable(obstacle)
        self._folder.open()
        try:
            await self._start(Daemon(address.socket_path(self._url) or ""))
        except (DaemonError, DaemonGone) as error:
            await self.close()
            raise RuntimeUnavailable(f"{error} Start it, set DOCKER_HOST, or use --runtime process.") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(task.close() for task in tuple(self._tasks)))
        if self._routers is not None:
            await self._routers.close()
            self._routers = None
        if self._images is not None:
            try:
                await self._images.close()
            except (DaemonError, DaemonGone) as error:
                log.warning("Images could not be removed from the Docker daemon: the next start does. %s", error)
            self._images = None
        if self._daemon is not None:
            await self._daemon.close()
            self._daemon = None
        self._folder.close()

    async def pull(self, reference: str, account: str) -> PulledImage:
        with self._clock.working(f"image {reference} is pulled"):
            return await self._started().images.pull(reference, account)

    async def create_task(self, spec: TaskSpec) -> DockerTask:
        """Raises what the network raises, and RuntimeUnavailable where the daemon does not answer any more."""
        with self._clock.working(f"task {spec.task_id} starts"):
            task = DockerTask(spec, self._started(), next(self._numbers), self._tasks.discard)
            self._tasks.add(task)
            await task.open()
        return task

    def _started(self) -> Machine:
        if self._machine is None or self._closed:
            raise RuntimeUnavailable("The docker runtime is not running. Start it first.")
        return self._machine

    async def _start(self, daemon: Daemon) -> None:
        self._daemon = daemon
        info = await daemon.connect()
        self._refuse(info)
        hierarchy = limits.hierarchy(info)
        await self._clean_up(daemon)
        for group in limits.leftovers(hierarchy):
            await group.remove()
        self._images = DockerImages(daemon, self._source, self._owner)
        self._routers = Routers()
        machine = Machine(
            clock=self._clock,
            network=self._network,
            daemon=daemon,
            images=self._images,
            routers=self._routers,
            owner=self._owner,
            pause_image=await self._images.load_pause(),
            hierarchy=hierarchy,
            processors=int(info["NCPU"]),
            open_files=0,
        )
        self._machine = replace(machine, open_files=await self._try_out(machine))

    def _refuse(self, info: Mapping[str, Any]) -> None:
        if info.get("OSType") != "linux":
            raise RuntimeUnavailable(f"The Docker daemon runs {info.get('OSType')} containers; Linux ones are needed.")
        if any("name=rootless" in option for option in info.get("SecurityOptions") or ()):
            raise RuntimeUnavailable(
                "The Docker daemon runs without root, so its containers' networks cannot be connected. Set DOCKER_HOST "
                "to one that root runs, or use --runtime process."
            )

    async def _clean_up(self, daemon: Daemon) -> None:
        """Removes what killed emulators left, and nothing of one that lives."""
        for identity, labels in await daemon.containers(ownership.RUN):
            if self._owner.inherits(labels):
                await daemon.remove(identity)
        for name, labels in await daemon.volumes(ownership.RUN):
            if self._owner.inherits(labels):
                await daemon.remove_volume(name)
        for name in await daemon.image_names(ownership.REPOSITORY):
            if ended(name.removeprefix(ownership.REPOSITORY).partition(":")[0]):
                await daemon.untag(name)

    async def _try_out(self, machine: Machine) -> int:
        """Makes a task's network once, so that a machine which cannot do it is told now and not by the first task.

        Returns how many files the daemon's containers may have open.
        """
        daemon = machine.daemon
        settings = configuration.pause(machine.pause_image, "trial", self._owner.labels)
        pause = await daemon.create(settings)
        try:
            await daemon.start(pause)
            namespace = await private_namespace(daemon, pause)
            try:
                router = await machine.routers.spawn(namespace, _TRIAL)
            finally:
                os.close(namespace)
            await router.close()
            return resource.prlimit(int((await daemon.state(pause))["Pid"]), resource.RLIMIT_NOFILE)[1]
        except AgentFailed as error:
            raise RuntimeUnavailable(
                f"The docker runtime cannot connect containers on this machine ({error}). It needs the kernel module "
                "veth and policy routing (CONFIG_IP_MULTIPLE_TABLES)."
            ) from error
        finally:
            await daemon.remove(pause)
