"""The memory runtime: containers are Python objects that follow a script. No processes, no images, no network.

For unit tests, for use as an API only, and for simulations with many thousand tasks. All delays are the clock's.
"""

import asyncio
import hashlib
import signal
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import ClassVar

from emulation.clock import Clock, Timer
from emulation.errors import ContainerStartError, ImageNotFound
from emulation.runtime.base import ContainerSpec, Exit, ImageConfig, Line, Output, PulledImage, Stream, TaskSpec

_KILLED = 128 + signal.SIGKILL
_ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Script:
    """What a container, or a command in one, does.

    `run_for` None: until it is stopped (a command: it ends at once). `exit_with` is its exit code then, `stopped_with`
    the one after a stop signal, which `ignores_stop` makes it ignore. `prints` come right after the start.
    `out_of_memory` ends it by its memory limit instead. `fails_to_start` is what ECS shows as its reason, and
    `commands` are the scripts of commands that are executed in it (default: exit code 0 at once).
    """

    start_after: timedelta = _ZERO
    run_for: timedelta | None = None
    exit_with: int = 0
    stopped_with: int = 128 + signal.SIGTERM
    ignores_stop: bool = False
    prints: tuple[str | Line, ...] = ()
    out_of_memory: bool = False
    fails_to_start: str = ""
    fails_with: int | None = None
    commands: Mapping[tuple[str, ...], "Script"] = field(default_factory=dict)


Scripts = Script | Callable[[ContainerSpec], Script]


class _Run:
    """A script that is being followed."""

    def __init__(self, script: Script, run_for: timedelta | None, output: Output, clock: Clock) -> None:
        self._script, self._clock = script, clock
        self._end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._printing = asyncio.ensure_future(self._print(output)) if script.prints else None
        self._timer: Timer | None = None
        if run_for is not None:
            self._timer = clock.call_at(clock.now() + run_for, self._finish)

    @property
    def running(self) -> bool:
        return not self._end.done()

    async def wait(self) -> Exit:
        end = await asyncio.shield(self._end)
        if self._printing is not None:
            await asyncio.shield(self._printing)
        return end

    def signal(self, number: int) -> None:
        if number == signal.SIGKILL:
            self.end(Exit(_KILLED))
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT) and not self._script.ignores_stop:
            self.end(Exit(self._script.stopped_with))

    def end(self, how: Exit) -> None:
        if not self._end.done():
            self._end.set_result(how)
        if self._timer is not None:
            self._timer.cancel()

    def _finish(self) -> None:
        self.end(Exit(_KILLED, oom_killed=True) if self._script.out_of_memory else Exit(self._script.exit_with))

    async def _print(self, output: Output) -> None:
        for line in self._script.prints:
            await output(line if isinstance(line, Line) else Line(Stream.STDOUT, line.encode()))


class MemoryExecution:
    """A scripted command. What it is given to read goes nowhere."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    async def write(self, data: bytes) -> None:
        if not self._run.running:
            raise BrokenPipeError("the command's input is closed")

    async def close_input(self) -> None:
        pass

    async def wait(self) -> int:
        return (await self._run.wait()).code

    async def kill(self) -> None:
        self._run.signal(signal.SIGKILL)


class MemoryContainer:
    """A scripted container."""

    def __init__(self, spec: ContainerSpec, runtime_id: str, script: Script, output: Output, clock: Clock) -> None:
        self._spec, self._runtime_id, self._script, self._clock = spec, runtime_id, script, clock
        run_for = _ZERO if script.out_of_memory and script.run_for is None else script.run_for
        self._run = _Run(script, run_for, output, clock)
        self._executions: list[MemoryExecution] = []

    @property
    def spec(self) -> ContainerSpec:
        return self._spec

    @property
    def runtime_id(self) -> str:
        return self._runtime_id

    async def wait(self) -> Exit:
        end = await self._run.wait()
        for execution in self._executions:
            await execution.kill()
        self._executions.clear()
        return end

    async def stop(self, timeout: timedelta) -> Exit:
        self._run.signal(signal.SIGTERM)
        if self._run.running:
            ended, timer = asyncio.ensure_future(self.wait()), asyncio.ensure_future(self._clock.sleep(timeout))
            await asyncio.wait({ended, timer}, return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
            self._run.signal(signal.SIGKILL)
            await ended
        return await self.wait()

    async def signal(self, number: int) -> None:
        self._run.signal(number)

    async def execute(
        self,
        command: tuple[str, ...],
        output: Output,
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
    ) -> MemoryExecution:
        if not self._run.running:
            raise ContainerStartError(f"container {self._runtime_id} is not running", 126)
        script = self._script.commands.get(command, Script())
        await _start(script, self._clock)
        execution = MemoryExecution(_Run(script, script.run_for or _ZERO, output, self._clock))
        self._executions.append(execution)
        return execution


class MemoryTask:
    def __init__(self, spec: TaskSpec, runtime: "MemoryRuntime") -> None:
        self._spec, self._runtime = spec, runtime
        self._containers: list[MemoryContainer] = []
        self._numbers = count(1)
        self._closed = False

    @property
    def spec(self) -> TaskSpec:
        return self._spec

    async def start_container(self, spec: ContainerSpec, output: Output) -> MemoryContainer:
        found = self._runtime.scripts.get(spec.image.reference, Script())
        script = found if isinstance(found, Script) else found(spec)
        await _start(script, self._runtime.clock)
        if self._closed:
            raise ContainerStartError("CannotStartContainerError: the task was stopped while it started")
        number = zlib.crc32(f"{spec.name}/{next(self._numbers)}".encode())
        container = MemoryContainer(spec, f"{self._spec.task_id}-{number:010d}", script, output, self._runtime.clock)
        self._containers.append(container)
        return container

    async def close(self) -> None:
        self._closed = True
        for container in self._containers:
            await container.signal(signal.SIGKILL)
            await container.wait()
        self._runtime.tasks.discard(self)


class MemoryRuntime:
    """A Runtime. `scripts` says by image reference what containers do, `images` what their configuration is.

    Every reference is an image, unless it is in `missing`.
    """

    name: ClassVar[str] = "memory"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.scripts: dict[str, Scripts] = {}
        self.images: dict[str, ImageConfig] = {}
        self.missing: set[str] = set()
        self.tasks: set[MemoryTask] = set()

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        for task in tuple(self.tasks):
            await task.close()

    async def pull(self, reference: str, account: str) -> PulledImage:
        if reference in self.missing:
            raise ImageNotFound(f"{reference}: not found")
        digest = hashlib.sha256(reference.encode()).hexdigest()
        return PulledImage(reference, f"sha256:{digest}", self.images.get(reference, ImageConfig()))

    async def create_task(self, spec: TaskSpec) -> MemoryTask:
        task = MemoryTask(spec, self)
        self.tasks.add(task)
        return task


async def _start(script: Script, clock: Clock) -> None:
    if script.start_after:
        await clock.sleep(script.start_after)
    if script.fails_to_start:
        raise ContainerStartError(script.fails_to_start, script.fails_with)
