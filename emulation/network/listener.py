"""A listening socket on the event loop that can also stop answering, as a denied port does on AWS."""

import asyncio
import contextlib
import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Callable
from ipaddress import IPv4Address

from emulation.errors import PortInUse

log = logging.getLogger(__name__)

BACKLOG = 256
_PAUSE_SECONDS = 0.5
_SO_MEMINFO = getattr(socket, "SO_MEMINFO", 55)  # Linux; the socket module does not name it
_DROPS = 8
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # Linux
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""A packet filter of one instruction, "return 0": no packet passes. Source: linux/filter.h."""

OnConnection = Callable[[socket.socket, tuple[str, int]], None]


def bind_listener(address: IPv4Address, port: int) -> socket.socket:
    """A bound socket that does not listen yet. Raises PortInUse."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        raise PortInUse(
            f"{address}:{port} cannot be listened on ({error.strerror}): another program listens on that port, perhaps "
            f"on all addresses. Stop it (ss -ltnp 'sport = :{port}' shows it), or use another container port."
        ) from error
    return sock


class Listener:
    """Accepts connections from the moment it is made, until it is denied or closed. Takes the socket over."""

    def __init__(self, sock: socket.socket, on_connection: OnConnection, *, open: bool = True) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self._sock, self._on_connection = sock, on_connection
        self._loop = asyncio.get_running_loop()
        self._filler: socket.socket | None = None
        self._denied = False
        self._resume: asyncio.TimerHandle | None = None
        self._drops = 0
        self.open = False
        sock.setblocking(False)
        try:
            self.permit() if open else self.deny()
        except OSError as error:  # somebody began to listen there between bind and listen
            sock.close()
            where = f"{self.address[0]}:{self.address[1]}"
            raise PortInUse(f"{where} was taken by another program just now. Stop it.") from error

    def permit(self) -> None:
        """Answers, beginning with those who are still trying."""
        if self.open:
            return
        self._sock.listen(BACKLOG)
        self._filter(drop_all=False)
        self._discard_filler()
        self._loop.add_reader(self._sock, self._accept)
        self.open, self._denied = True, False

    def deny(self) -> None:
        """Leaves new connections without an answer; established ones live on.

        On Linux a packet filter does it, also for a listener inside of a task. Elsewhere the kernel drops connections
        as long as the accept queue is full: a queue of length 0, filled by one connection of our own.
        """
        if self._denied:
            return
        if self.open:
            self._loop.remove_reader(self._sock)
            self._accept()
        if self._filter(drop_all=True):
            self._sock.listen(BACKLOG)
        else:
            self._fill()
        self._drops = self._kernel_drops()
        self.open, self._denied = False, True

    def _filter(self, *, drop_all: bool) -> bool:
        """Lets no packet reach the socket, or all. Whether the system can do that."""
        if not sys.platform.startswith("linux"):
            return False
        try:
            if drop_all:
                instructions = ctypes.create_string_buffer(_DROP_ALL)
                program = struct.pack("@HP", 1, ctypes.addressof(instructions))
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
            else:
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        except OSError:  # none to detach, or a kernel without filters
            return False
        return True

    def _fill(self) -> None:
        self._sock.listen(0)
        self._filler = socket.socket()
        self._filler.setblocking(False)
        self._filler.connect_ex(self.address)
        try:
            self._filler.getpeername()
        except OSError:  # a client was quicker and fills the queue; it is served or reset once that is decided
            self._filler.close()
            self._filler = None

    def tries(self) -> int:
        """How many packets of denied connections were dropped since it was asked last; 0 where the kernel won't say."""
        drops = self._kernel_drops()
        new, self._drops = drops - self._drops, drops
        return new if self._denied else 0

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        if self._resume is not None:
            self._resume.cancel()
        self._sock.close()
        if self._filler is not None:
            self._filler.close()
            self._filler = None
        self.open = self._denied = False

    def _discard_filler(self) -> None:
        """Takes our own connection out of the queue, so that nobody takes it for a client."""
        if self._filler is None:
            return
        own = self._filler.getsockname()
        with contextlib.suppress(BlockingIOError):
            sock, peer = self._sock.accept()
            if peer == own:
                sock.close()
            else:
                self._on_connection(sock, peer)
        self._filler.close()
        self._filler = None

    def _accept(self) -> None:
        try:
            while True:
                sock, peer = self._sock.accept()
                sock.setblocking(False)
                self._on_connection(sock, peer)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # mostly: too many open files; go on when some were closed
            log.error("Connections to %s:%d wait: %s. Raise the limit of open files (ulimit -n).", *self.address, error)
            self._loop.remove_reader(self._sock)
            self._resume = self._loop.call_later(_PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self.open:
            self._loop.add_reader(self._sock, self._accept)

    def _kernel_drops(self) -> int:
        try:
            return int(struct.unpack("=9I", self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[_DROPS])
        except (OSError, struct.error):
            return 0


def reset(sock: socket.socket) -> None:
    """Closes a connection so that the other side sees "connection reset", not an orderly end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
