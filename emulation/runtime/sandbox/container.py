"""A container of the process runtime, and the commands that run in it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

from emulation.clock import Clock
from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec, Exit, Output
from emulation.runtime.sandbox import settings as words
from emulation.runtime.sandbox.cgroups import Group
from emulation.runtime.sandbox.channel import AgentGone
from emulation.runtime.sandbox.lines import InputWriter
from emulation.runtime.sandbox.program import LaunchReport, Program, Programs

_REACTION_SECONDS = 0.5
"""So long does a clock that is turned wait for a program to react to its stop signal."""


class ProcessContainer:
    """A started container. `settings` are those that it was started with, `group` is its own control group."""

    def __init__(
        self,
        spec: ContainerSpec,
        runtime_id: str,
        program: Program,
        programs: Programs,
        settings: Mapping[str, Any],
        group: Group | None,
        clock: Clock,
    ) -> None:
        self._spec, self._runtime_id, self._settings = spec, runtime_id, settings
        self._program, self._programs, self._group, self._clock = program, programs, group, clock
        self._oom_killed = False
        self._watchdog: asyncio.Task[None] | None = None
        self._exit = asyncio.get_running_loop().create_task(self._finish())

    @property
    def spec(self) -> ContainerSpec:
        return self._spec

    @property
    def runtime_id(self) -> str:
        return self._runtime_id

    @property
    def running(self) -> bool:
        return self._program.running

    @property
    def pid(self) -> int:
        """The number of its first process for the agent."""
        return self._program.pid

    def watch_memory(self, exceeded: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Where the kernel does not watch its memory: kills it when `exceeded` returns."""
        self._watchdog = asyncio.get_running_loop().create_task(self._watch(exceeded))

    async def oom_kill(self) -> None:
        self._oom_killed = True
        await self.signal(signal.SIGKILL)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def stop(self, timeout: timedelta) -> Exit:
        deadline = self._clock.now() + timeout
        await self.signal(words.stop_signal(self._spec.image.config))
        with self._clock.working(f"container {self._spec.name} reacts to its stop signal"):
            await asyncio.wait({self._exit}, timeout=min(_REACTION_SECONDS, timeout.total_seconds()))
        if self.running and self._clock.now() < deadline:
            timer = asyncio.ensure_future(self._clock.sleep_until(deadline))
            try:
                await asyncio.wait({self._exit, timer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
        with self._clock.working(f"container {self._spec.name} ends"):
            await self.signal(signal.SIGKILL)
            return await self.wait()

    async def signal(self, number: int) -> None:
        await self._program.signal(number)

    async def execute(
        self,
        command: tuple[str, ...],
        output: Output,
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
    ) -> "ProcessExecution":
        if not self.running:
            raise ContainerStartError(f"container {self._runtime_id} is not running", 126)
        if not command:
            raise ContainerStartError("No exec command specified", 126)
        settings = {
            **self._settings,
            "target": self.pid,
            "argv": command,
            "environment": {**self._settings["environment"], **(environment or {})},
            "user": user or self._settings["user"],
            "cwd": working_directory or self._settings["cwd"],
            "create_cwd": False,
        }
        cgroups = self._group.open() if self._group else []
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            program = await self._programs.start("execute", settings, reader, output, cgroups)
        except LaunchReport as report:
            os.close(writer)
            raise words.exec_error(report.report) from None
        except AgentGone:
            os.close(writer)
            raise ContainerStartError(f"container {self._runtime_id} is not running", 126) from None
        except BaseException:
            os.close(writer)
            raise
        finally:
            for descriptor in (reader, *cgroups):
                os.close(descriptor)
        return ProcessExecution(program, InputWriter(writer))

    async def _finish(self) -> Exit:
        code = await self._program.done
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._group is not None:
            self._oom_killed = self._oom_killed or self._group.oom_kills > 0
            await self._group.remove()
        return Exit(code, self._oom_killed)

    async def _watch(self, exceeded: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await exceeded()
        await self.oom_kill()


class ProcessExecution:
    """A command in a running container."""

    def __init__(self, program: Program, stdin: InputWriter) -> None:
        self._program, self._stdin = program, stdin
        program.code.add_done_callback(lambda _: stdin.close())

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError where the command does not read any more."""
        await self._stdin.write(data)

    async def close_input(self) -> None:
        self._stdin.close()

    async def wait(self) -> int:
        return await asyncio.shield(self._program.done)

    async def kill(self) -> None:
        with contextlib.suppress(AgentGone):
            await self._program.signal(signal.SIGKILL)
