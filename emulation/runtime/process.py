"""The process runtime: containers as processes in namespaces of their own, without a daemon and without root.

Theory of operation: `sandbox.agent` describes the processes, `sandbox.task` what is done for a task. Nothing that a
task makes outlives the emulator: when that is killed, the kernel ends all agents, and with them everything in their
PID namespaces; folders are removed by the next start with the same folder, control groups by any.

Root's containers have user ids that nobody else on the host has, so that root inside is nobody outside. An ordinary
user's containers have one id, their own, which looks like whatever user the image asks for.

Emulation: no seccomp profile; no_new_privs is always set, so sudo and set-user-ID programs gain nothing; no raw
sockets (ping works without); /sys/fs/cgroup is empty, so programs that size themselves by it see the whole machine; a
container's `cpus` is a limit, not a share; IPv6 is off. For an ordinary user, changing a file's owner has no effect,
and a program that changes its own user (su, gosu) fails.
"""

import asyncio
import contextlib
import hashlib
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import ClassVar

from emulation.clock import Clock
from emulation.errors import RuntimeUnavailable
from emulation.images.source import ImageSource
from emulation.runtime.base import PulledImage, TaskSpec
from emulation.runtime.runs import ended, new_run
from emulation.runtime.sandbox.cgroups import Group, Hierarchy
from emulation.runtime.sandbox.forkserver import ForkServer
from emulation.runtime.sandbox.probe import Findings, explain, probe, read_sysctl
from emulation.runtime.sandbox.rootfs import Folder, Images
from emulation.runtime.sandbox.task import Machine, NetworkPort, ProcessTask

log = logging.getLogger(__name__)

_GROUP = "sunabox-process-"

Probe = Callable[[ForkServer, Path], Awaitable[Findings]]


class ProcessRuntime:
    """A Runtime. `folder` is its own: unpacked images are kept there for the next start, what tasks wrote is not.

    `probe` and `sysctl` are for tests: what the machine is found to be able to do, and its kernel settings.
    """

    name: ClassVar[str] = "process"

    def __init__(
        self,
        *,
        clock: Clock,
        images: ImageSource,
        network: NetworkPort,
        folder: Path,
        probe: Probe = probe,
        sysctl: Callable[[str], str] = read_sysctl,
    ) -> None:
        self._clock, self._source, self._network = clock, images, network
        self._folder = Folder(folder.absolute())
        self._probe, self._sysctl = probe, sysctl
        self._forkserver: ForkServer | None = None
        self._machine: Machine | None = None
        self._tasks: set[ProcessTask] = set()
        self._numbers = count(1)
        self._closed = False

    async def start(self) -> None:
        self._folder.open()
        _allow_descriptors()
        try:
            self._forkserver = ForkServer(self._folder.path)
            findings = await self._probe(self._forkserver, self._folder.path)
            verdict = explain(findings, self._sysctl)
            if verdict.missing or findings.ids is None:
                raise RuntimeUnavailable(" ".join(verdict.missing))
            for warning in verdict.warnings:
                log.warning("%s", warning)
            if findings.hierarchy is not None:
                for group in leftovers(findings.hierarchy, self._folder.path):
                    await group.remove()
        except BaseException:
            await self.close()
            raise
        self._machine = Machine(
            clock=self._clock,
            network=self._network,
            images=Images(self._source, self._folder.images, findings.ids),
            forkserver=self._forkserver,
            folder=self._folder.path,
            ids=findings.ids,
            overlay=not findings.overlay,
            namespaced=not findings.network,
            hierarchy=findings.hierarchy,
            group_prefix=f"{_GROUP}{_hash(self._folder.path)}-{new_run()}-",
            allot_port=_free_port,
        )

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(task.close() for task in tuple(self._tasks)))
        if self._forkserver is not None:
            await self._forkserver.close()
            self._forkserver = None
        self._folder.close()

    async def pull(self, reference: str, account: str) -> PulledImage:
        with self._clock.working(f"image {reference} is pulled"):
            return await self._started().images.pull(reference, account)

    async def create_task(self, spec: TaskSpec) -> ProcessTask:
        """Raises what the network raises, and RuntimeUnavailable where the machine refuses new namespaces by now."""
        with self._clock.working(f"task {spec.task_id} starts"):
            task = ProcessTask(spec, self._started(), next(self._numbers), self._tasks.discard)
            self._tasks.add(task)
            await task.open()
        return task

    def _started(self) -> Machine:
        if self._machine is None or self._closed:
            raise RuntimeUnavailable("The process runtime is not running. Start it first.")
        return self._machine


def leftovers(hierarchy: Hierarchy, folder: Path) -> list[Group]:
    """The control groups of runtimes whose process has ended, or that had `folder`, which is this runtime's by now."""
    found = []
    for group in hierarchy.leftovers(_GROUP):
        owner, _, rest = group.folders[0].name.removeprefix(_GROUP).partition("-")
        if owner == _hash(folder) or ended("-".join(rest.split("-")[:4])):
            found.append(group)
    return found


def _hash(folder: Path) -> str:
    return hashlib.sha256(bytes(folder)).hexdigest()[:12]


def _allow_descriptors() -> None:
    """Each task needs about ten; the usual soft limit of 1,024 is for programs that call select()."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _free_port() -> int:
    """A port of the host that is free now. Somebody else could take it before the program does; nobody tries to."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
