"""From what a container prints to the messages of log events: decoding, splitting of long lines, joining of multi-line.

Nothing here waits or reads a clock. Whatever arrives leaves in the same order, and no byte is lost: the messages put
together are the printed text, without line ends where a line is an event, with them where several lines are one.

Source: CloudWatch Logs API Reference, PutLogEvents; Docker documentation, Amazon CloudWatch Logs logging driver.
"""

import codecs
import re
from collections.abc import Iterator

EVENT_OVERHEAD_BYTES = 26
"""What CloudWatch Logs counts for each event besides its message."""

MAXIMUM_MESSAGE_BYTES = 1024 * 1024 - EVENT_OVERHEAD_BYTES
"""A log event can be no larger than 1 MB (256 KB until 2025), and a batch holds 1,048,576 bytes with the overhead.

# Emulation: on AWS the container runtimes cut lines into 16 KiB before the driver sees them. Here a line stays whole up
# to the limit of the event.
"""

_PATTERN_REACH = 16 * 1024
"""Multi-line patterns look at this much of a line, as much as Docker reads at once. It bounds what a match costs."""


class LineSplitter:
    """Decodes one stream of a container, and cuts its lines into pieces that fit into an event.

    Invalid UTF-8 becomes U+FFFD. A character whose bytes are spread over two parts of a line stays one.
    """

    def __init__(self, limit: int = MAXIMUM_MESSAGE_BYTES) -> None:
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = bytearray()

    @property
    def pending(self) -> bool:
        """Whether a line has begun that has not ended."""
        return bool(self._pending) or bool(self._decoder.getstate()[0])

    def feed(self, data: bytes, complete: bool) -> Iterator[tuple[str, bool]]:
        """Yields (piece, whether the line ends with it). A line's last piece may be empty: then the line is."""
        # Encoded again, because limits are in bytes of UTF-8, and U+FFFD has more of them than what it replaces.
        self._pending += self._decoder.decode(data, final=complete).encode()
        begin = 0
        while len(self._pending) - begin > self._limit:
            end = _character_boundary(self._pending, begin + self._limit)
            yield self._pending[begin:end].decode(), False
            begin = end
        del self._pending[:begin]
        if complete:
            self._decoder.reset()
            piece = self._pending.decode()
            self._pending.clear()
            yield piece, True


def _character_boundary(text: bytearray, position: int) -> int:
    while text[position] & 0b1100_0000 == 0b1000_0000:
        position -= 1
    return position


class MultilineJoiner:
    """Joins lines to events: a line that the pattern matches begins a new one, all others continue it.

    As in Docker's driver each line keeps its line end within the event, empty lines count, and an event that would grow
    over the limit is cut. An event has the timestamp of its first line.
    """

    def __init__(self, pattern: re.Pattern[str], limit: int = MAXIMUM_MESSAGE_BYTES) -> None:
        self._pattern = pattern
        self._limit = limit
        self._pieces: list[str] = []
        self._bytes = 0
        self._timestamp = 0
        self._inside_line = False

    @property
    def pending(self) -> bool:
        return bool(self._pieces)

    def feed(self, piece: str, line_ends: bool, timestamp: int) -> Iterator[tuple[int, str]]:
        """Yields (timestamp, message) of the events that are finished."""
        begins_line, self._inside_line = not self._inside_line, not line_ends
        if begins_line and self._pattern.search(piece[:_PATTERN_REACH]):
            yield from self.flush()
        text = piece + "\n" if line_ends else piece
        size = len(text.encode())
        if line_ends and size > self._limit:  # the piece fills the event to the brim
            text, size = piece, size - 1
        if self._bytes + size > self._limit:
            yield from self.flush()
        if not text:
            return
        if not self._pieces:
            self._timestamp = timestamp
        self._pieces.append(text)
        self._bytes += size

    def flush(self) -> Iterator[tuple[int, str]]:
        """Yields the pending event, if there is one. What follows begins another."""
        if self._pieces:
            message = "".join(self._pieces)
            self._pieces.clear()
            self._bytes = 0
            yield self._timestamp, message
