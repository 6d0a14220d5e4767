"""One interpreter for all agents: each task is a fork of it, which takes a millisecond and shares its memory."""

import contextlib
import os
import resource
import signal
import socket
import traceback

from . import system
from .birth import give_birth

_RAISED = ("NOFILE", "NPROC", "MEMLOCK", "CORE", "FSIZE", "STACK", "MSGQUEUE", "NICE", "RTPRIO", "SIGPENDING")


def raise_hard_limits() -> None:
    """Containers may lower a limit but not raise it, so it has to be high before they start. Only root may do it."""
    for name in _RAISED:
        with contextlib.suppress(OSError, ValueError):
            kind = getattr(resource, f"RLIMIT_{name}")
            soft, _ = resource.getrlimit(kind)
            resource.setrlimit(kind, (soft, 1 << 20 if name == "NOFILE" else resource.RLIM_INFINITY))


def main(control: int) -> None:
    """Each message carries the control socket of a new agent. Ends when the emulator does."""
    server = socket.socket(fileno=control)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    raise_hard_limits()
    while True:
        data, descriptors, _, _ = socket.recv_fds(server, 16, 1)
        if not data:
            return
        if os.fork() == 0:
            try:
                server.close()
                give_birth(socket.socket(fileno=descriptors[0]))
            except BaseException:
                traceback.print_exc()  # a mistake of ours: what the machine refuses was reported
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)
