"""What the contract suite plays its stories on: a runtime, and programs in its terms (a script, or a command)."""

import asyncio
import gc
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any

from emulation.clock import Clock, SystemClock, real_sleep
from emulation.images.build import build_python_app
from emulation.images.library import Library
from emulation.network.base import Interface, Plumbing
from emulation.runtime.base import (
    Container,
    ContainerSpec,
    Execution,
    Line,
    PulledImage,
    Runtime,
    Stream,
    Task,
    TaskSpec,
)
from emulation.runtime.memory import MemoryRuntime, Script
from emulation.runtime.process import ProcessRuntime

ACCOUNT = "123456789012"


class FakeNetwork:
    """Remembers what the runtime tells the network."""

    def __init__(self) -> None:
        self.plumbing: dict[str, Plumbing] = {}
        self.detached: list[str] = []

    async def attach(self, interface: Interface, plumbing: Plumbing, ports: tuple[int, ...]) -> None:
        self.plumbing[interface.eni_id] = plumbing

    async def detach(self, eni_id: str) -> None:
        self.plumbing.pop(eni_id, None)
        self.detached.append(eni_id)


@dataclass
class Printed:
    """An Output that keeps what it gets."""

    lines: list[Line] = field(default_factory=list)

    async def __call__(self, line: Line) -> None:
        self.lines.append(line)

    def text(self, stream: Stream = Stream.STDOUT) -> list[str]:
        return [line.data.decode() for line in self.lines if line.stream == stream]

    async def until(self, wanted: str) -> None:
        async with asyncio.timeout(10):
            while wanted not in self.text():
                await real_sleep(0.005)


class Stage:
    """A runtime that has been started, and short ways to put something on it."""

    def __init__(self, runtime: Runtime, network: FakeNetwork, image: str) -> None:
        self.runtime, self.network, self._image = runtime, network, image
        self._numbers = count(1)
        self.images: dict[str, PulledImage] = {}

    async def task(self, number: int = 5, **more: Any) -> Task:
        interface = Interface(f"eni-{number}", "vpc-1", IPv4Address(f"10.0.1.{number}"), IPv4Address("10.0.1.1"))
        spec = {"interface": interface, "ports": (7777,), **more}
        return await self.runtime.create_task(TaskSpec(f"task{number}", f"ip-10-0-1-{number}", **spec))

    async def image(self, script: Script | None = None) -> PulledImage:
        """The test image; on the memory runtime one that follows `script`."""
        if isinstance(self.runtime, MemoryRuntime):
            reference = f"scripted:{next(self._numbers)}"
            self.runtime.scripts[reference] = script or Script()
            return await self.runtime.pull(reference, ACCOUNT)
        return await self.runtime.pull(self._image, ACCOUNT)

    async def run(
        self, task: Task, *command: str, script: Script | None = None, output: Printed | None = None, **more: Any
    ) -> Container:
        image = more.pop("image", None) or await self.image(script)
        spec = ContainerSpec(more.pop("name", f"c{next(self._numbers)}"), image, command=command or None, **more)
        return await task.start_container(spec, output if output is not None else Printed())

    async def shell(self, task: Task, text: str, **more: Any) -> tuple[int, list[str]]:
        """Runs a container with a shell command; its exit code and what it printed on either stream."""
        printed = Printed()
        container = await self.run(task, "sh", "-c", text, output=printed, **more)
        return (await container.wait()).code, [line.data.decode() for line in printed.lines]


async def inside(container: Container, *command: str, **more: Any) -> tuple[int, list[str]]:
    """Executes a command in a container; its exit code and what it printed on either stream."""
    printed = Printed()
    execution: Execution = await container.execute(command, printed, **more)
    return await execution.wait(), [line.data.decode() for line in printed.lines]


def build_image(folder: Path) -> None:
    """Makes the library <folder>/library with the image app:1. The folder appears when it is complete."""
    partial = folder.with_suffix(".partial")
    app = partial / "app"
    app.mkdir(parents=True)
    build_python_app(app, library=Library(partial / "library"), names=["app:1"])
    partial.rename(folder)


def children() -> set[int]:
    """This process's children and their descendants, so far as they live."""
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        pid = todo.pop()
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                new = {int(child) for child in (thread / "children").read_text().split()} - found
                found |= new
                todo += new
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def make_runtime(kind: str, library: Library | None, network: FakeNetwork, folder: Path, clock: Clock) -> Runtime:
    if kind == "memory":
        return MemoryRuntime(clock)
    assert library is not None
    if kind == "docker":
        from emulation.runtime.docker import DockerRuntime

        return DockerRuntime(clock=clock, images=library, network=network, folder=folder)
    return ProcessRuntime(clock=clock, images=library, network=network, folder=folder)


Story = Callable[[Stage], Awaitable[None]]


class Theatre:
    """Plays stories, and checks afterwards that the runtime left nothing: processes, descriptors, files."""

    def __init__(self, kind: str, library: Library | None, folder: Path, clock: Clock | None = None) -> None:
        self.kind, self._library, self._folder, self._clock = kind, library, folder, clock

    def __call__(self, story: Story) -> None:
        # What the loop and its threads keep open is opened before the count.
        before = children()
        asyncio.run(self._play(story), debug=False)
        gc.collect()
        assert children() - before == set()

    async def _play(self, story: Story) -> None:
        await asyncio.to_thread(tempfile.gettempdir)
        network = FakeNetwork()
        gc.collect()  # what tests before this one left to the collector is not this one's
        at_first = descriptors()
        runtime = make_runtime(self.kind, self._library, network, self._folder, self._clock or SystemClock())
        await runtime.start()
        try:
            await story(Stage(runtime, network, "app:1"))
        finally:
            await runtime.close()
        assert network.plumbing == {}
        if self.kind != "memory":
            assert os.listdir(self._folder / "tasks") == []
        gc.collect()
        assert descriptors() == at_first


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
