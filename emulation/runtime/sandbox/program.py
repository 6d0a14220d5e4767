"""A program in a task's namespaces, as the emulator sees it: its start, its output, its end."""

import asyncio
import contextlib
import json
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from emulation.runtime.base import Output, Stream
from emulation.runtime.sandbox.channel import AgentGone, Channel
from emulation.runtime.sandbox.forkserver import Ids
from emulation.runtime.sandbox.lines import OutputReader

log = logging.getLogger(__name__)

KILLED = 137


class LaunchReport(Exception):
    """What a launcher reported instead of starting the program: kind, error, code."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__(report["error"])
        self.report = report


class Programs:
    """All programs of one task, by the process number that the agent knows them by."""

    def __init__(self, channel: Channel, ids: Ids) -> None:
        self._channel, self._ids = channel, ids
        self._running: dict[int, Program] = {}
        self._early: dict[int, int] = {}
        self._failed: set[int] = set()
        self._unfinished: set[Program] = set()
        self._gone = False

    def exited(self, message: Mapping[str, Any]) -> None:
        """An exit, as the agent reports it. It may come before we know the program's number."""
        pid = message["pid"]
        program = self._running.pop(pid, None)
        if program is not None:
            program.exited(message["code"])
        elif pid in self._failed:
            self._failed.discard(pid)
        else:
            self._early[pid] = message["code"]

    def agent_gone(self) -> None:
        """The agent ended, and with it everything in its namespaces."""
        self._gone = True
        for program in self._running.values():
            program.exited(KILLED)
        self._running.clear()

    async def finish(self, seconds: float) -> None:
        """Waits until all output was delivered, but not for ever: who does not take it by then does not get it."""
        if done := {program.done for program in self._unfinished}:
            await asyncio.wait(done, timeout=seconds)
        for program in self._unfinished:
            program.abandon()

    async def start(
        self, operation: str, settings: Mapping[str, Any], stdin: int, output: Output, more: Sequence[int]
    ) -> "Program":
        """Launches and waits until the program runs. `more` are descriptors of cgroups and mounts.

        Raises LaunchReport; AgentGone where the task ended meanwhile.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            status, status_end = _pipe(ours, theirs)
            stdout, stdout_end = _pipe(ours, theirs)
            stderr, stderr_end = _pipe(ours, theirs)
            if not self._ids.single:
                for end in (stdin, stdout_end, stderr_end):  # programs open /dev/stdout, which needs permission
                    if stat.S_ISFIFO(os.fstat(end).st_mode):
                        os.fchown(end, self._ids.first, self._ids.first)
            file = _file(json.dumps(settings).encode())
            theirs.callback(os.close, file)
            descriptors = [file, status_end, stdin, stdout_end, stderr_end, *more]
            await self._channel.call(operation, descriptors)
            theirs.close()
            pid = await self._launched(status)
            program = Program(self._channel, pid, OutputReader({Stream.STDOUT: stdout, Stream.STDERR: stderr}, output))
            ours.pop_all()
            os.close(status)
        self._unfinished.add(program)
        program.done.add_done_callback(lambda _: self._unfinished.discard(program))
        if pid in self._early:
            program.exited(self._early.pop(pid))
        elif self._gone:
            program.exited(KILLED)
        else:
            self._running[pid] = program
        return program

    async def launch(self, operation: str, settings: Mapping[str, Any], more: Sequence[int] = ()) -> None:
        """Has a launcher do something without a program. Raises LaunchReport where it could not."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            status, status_end = _pipe(ours, theirs)
            file = _file(json.dumps(settings).encode())
            theirs.callback(os.close, file)
            await self._channel.call(operation, [file, status_end, status_end, status_end, status_end, *more])
            theirs.close()
            await _reports(status)

    async def _launched(self, status: int) -> int:
        pid = 0
        try:
            for report in await _reports(status):
                pid = report["pid"]
        except LaunchReport as error:
            if "pid" in error.report:
                self._forget(error.report["pid"])
            raise
        if not pid:
            raise AgentGone("the task ended before the program was started")
        return pid

    def _forget(self, pid: int) -> None:
        """The number of a launcher's child that never became a program: its exit is nobody's."""
        if self._early.pop(pid, None) is None:
            self._failed.add(pid)


class Program:
    """A running program; `pid` is its number for the agent. `done` has its exit code once its output was delivered."""

    def __init__(self, channel: Channel, pid: int, output: OutputReader) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.code: asyncio.Future[int] = loop.create_future()
        self._channel, self._output = channel, output
        self._reading = loop.create_task(output.run())
        self.done = loop.create_task(self._finish())

    @property
    def running(self) -> bool:
        return not self.code.done()

    async def signal(self, number: int) -> None:
        if self.running:
            with contextlib.suppress(AgentGone):
                await self._channel.call("kill", pid=self.pid, signal=number)

    def exited(self, code: int) -> None:
        if not self.code.done():
            self.code.set_result(code)
            self._output.program_exited()

    def abandon(self) -> None:
        """Reads no more of the output."""
        self._reading.cancel()

    async def _finish(self) -> int:
        await asyncio.wait({self._reading})
        if not self._reading.cancelled() and (error := self._reading.exception()) is not None:
            log.error("A program's output could not be read: %s", error)
        return await self.code


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, reader)
    theirs.callback(os.close, writer)
    return reader, writer


def _file(data: bytes) -> int:
    """A message of any length as a descriptor."""
    file = os.memfd_create("settings", os.MFD_CLOEXEC)
    os.write(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


async def _reports(status: int) -> list[dict[str, Any]]:
    """All that comes over a status pipe until it ends. Raises LaunchReport for the first error."""
    loop = asyncio.get_running_loop()
    os.set_blocking(status, False)
    data = b""
    while True:
        readable = asyncio.Event()
        loop.add_reader(status, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(status)
        with contextlib.suppress(BlockingIOError):
            received = os.read(status, 1 << 16)
            if not received:
                break
            data += received
    reports = [json.loads(line) for line in data.splitlines()]
    pid = next((report["pid"] for report in reports if "pid" in report), None)
    for report in reports:
        if "error" in report:
            raise LaunchReport(report if pid is None else {**report, "pid": pid})
    return reports
