"""Moves bytes between two connections without copying them through user space: splice(2) and edge-triggered epoll."""

import contextlib
import fcntl
import os
import select
import socket

_PIPE_BYTES = 1 << 18
_SET_PIPE_SIZE = 1031
_MOVE_NONBLOCK = 3  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK
_ROUNDS = 16
"""After so many moves another pump has its turn."""


class _Way:
    """One direction: from `source` through a pipe to `target`."""

    __slots__ = ("done", "ended", "held", "reader", "source", "target", "writer")

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # refused above a user's quota; the pipe is smaller then
            fcntl.fcntl(self.writer, _SET_PIPE_SIZE, _PIPE_BYTES)
        self.held = 0
        self.ended = self.done = False

    def move(self) -> bool:
        """Moves what can be moved; True when it stopped for fairness, not for lack of data."""
        for _ in range(_ROUNDS):
            if self.done:
                return False
            filled = self._fill()
            drained = self._drain()
            if not filled and not drained:
                return False
        return True

    def _fill(self) -> bool:
        if self.ended or self.held >= _PIPE_BYTES:
            return False
        try:
            count = os.splice(self.source, self.writer, _PIPE_BYTES - self.held, flags=_MOVE_NONBLOCK)
        except BlockingIOError:
            return False
        self.held += count
        self.ended = count == 0
        return True

    def _drain(self) -> bool:
        if self.held:
            try:
                self.held -= os.splice(self.reader, self.target, self.held, flags=_MOVE_NONBLOCK)
            except BlockingIOError:
                return False
            return True
        if self.ended:
            self.done = True
            with socket.socket(fileno=os.dup(self.target)) as target:
                target.shutdown(socket.SHUT_WR)
        return False


class Pump:
    """Takes both descriptors and closes them when both directions have ended."""

    def __init__(self, poll: select.epoll, one: int, other: int, table: dict[int, "Pump"]) -> None:
        self._poll, self._table, self._ends = poll, table, (one, other)
        self._ways = (_Way(one, other), _Way(other, one))
        for end in self._ends:
            os.set_blocking(end, False)
            table[end] = self
            poll.register(end, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET | select.EPOLLRDHUP)

    def step(self) -> bool:
        """True when there is more to do at once."""
        busy = False
        try:
            for way in self._ways:
                busy = way.move() or busy
        except OSError:  # reset by either side
            for way in self._ways:
                way.done = True
        if all(way.done for way in self._ways):
            self._close()
            return False
        return busy

    def _close(self) -> None:
        for end in self._ends:
            self._table.pop(end, None)
            self._poll.unregister(end)
            os.close(end)
        for way in self._ways:
            os.close(way.reader)
            os.close(way.writer)
