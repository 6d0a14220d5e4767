"""A container of the daemon, and the commands that run in it."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from emulation.clock import Clock, monotonic, real_sleep
from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec, Exit, Output
from emulation.runtime.dockerd.daemon import Connection, Daemon, DaemonError, DaemonGone
from emulation.runtime.dockerd.output import OutputReader, frames
from emulation.runtime.sandbox import settings as words

log = logging.getLogger(__name__)

_KILLED = 128 + signal.SIGKILL
_REACTION_SECONDS = 0.5
"""So long does a clock that is turned wait for a program to react to its stop signal."""
_POLL_SECONDS = 0.005
_AGAIN_SECONDS = 0.2
_GONE_SECONDS = 30.0
"""So long is a daemon waited for that has to say how a container ended."""
_LAST_OUTPUT_SECONDS = 2.0
_OOM_SECONDS = 0.3
"""The daemon may hear of a kill for want of memory after it heard of the exit."""


class Process:
    """A process of a container, as this host sees it: `pid` 0 means that it has ended already."""

    def __init__(self, pid: int, container: str) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._descriptor = -1
        with contextlib.suppress(OSError):
            if pid:
                self._descriptor = os.pidfd_open(pid)
                # In the meantime the number could have been given to somebody else.
                if container not in Path(f"/proc/{pid}/cgroup").read_text():
                    os.close(self._descriptor)
                    self._descriptor = -1
        if self._descriptor >= 0:
            asyncio.get_running_loop().add_reader(self._descriptor, self._end)
        else:
            self.ended.set_result(None)

    @property
    def running(self) -> bool:
        return not self.ended.done()

    def signal(self, number: int) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def forget(self) -> None:
        """Watches it no longer."""
        if self.running:
            self._end()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self.ended.set_result(None)


class DockerContainer:
    """A started container. `identity` is the daemon's; `connection` has its output since before its start."""

    def __init__(
        self,
        spec: ContainerSpec,
        runtime_id: str,
        identity: str,
        process: Process,
        daemon: Daemon,
        connection: Connection,
        output: Output,
        clock: Clock,
    ) -> None:
        self._spec, self._runtime_id, self._identity, self._process = spec, runtime_id, identity, process
        self._daemon, self._clock = daemon, clock
        self._reader = OutputReader(output)
        self._killed = self._taken_up = False
        self._executions: set[DockerExecution] = set()
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(self._read(connection))
        self._exit = loop.create_task(self._finish())

    @property
    def spec(self) -> ContainerSpec:
        return self._spec

    @property
    def runtime_id(self) -> str:
        return self._runtime_id

    @property
    def running(self) -> bool:
        return self._process.running

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def stop(self, timeout: timedelta) -> Exit:
        deadline = self._clock.now() + timeout
        await self.signal(words.stop_signal(self._spec.image.config))
        with self._clock.working(f"container {self._spec.name} reacts to its stop signal"):
            await asyncio.wait({self._exit}, timeout=_REACTION_SECONDS if timeout else 0)
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
        """Sent by the kernel, not by the daemon, so that it arrives also where that does not answer."""
        self._killed = self._killed or number == signal.SIGKILL
        self._process.signal(number)

    async def execute(
        self,
        command: tuple[str, ...],
        output: Output,
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        working_directory: str = "",
    ) -> "DockerExecution":
        if not self.running:
            raise ContainerStartError(f"container {self._runtime_id} is not running", 126)
        if not command:
            raise ContainerStartError("No exec command specified", 126)
        settings = {
            "command": list(command),
            "environment": dict(environment or {}),
            "user": user,
            "working_directory": working_directory,
        }
        try:
            identity = await self._daemon.create_execution(self._identity, settings)
            connection = await self._daemon.start_execution(identity)
        except DaemonError as error:
            if not self.running or error.status == 409:
                raise ContainerStartError(f"container {self._runtime_id} is not running", 126) from None
            raise ContainerStartError(str(error), 126) from None
        except DaemonGone as error:
            raise ContainerStartError(str(error), 126) from None
        try:
            pid = await self._started(identity, connection)
        except BaseException:
            await connection.close()
            raise
        process = Process(pid, self._identity)
        execution = DockerExecution(identity, process, self._daemon, connection, output)
        self._executions.add(execution)
        execution.ended.add_done_callback(lambda _: self._executions.discard(execution))
        return execution

    async def _started(self, identity: str, connection: Connection) -> int:
        """The command's process number, once there is one. Raises ContainerStartError."""
        while True:
            try:
                found = await self._daemon.execution(identity)
            except (DaemonError, DaemonGone) as error:
                raise ContainerStartError(str(error), 126) from None
            if found["Pid"]:
                return int(found["Pid"])
            if found["ExitCode"] is not None:
                text = b"".join([data async for _, data in frames(connection)]).decode(errors="replace").strip()
                if not self.running:
                    text = f"container {self._runtime_id} is not running"
                raise ContainerStartError(text, 127 if "not found" in text or "no such file" in text else 126)
            await real_sleep(_POLL_SECONDS)

    def abandon(self) -> None:
        """Delivers no more of the output: nobody takes it."""
        self._reader.abandon()
        self._reading.cancel()
        for execution in self._executions:
            execution.abandon()

    async def _read(self, connection: Connection) -> None:
        """Reads until the end of the output: a stream that ends because the daemon went is taken up again."""
        while True:
            await self._reader.read(connection)
            while self.running:
                try:
                    if await self._daemon.answers():
                        return  # the program closed its output
                    await real_sleep(_AGAIN_SECONDS)
                    self._taken_up = True
                    connection = await self._daemon.attach(self._identity)
                except (DaemonError, DaemonGone):
                    continue
                break
            else:
                return

    async def _finish(self) -> Exit:
        await self._process.ended
        if self._taken_up:  # by then the container may have ended, and then that stream never does
            await asyncio.wait({self._reading}, timeout=_LAST_OUTPUT_SECONDS)
            self._reading.cancel()
        await _completed(self._reading)
        await self._reader.finish()
        end = await self._how_it_ended()
        if self._executions:  # the kernel has ended them, with the first process
            await asyncio.wait({execution.ended for execution in self._executions})
        return end

    async def _how_it_ended(self) -> Exit:
        begun = monotonic()
        while True:
            try:
                state = await self._daemon.ended(self._identity)
            except DaemonError:
                return Exit(_KILLED)  # somebody else removed it
            except DaemonGone:
                if monotonic() - begun > _GONE_SECONDS:
                    return Exit(_KILLED)
                await real_sleep(_AGAIN_SECONDS)
                continue
            code = int(state["ExitCode"])
            if state["OOMKilled"] or code != _KILLED or self._killed or monotonic() - begun > _OOM_SECONDS:
                return Exit(code, bool(state["OOMKilled"]))
            await real_sleep(_POLL_SECONDS)


class DockerExecution:
    """A command in a running container."""

    def __init__(self, identity: str, process: Process, daemon: Daemon, connection: Connection, output: Output) -> None:
        self._identity, self._process, self._daemon, self._connection = identity, process, daemon, connection
        self._reader = OutputReader(output)
        self._reading = asyncio.get_running_loop().create_task(self._reader.read(connection))
        self.ended = asyncio.get_running_loop().create_task(self._finish())

    async def write(self, data: bytes) -> None:
        """Raises BrokenPipeError where the command does not read any more."""
        if self._connection.writer.is_closing() or not self._process.running:
            raise BrokenPipeError("the command's input is closed")
        try:
            self._connection.writer.write(data)
            await self._connection.writer.drain()
        except OSError:
            raise BrokenPipeError("the command's input is closed") from None

    async def close_input(self) -> None:
        if not self._connection.writer.is_closing():
            with contextlib.suppress(OSError):
                self._connection.writer.write_eof()

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def abandon(self) -> None:
        self._reader.abandon()
        self._reading.cancel()

    async def kill(self) -> None:
        self._process.signal(signal.SIGKILL)

    async def _finish(self) -> int:
        await _completed(self._reading)
        await self._reader.finish()
        await self._process.ended
        begun = monotonic()
        with contextlib.suppress(DaemonError, DaemonGone):
            while monotonic() - begun < _GONE_SECONDS:
                found: Mapping[str, Any] = await self._daemon.execution(self._identity)
                if not found["Running"] and found["ExitCode"] is not None:
                    return int(found["ExitCode"])
                await real_sleep(_POLL_SECONDS)
        return _KILLED


async def _completed(reading: asyncio.Task[None]) -> None:
    await asyncio.wait({reading})
    if not reading.cancelled() and (error := reading.exception()) is not None:
        log.error("A container's output could not be read: %s", error)
