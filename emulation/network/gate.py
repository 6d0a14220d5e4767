"""Lets the host's packets through to a server's own listening socket, or leaves them without an answer.

A server that listens on a public address by itself is reached without a detour, at its full speed. What security groups
say about the host is done by the kernel, on the server's own socket: while it asks for a time to live that no packet
has (ip(7), IP_MINTTL), what would open a connection is dropped, and established ones live on. A packet filter would do
it too, but some kernels let only administrators attach one.
"""

import ctypes
import os
import socket
from contextlib import suppress

_MIN_TTL, _HIGHEST_TTL = 21, 255  # the socket module does not name IP_MINTTL; packets have 64 unless told otherwise
_PIDFD_GETFD = 438


class Gate:
    """The gate of one listening socket, open to begin with. `close` forgets the socket and leaves it as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.open = True

    def set(self, open: bool) -> None:
        """Idempotent. OSError where the kernel cannot."""
        if open != self.open:
            self._sock.setsockopt(socket.IPPROTO_IP, _MIN_TTL, 0 if open else _HIGHEST_TTL)
            self.open = open

    def close(self) -> None:
        self._sock.close()


def gate_of(process_id: int, address: tuple[str, int]) -> Gate:
    """The gate of the socket on which a process of ours listens at `address`.

    Raises OSError where the kernel does not let us (before Linux 5.6, or where nobody may trace even its own children:
    kernel.yama.ptrace_scope 2 or more), or where it does not listen there.
    """
    process = os.pidfd_open(process_id)
    try:
        for number in sorted(map(int, os.listdir(f"/proc/{process_id}/fd"))):
            with suppress(_NotOpen):
                sock = socket.socket(fileno=_descriptor(process, number))
                if _listens(sock, address):
                    return Gate(sock)
                sock.close()
    finally:
        os.close(process)
    raise OSError(f"process {process_id} does not listen on {address[0]}:{address[1]}")


class _NotOpen(OSError):
    """The process has no socket of that number."""


def _descriptor(process: int, number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_PIDFD_GETFD, process, number, 0))
    if found < 0:
        error = ctypes.get_errno()
        raise (_NotOpen if error == 9 else OSError)(error, os.strerror(error))
    if not _is_socket(found):
        os.close(found)
        raise _NotOpen
    return found


def _is_socket(descriptor: int) -> bool:
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")


def _listens(sock: socket.socket, address: tuple[str, int]) -> bool:
    with suppress(OSError):
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) and sock.getsockname() == address
    return False
