"""A task of the docker runtime: its pause container, its router, its folder, its containers."""

import asyncio
import contextlib
import logging
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any

from emulation.clock import Clock, monotonic, real_sleep
from emulation.errors import ContainerStartError, RuntimeUnavailable
from emulation.runtime.base import ContainerSpec, Mount, Output, TaskSpec
from emulation.runtime.dockerd import configuration, ownership
from emulation.runtime.dockerd.container import DockerContainer, Process
from emulation.runtime.dockerd.daemon import Daemon, DaemonError, DaemonGone
from emulation.runtime.dockerd.images import DockerImages
from emulation.runtime.dockerd.limits import make_group
from emulation.runtime.dockerd.ownership import Owner
from emulation.runtime.dockerd.routers import RouterProcess, Routers, network_namespace
from emulation.runtime.sandbox import settings as words
from emulation.runtime.sandbox.cgroups import Group, Hierarchy
from emulation.runtime.sandbox.forkserver import AgentFailed
from emulation.runtime.sandbox.plumbing import NamespacePlumbing
from emulation.runtime.sandbox.rootfs import remove_tree, rewrite
from emulation.runtime.sandbox.task import MTU, NetworkPort

log = logging.getLogger(__name__)

_MIB = 1 << 20
_RESOLVER = b"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
"""Nobody answers there, at once: names that are not in /etc/hosts fail without a wait."""
_UNSHARE_SECONDS = 10.0
_POLL_SECONDS = 0.001
_LAST_OUTPUT_SECONDS = 10
_REMOVED = "CannotStartContainerError: the task was stopped while it started"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a task uses of the runtime. `processors` and `open_files`: how many the daemon has to give."""

    clock: Clock
    network: NetworkPort
    daemon: Daemon
    images: DockerImages
    routers: Routers
    owner: Owner
    pause_image: str
    hierarchy: Hierarchy | None
    processors: int
    open_files: int


class DockerTask:
    """`on_closed` is called once, when nothing is left of it."""

    def __init__(
        self, spec: TaskSpec, machine: Machine, number: int, on_closed: Callable[["DockerTask"], None]
    ) -> None:
        self._spec, self._machine, self._on_closed = spec, machine, on_closed
        self._name = f"{number}-{re.sub('[^A-Za-z0-9]', '', spec.task_id)[:32]}"
        self._folder = machine.owner.folder / "tasks" / self._name
        self._numbers = count(1)
        self._pause = ""
        self._router: RouterProcess | None = None
        self._plumbing: NamespacePlumbing | None = None
        self._group: Group | None = None
        self._attached = False
        self._made: list[str] = []
        self._volumes: dict[str, asyncio.Task[None]] = {}
        self._containers: list[DockerContainer] = []
        self._starting: set[asyncio.Task[DockerContainer]] = set()
        self._hosts: dict[Path, Mapping[str, IPv4Address]] = {}
        self._names: Mapping[str, IPv4Address] = {}
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def spec(self) -> TaskSpec:
        return self._spec

    async def open(self) -> None:
        """Makes the task's network and has it connected. Leaves nothing behind where it raises."""
        self._opening = asyncio.get_running_loop().create_task(self._open())
        try:
            await asyncio.shield(self._opening)
        except BaseException:
            await self.close()
            raise

    async def start_container(self, spec: ContainerSpec, output: Output) -> DockerContainer:
        if self._closing is not None:
            raise ContainerStartError("CannotStartContainerError: the task is closed")
        # What the daemon has begun cannot be taken back: who is cancelled here leaves it to `close`.
        job = asyncio.get_running_loop().create_task(self._start(spec, output))
        self._starting.add(job)
        job.add_done_callback(self._started)
        return await asyncio.shield(job)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    # The task's own parts

    async def _open(self) -> None:
        spec, machine = self._spec, self._machine
        self._folder.mkdir(mode=0o711)
        name = f"{machine.owner.group_prefix}{self._name.partition('-')[0]}"
        if spec.memory_mib or spec.cpus:
            self._group = make_group(machine.hierarchy, name, (spec.memory_mib or 0) * _MIB)
        if spec.interface is None:
            return
        interface = spec.interface
        try:
            namespace = await self._start_pause()
        except (DaemonError, DaemonGone) as error:
            raise RuntimeUnavailable(f"The task's network namespace could not be made: {error}") from error
        try:
            settings = {"eni": str(interface.private_ip), "gateway": str(interface.gateway), "mtu": MTU}
            self._router = await machine.routers.spawn(namespace, settings)
        except AgentFailed as error:
            raise RuntimeUnavailable(f"The task's network could not be made ({error}).") from error
        finally:
            os.close(namespace)
        channel = self._router.channel
        self._plumbing = NamespacePlumbing(channel, interface.private_ip, interface.gateway, self._write_names)
        await self._plumbing.prepare()
        self._attached = True
        await machine.network.attach(interface, self._plumbing, ports=spec.ports)

    async def _start_pause(self) -> int:
        """Runs the pause container; a descriptor of its network namespace."""
        machine = self._machine
        labels = self._labels("")
        self._pause = await machine.daemon.create(configuration.pause(machine.pause_image, self._spec.hostname, labels))
        self._made.append(self._pause)
        await machine.daemon.start(self._pause)
        return await private_namespace(machine.daemon, self._pause)

    async def _close(self) -> None:
        with self._machine.clock.working(f"task {self._spec.task_id} is removed"):
            if self._opening is not None:
                await asyncio.wait({self._opening})
            if self._starting:
                await asyncio.wait(self._starting)
            if self._attached and self._spec.interface is not None:
                try:
                    await self._machine.network.detach(self._spec.interface.eni_id)
                except Exception:
                    log.exception("The network of %s could not be detached", self._spec.interface.eni_id)
            for container in self._containers:
                await container.signal(9)
            if self._plumbing is not None:
                self._plumbing.close()
            if self._router is not None:
                await self._router.close()
            await self._finish_containers()
            await self._remove()
            if self._group is not None:
                await self._group.remove()
            await asyncio.to_thread(remove_tree, self._folder)
        self._on_closed(self)

    async def _finish_containers(self) -> None:
        """Waits until all output was delivered, but not for ever: who does not take it by then does not get it."""
        ends = {asyncio.ensure_future(container.wait()) for container in self._containers}
        if not ends:
            return
        _, unfinished = await asyncio.wait(ends, timeout=_LAST_OUTPUT_SECONDS)
        if unfinished:
            for container in self._containers:
                container.abandon()
            await asyncio.wait(unfinished)

    async def _remove(self) -> None:
        daemon = self._machine.daemon
        try:
            await asyncio.gather(*(daemon.remove(identity) for identity in self._made))
            await asyncio.gather(*(daemon.remove_volume(name) for name in self._volumes))
        except (DaemonError, DaemonGone) as error:
            log.warning("The containers of task %s could not be removed: the next start does. %s", self._name, error)

    def _labels(self, container: str) -> dict[str, str]:
        labels = {**self._machine.owner.labels, ownership.TASK: self._spec.task_id}
        return {**labels, ownership.CONTAINER: container} if container else labels

    # Containers

    def _started(self, job: "asyncio.Task[DockerContainer]") -> None:
        self._starting.discard(job)
        if not job.cancelled():
            job.exception()  # whoever waited for it has gone, perhaps

    async def _start(self, spec: ContainerSpec, output: Output) -> DockerContainer:
        with self._machine.clock.working(f"container {spec.name} starts"):
            try:
                return await self._start_now(spec, output, next(self._numbers))
            except DaemonGone as error:
                raise ContainerStartError(f"CannotStartContainerError: {error}") from error
            except OSError as error:  # the disk is full
                reason = error.strerror or str(error)
                raise ContainerStartError(
                    f"CannotCreateContainerError: Error response from daemon: {reason}"
                ) from error

    async def _start_now(self, spec: ContainerSpec, output: Output, number: int) -> DockerContainer:
        daemon, task = self._machine.daemon, self._spec
        around = configuration.Surroundings(
            image=self._machine.images.name(spec.image),
            labels=self._labels(spec.name),
            hostname=task.hostname,
            network=f"container:{self._pause}" if self._pause else "host",
            group=f"/{self._group.folders[0].name}" if self._group is not None else "",
            memory_mib=task.memory_mib,
            cpus=None if self._group is not None else task.cpus,
            processors=self._machine.processors,
            open_files=self._machine.open_files,
            mounts=[*self._files(spec, number), *[await self._mount(mount) for mount in spec.mounts]],
        )
        settings = configuration.container(spec, around)
        try:
            identity = await daemon.create(settings)
        except DaemonError as error:
            raise ContainerStartError(f"CannotCreateContainerError: Error response from daemon: {error}") from None
        self._made.append(identity)
        self._stop_if_closing()
        connection = await daemon.attach(identity)
        try:
            await daemon.start(identity)
            state = await daemon.state(identity)
        except DaemonError as error:
            await connection.close()
            raise await self._start_error(identity, str(error)) from None
        except BaseException:
            await connection.close()
            raise
        if self._group is not None and task.cpus:
            self._group.limit_cpus(task.cpus)
        runtime_id = f"{task.task_id}-{zlib.crc32(f'{self._name}/{spec.name}/{number}'.encode()):010d}"
        process = Process(int(state["Pid"]), identity)
        container = DockerContainer(
            spec, runtime_id, identity, process, daemon, connection, output, self._machine.clock
        )
        self._containers.append(container)
        self._stop_if_closing()
        return container

    def _stop_if_closing(self) -> None:
        if self._closing is not None:
            raise ContainerStartError(_REMOVED)

    async def _start_error(self, identity: str, message: str) -> ContainerStartError:
        if self._closing is not None:
            return ContainerStartError(_REMOVED)
        code = int((await self._machine.daemon.state(identity))["ExitCode"])
        await self._machine.daemon.remove(identity)
        self._made.remove(identity)
        return configuration.start_error(message, code or 128)

    def _files(self, spec: ContainerSpec, number: int) -> list[dict[str, Any]]:
        """The container's own /etc/hosts and the like. Where the task shares the host's network, the daemon's."""
        if not self._pause:
            return []
        folder = self._folder / f"c{number}"
        folder.mkdir(mode=0o711)
        contents = {
            "hosts": self._hosts_content(spec.extra_hosts),
            "hostname": f"{self._spec.hostname}\n".encode(),
            "resolv.conf": _RESOLVER,
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o644)
        self._hosts[folder / "hosts"] = spec.extra_hosts
        return [{"Type": "bind", "Source": str(folder / name), "Target": f"/etc/{name}"} for name in contents]

    async def _mount(self, mount: Mount) -> dict[str, Any]:
        settings = {"Target": mount.target, "ReadOnly": mount.read_only}
        if mount.source is not None:
            with contextlib.suppress(FileExistsError):  # Docker makes a folder of the host that is not there
                mount.source.mkdir(parents=True)
            return {"Type": "bind", "Source": str(mount.source.absolute()), **settings}
        plain = re.sub("[^A-Za-z0-9_.-]", "_", mount.volume)
        name = f"sunabox-{self._machine.owner.run}-{self._name}-{plain}-{zlib.crc32(mount.volume.encode()):08x}"
        if name not in self._volumes:
            making = self._machine.daemon.create_volume(name, self._labels(""))
            self._volumes[name] = asyncio.get_running_loop().create_task(making)
        await asyncio.shield(self._volumes[name])
        return {"Type": "volume", "Source": name, **settings}

    # Names

    def _write_names(self, names: Mapping[str, IPv4Address]) -> None:
        self._names = dict(names)
        for path, extra in self._hosts.items():
            rewrite(path, self._hosts_content(extra))

    def _hosts_content(self, extra: Mapping[str, IPv4Address]) -> bytes:
        interface = self._spec.interface
        address = str(interface.private_ip) if interface is not None else ""
        return words.hosts_file(self._spec.hostname, address, {**self._names, **extra})


async def private_namespace(daemon: Daemon, pause: str) -> int:
    """A descriptor of the network namespace of a pause container, once it has left the host's.

    Raises RuntimeUnavailable where it does not, or is not to be seen from here.
    """
    pid = int((await daemon.state(pause))["Pid"])
    process = Process(pid, pause)
    begun = monotonic()
    try:
        while process.running and monotonic() - begun < _UNSHARE_SECONDS:
            if (namespace := _left(pid)) is not None:
                return namespace
            await real_sleep(_POLL_SECONDS)
    except OSError as error:
        raise RuntimeUnavailable(f"The network namespace of a container cannot be opened: {error}.") from error
    finally:
        process.forget()
    raise RuntimeUnavailable(
        "The processes of the daemon's containers are not to be seen from here. Run Sunabox on the daemon's own "
        "machine and outside of containers (or in one with --privileged --pid=host), or use --runtime process."
    )


def _left(pid: int) -> int | None:
    """A process's network namespace, where it is not that of its parent, the daemon's shim, any more."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, parent = (os.readlink(f"/proc/{one}/ns/net") for one in (pid, fields[1]))
    return network_namespace(pid) if own != parent else None
