"""A container's output: frames of the daemon's stream in, lines out, as they come and no faster than they are taken.

Source: Docker Engine API, ContainerAttach, "Stream format".
"""

import logging
import struct
from collections.abc import AsyncIterator

from emulation.runtime.base import Line, Output, Stream
from emulation.runtime.dockerd.daemon import Connection
from emulation.runtime.sandbox.lines import LineSplitter

log = logging.getLogger(__name__)

_HEADER = 8
_CHUNK = 1 << 16
_STREAMS = {1: Stream.STDOUT, 2: Stream.STDERR}


class OutputReader:
    """Reads connections, one after the other; `finish` delivers the lines that had no end."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._splitters = {stream: LineSplitter() for stream in Stream}
        self._broken = False

    def abandon(self) -> None:
        """Delivers nothing any more."""
        self._broken = True

    async def read(self, connection: Connection) -> None:
        """Returns when the stream has ended, also where it was torn off."""
        try:
            async for stream, data in frames(connection):
                for part, complete in self._splitters[stream].feed(data):
                    await self._deliver(Line(stream, part, complete))
        finally:
            await connection.close()

    async def finish(self) -> None:
        for stream, splitter in self._splitters.items():
            for part, complete in splitter.finish():
                await self._deliver(Line(stream, part, complete))

    async def _deliver(self, line: Line) -> None:
        if self._broken:
            return
        try:
            await self._output(line)
        except Exception:
            # The program must go on, whatever becomes of its output: it is read and dropped from now on.
            self._broken = True
            log.exception("A container's output cannot be delivered any more")


async def frames(connection: Connection) -> AsyncIterator[tuple[Stream, bytes]]:
    """Pairs of stream and bytes, until the end."""
    try:
        while True:
            kind, left = struct.unpack(">BxxxI", await connection.reader.readexactly(_HEADER))
            while left:
                data = await connection.reader.read(min(left, _CHUNK))
                if not data:
                    return
                left -= len(data)
                if kind in _STREAMS:
                    yield _STREAMS[kind], data
    except (OSError, EOFError):
        return
