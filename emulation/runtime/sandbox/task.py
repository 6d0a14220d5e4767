"""A task of the process runtime: its agent, its folder, its control group, its containers."""

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
from typing import Any, Protocol

from emulation.clock import Clock
from emulation.errors import ContainerStartError, RuntimeUnavailable
from emulation.network.base import Interface, Plumbing
from emulation.runtime.base import ContainerSpec, Mount, Output, TaskSpec
from emulation.runtime.sandbox import settings as words
from emulation.runtime.sandbox import watchdog
from emulation.runtime.sandbox.agent import system
from emulation.runtime.sandbox.cgroups import Group, Hierarchy
from emulation.runtime.sandbox.channel import AgentGone
from emulation.runtime.sandbox.container import ProcessContainer
from emulation.runtime.sandbox.forkserver import AgentFailed, AgentProcess, ForkServer, Ids
from emulation.runtime.sandbox.plumbing import HostPlumbing, NamespacePlumbing
from emulation.runtime.sandbox.program import LaunchReport, Programs
from emulation.runtime.sandbox.rootfs import Images, copy_tree, make_file, make_folder, remove_tree, rewrite

log = logging.getLogger(__name__)

MTU = 65535
_MIB = 1 << 20
_LAST_OUTPUT_SECONDS = 10
_RESOLVER = b"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
"""Nobody answers there, at once: names that are not in /etc/hosts fail without a wait."""


class NetworkPort(Protocol):
    """What the runtime needs of the network: to be told of tasks that begin and end."""

    async def attach(self, interface: Interface, plumbing: Plumbing, ports: tuple[int, ...]) -> None: ...

    async def detach(self, eni_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What a task uses of the runtime, and what the machine can do."""

    clock: Clock
    network: NetworkPort
    images: Images
    forkserver: ForkServer
    folder: Path
    ids: Ids
    overlay: bool
    namespaced: bool
    hierarchy: Hierarchy | None
    group_prefix: str
    allot_port: Callable[[], int]


class ProcessTask:
    """`on_closed` is called once, when nothing is left of it."""

    def __init__(
        self, spec: TaskSpec, machine: Machine, number: int, on_closed: Callable[["ProcessTask"], None]
    ) -> None:
        self._spec, self._machine, self._on_closed = spec, machine, on_closed
        self._name = f"{number}-{re.sub('[^A-Za-z0-9]', '', spec.task_id)[:32]}"
        self._place = Path("tasks") / self._name
        self._folder = machine.folder / self._place
        self._numbers = count(1)
        self._agent: AgentProcess
        self._programs: Programs
        self._plumbing: NamespacePlumbing | HostPlumbing | None = None
        self._group: Group | None = None
        self._containers: list[ProcessContainer] = []
        self._hosts: dict[Path, Mapping[str, IPv4Address]] = {}
        self._names: Mapping[str, IPv4Address] = {}
        self._ports: dict[int, int] = {}
        self._closing: asyncio.Task[None] | None = None
        self._attached = False
        self._opening = asyncio.Lock()
        self._starting = 0
        self._none_starting = asyncio.Event()
        self._none_starting.set()

    @property
    def spec(self) -> TaskSpec:
        return self._spec

    @property
    def _own_network(self) -> bool:
        return self._spec.interface is not None and self._machine.namespaced

    @property
    def _address(self) -> str:
        return str(self._spec.interface.private_ip) if self._spec.interface and self._own_network else ""

    async def open(self) -> None:
        """Makes the task's namespaces and has the network connect them. Leaves nothing behind where it raises."""
        try:
            async with self._opening:
                await self._open()
        except AgentFailed as error:
            await self.close()
            raise RuntimeUnavailable(
                f"The machine has no namespaces left for another task ({error}). Stop some, or raise the limits "
                "user.max_user_namespaces, user.max_net_namespaces and user.max_pid_namespaces (sysctl)."
            ) from None
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        spec, machine = self._spec, self._machine
        self._folder.mkdir(mode=0o711)
        self._folder.chmod(0o711)
        make_folder(self._folder / "volumes", machine.ids, 0o711)
        settings: dict[str, Any] = {}
        if spec.interface is not None and self._own_network:
            settings = {"eni": str(spec.interface.private_ip), "gateway": str(spec.interface.gateway), "mtu": MTU}
        self._group = self._make_group()
        self._agent = await machine.forkserver.spawn(settings, machine.ids)
        self._programs = Programs(self._agent.channel, machine.ids)
        self._agent.on_event = self._programs.exited
        self._agent.on_end = self._programs.agent_gone
        if spec.interface is None:
            return
        if self._own_network:
            channel, interface = self._agent.channel, spec.interface
            self._plumbing = NamespacePlumbing(channel, interface.private_ip, interface.gateway, self._write_names)
            await self._plumbing.prepare()
        else:
            self._ports = {port: machine.allot_port() for port in spec.ports}
            self._plumbing = HostPlumbing(self._ports, self._write_names)
        self._attached = True
        await machine.network.attach(spec.interface, self._plumbing, ports=spec.ports)

    async def start_container(self, spec: ContainerSpec, output: Output) -> ProcessContainer:
        self._starting += 1
        self._none_starting.clear()
        try:
            with self._machine.clock.working(f"container {spec.name} starts"):
                return await self._start(spec, output)
        except OSError as error:  # the disk is full, the control groups are used up
            reason = error.strerror or str(error)
            raise ContainerStartError(f"CannotCreateContainerError: Error response from daemon: {reason}") from error
        finally:
            self._starting -= 1
            if not self._starting:
                self._none_starting.set()

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        async with self._opening:
            await self._remove()
        self._on_closed(self)

    async def _remove(self) -> None:
        with self._machine.clock.working(f"task {self._spec.task_id} is removed"):
            if self._attached and self._spec.interface is not None:
                try:
                    await self._machine.network.detach(self._spec.interface.eni_id)
                except Exception:
                    log.exception("The network of %s could not be detached", self._spec.interface.eni_id)
            if self._plumbing is not None:
                self._plumbing.close()
            if hasattr(self, "_agent"):
                await self._agent.close()
            await self._none_starting.wait()
            if hasattr(self, "_programs"):
                await self._programs.finish(_LAST_OUTPUT_SECONDS)
            for container in self._containers:
                await container.wait()
            if self._group is not None:
                await self._group.remove()
            await asyncio.to_thread(remove_tree, self._folder)

    def _make_group(self) -> Group | None:
        if self._machine.hierarchy is None:
            return None
        group = self._machine.hierarchy.group(f"{self._machine.group_prefix}{self._name}")
        if self._spec.memory_mib:
            group.limit_memory(self._spec.memory_mib * _MIB)
        if self._spec.cpus:
            group.limit_cpus(self._spec.cpus)
        return group

    # Containers

    async def _start(self, spec: ContainerSpec, output: Output) -> ProcessContainer:
        if self._closing is not None or not hasattr(self, "_agent"):
            raise ContainerStartError("CannotStartContainerError: the task is closed")
        number = next(self._numbers)
        argv = words.arguments(spec)
        capabilities = words.capabilities(spec.added_capabilities, spec.dropped_capabilities)
        place = self._place / f"c{number}"
        trees: list[int] = []
        group: Group | None = None
        cgroups: list[int] = []
        try:
            settings = {
                **await self._prepare_folder(spec, place),
                "ids": self._machine.ids.count,
                "argv": argv,
                "environment": {**words.environment(spec, self._spec.hostname), **self._allotted()},
                "cwd": spec.working_directory or spec.image.config.working_directory,
                "create_cwd": True,
                "user": spec.user or spec.image.config.user,
                "capabilities": capabilities,
                "ulimits": [(limit.name, limit.soft, limit.hard) for limit in spec.ulimits],
                "init": spec.init,
                "hostname": self._spec.hostname,
                "read_only": spec.read_only_root,
                "tmpfs": words.tmpfs(spec.tmpfs),
                "mounts": [
                    self._prepare_mount(mount, trees) for mount in (*words.image_volumes(spec, number), *spec.mounts)
                ],
            }
            group = self._container_group(spec, number)
            cgroups = group.open() if group else []
            settings["cgroups"] = len(cgroups)
            program = await self._launch(settings, output, [*cgroups, *trees])
        except BaseException:
            if group is not None:
                await group.remove()
            self._hosts.pop(self._machine.folder / place / "hosts", None)
            raise
        finally:
            for descriptor in (*cgroups, *trees):
                os.close(descriptor)
        runtime_id = f"{self._spec.task_id}-{zlib.crc32(f'{self._name}/{spec.name}/{number}'.encode()):010d}"
        container = ProcessContainer(spec, runtime_id, program, self._programs, settings, group, self._machine.clock)
        self._containers.append(container)
        self._watch_memory(container)
        return container

    async def _launch(self, settings: dict[str, Any], output: Output, descriptors: list[int]) -> Any:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await self._programs.start("run", settings, null, output, descriptors)
        except LaunchReport as report:
            raise words.start_error(report.report) from None
        except AgentGone:
            raise ContainerStartError("CannotStartContainerError: the task was stopped while it started") from None
        finally:
            os.close(null)

    async def _prepare_folder(self, spec: ContainerSpec, place: Path) -> dict[str, Any]:
        """The container's own files. All paths are relative to the runtime's folder, where the agent lives."""
        machine = self._machine
        folder = machine.folder / place
        image = machine.images.root(spec.image)
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
        root = make_folder(folder / "root", machine.ids)
        self._hosts[folder / "hosts"] = spec.extra_hosts
        make_file(folder / "hosts", machine.ids, self._hosts_content(spec.extra_hosts))
        make_file(folder / "hostname", machine.ids, f"{self._spec.hostname}\n".encode())
        resolver = _RESOLVER if self._own_network else Path("/etc/resolv.conf").read_bytes()
        make_file(folder / "resolv.conf", machine.ids, resolver)
        files = [(str(place / name), f"/etc/{name}") for name in ("hosts", "hostname", "resolv.conf")]
        settings: dict[str, Any] = {"root": str(place / "root"), "files": files}
        if machine.overlay:
            layers = {"upper": "upper", "work": "work"}
            for name in layers:
                make_folder(folder / name, machine.ids)
            settings["lower"] = str(image.relative_to(machine.folder))
            settings |= {key: str(place / name) for key, name in layers.items()}
        else:
            await asyncio.to_thread(copy_tree, image, root)
        return settings

    def _prepare_mount(self, mount: Mount, trees: list[int]) -> dict[str, Any]:
        settings = {"target": mount.target, "source": "", "tree": -1, "read_only": mount.read_only, "fresh": False}
        if mount.source is None:
            name = re.sub("[^A-Za-z0-9_.-]", "_", mount.volume).strip(".") or "_"
            settings["fresh"] = not (self._folder / "volumes" / name).exists()
            if settings["fresh"]:
                make_folder(self._folder / "volumes" / name, self._machine.ids)
            settings["source"] = str(self._place / "volumes" / name)
            return settings
        with contextlib.suppress(FileExistsError):  # Docker makes a folder of the host that is not there
            mount.source.mkdir(parents=True)
        if self._machine.ids.single or not self._machine.ids.first:
            settings["source"] = str(mount.source.absolute())
        else:
            trees.append(self._host_tree(mount.source))
            settings["tree"] = len(trees) - 1
        return settings

    def _host_tree(self, source: Path) -> int:
        """A folder of the host as the container's root may see it: with the host's root as the container's."""
        tree = system.open_tree(str(source))
        user_namespace = os.open(f"/proc/{self._agent.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            system.map_ids(tree, user_namespace)
        except OSError as error:
            log.warning("In containers, files in %s belong to nobody: no ids can be mapped there (%s)", source, error)
        finally:
            os.close(user_namespace)
        return tree

    def _allotted(self) -> dict[str, str]:
        """Where the task shares the host's network: PORT is the first declared port, PORT_<n> stands for port n."""
        first = next(iter(self._ports.values()), None)
        return {**({"PORT": str(first)} if first else {}), **{f"PORT_{n}": str(at) for n, at in self._ports.items()}}

    # Limits

    def _container_group(self, spec: ContainerSpec, number: int) -> Group | None:
        if self._machine.hierarchy is None or self._group is None:
            return None
        group = self._machine.hierarchy.group(f"c{number}", self._group)
        if spec.memory_mib:
            group.limit_memory(spec.memory_mib * _MIB)
        if spec.cpus:
            group.limit_cpus(spec.cpus)
        return group

    def _watch_memory(self, container: ProcessContainer) -> None:
        """Emulation: without a control group, the task's limit is watched for each container by itself."""
        limits = [limit for limit in (container.spec.memory_mib, self._spec.memory_mib) if limit]
        if self._machine.hierarchy is not None or not limits:
            return
        pid = watchdog.host_pid(self._agent.pid, container.pid)
        if pid > 0:
            container.watch_memory(lambda: watchdog.exceeds(pid, min(limits) * _MIB))

    # Names

    def _write_names(self, names: Mapping[str, IPv4Address]) -> None:
        self._names = dict(names)
        for path, extra in self._hosts.items():
            rewrite(path, self._hosts_content(extra))

    def _hosts_content(self, extra: Mapping[str, IPv4Address]) -> bytes:
        return words.hosts_file(self._spec.hostname, self._address, {**self._names, **extra})
