"""Lets the host's packets through to a server's own listening socket, or leaves them without an answer.

A server that listens on a public address by itself is reached without a detour, at its full speed. What security groups
say about the host is done by the kernel, on the server's own socket: a packet filter on a listening socket drops what
would open a connection, and established ones live on.
"""

import ctypes
import os
import socket
import struct
from contextlib import suppress

_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_PIDFD_GETFD = 438
_DROP = (0x06, 0, 0, 0)
"""The whole filter: "return 0", which is "keep nothing of the packet"."""


class Gate:
    """The gate of one listening socket, open to begin with. `close` forgets the socket and leaves it as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.open = True

    def set(self, open: bool) -> None:
        """Idempotent. OSError where the kernel has no socket filters."""
        if open == self.open:
            return
        if open:
            self._sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        else:
            program = ctypes.create_string_buffer(struct.pack("=HBBI", *_DROP))
            self._sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
        self.open = open

    def close(self) -> None:
        self._sock.close()


def gate_of(process_id: int, address: tuple[str, int]) -> Gate:
    """The gate of the socket on which a process of ours listens at `address`.

    Raises OSError where the kernel does not let us (before Linux 5.6, or without the right to trace that process, as
    for root in a container whose servers are of another user), or where it does not listen there.
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
