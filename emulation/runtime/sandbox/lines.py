"""A program's output: from its pipes to an `Output`, line by line, as it comes, and no faster than it is taken."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator, Mapping

from emulation.clock import real_sleep
from emulation.runtime.base import Line, Output, Stream

log = logging.getLogger(__name__)

LONGEST_PART = 256 << 10
_CHUNK = 1 << 16


class LineSplitter:
    """Bytes in, (bytes, complete) out. A part is given out only when it is known to go on."""

    def __init__(self, longest: int = LONGEST_PART) -> None:
        self._longest = longest
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._held += data[start:end]
            start = end + 1
            yield from self._parts()
            yield self._take(len(self._held)), True
        self._held += data[start:]
        yield from self._parts()

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        """What was left without a line end."""
        if self._held:
            yield self._take(len(self._held)), True

    def _parts(self) -> Iterator[tuple[bytes, bool]]:
        while len(self._held) > self._longest:
            yield self._take(self._longest), False

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


class OutputReader:
    """Takes the reading ends of a program's pipes and closes them at the end.

    The end is when the program has exited and all that is in the pipes was delivered; whoever else still holds the
    writing ends (a command's daemon) is not waited for.
    """

    def __init__(self, pipes: Mapping[Stream, int], output: Output) -> None:
        self._pipes, self._output = pipes, output
        self._one_line = asyncio.Lock()
        self._exited = False
        self._sleepers: set[asyncio.Future[None]] = set()
        self._broken = False

    def program_exited(self) -> None:
        self._exited = True
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def run(self) -> None:
        await asyncio.gather(*(self._read(stream, pipe) for stream, pipe in self._pipes.items()))

    async def _read(self, stream: Stream, pipe: int) -> None:
        splitter = LineSplitter()
        os.set_blocking(pipe, False)
        try:
            while True:
                exited = self._exited  # asked before reading: what comes later was not the program's
                try:
                    data = os.read(pipe, _CHUNK)
                except BlockingIOError:
                    if exited:
                        break
                    await self._readable(pipe)
                    continue
                if not data:
                    break
                for part, complete in splitter.feed(data):
                    await self._deliver(Line(stream, part, complete))
                await real_sleep(0)  # others have their turn, also when the pipe is never empty
            for part, complete in splitter.finish():
                await self._deliver(Line(stream, part, complete))
        finally:
            os.close(pipe)

    async def _readable(self, pipe: int) -> None:
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not sleeper.done():
                sleeper.set_result(None)

        self._sleepers.add(sleeper)
        loop.add_reader(pipe, wake)
        try:
            if not self._exited:
                await sleeper
        finally:
            loop.remove_reader(pipe)
            self._sleepers.discard(sleeper)

    async def _deliver(self, line: Line) -> None:
        async with self._one_line:
            if self._broken:
                return
            try:
                await self._output(line)
            except Exception:
                # The program must go on, whatever becomes of its output: it is read and dropped from now on.
                self._broken = True
                log.exception("A container's output cannot be delivered any more")


class InputWriter:
    """The writing end of a program's standard input."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._ready = asyncio.Event()
        os.set_blocking(pipe, False)

    async def write(self, data: bytes) -> None:
        """Returns when the pipe has taken all. BrokenPipeError where nobody will read it."""
        rest = memoryview(data)
        while rest:
            if self._pipe < 0:
                raise BrokenPipeError("the command's input is closed")
            try:
                rest = rest[os.write(self._pipe, rest) :]
            except BlockingIOError:
                await self._writable()

    def close(self) -> None:
        if self._pipe >= 0:
            with contextlib.suppress(OSError, RuntimeError):
                asyncio.get_running_loop().remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
            self._ready.set()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready.clear()
        loop.add_writer(self._pipe, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            if self._pipe >= 0:
                loop.remove_writer(self._pipe)
