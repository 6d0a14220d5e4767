"""The agent's loop: requests of the emulator, exits of containers, and the bytes between connections. One thread."""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

from . import launch, netlink, system
from .pump import Pump

Reply = tuple[dict[str, Any], list[int]]

IP_TRANSPARENT = 19
_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_ETH_P_IP = 0x0800
# Accepts IPv4 TCP segments with SYN and without ACK that are no fragments. Source: packet(7), linux/filter.h.
_BARE_SYNS = (
    (0x28, 0, 0, 12),  # ldh [12]: the Ethernet type
    (0x15, 0, 8, _ETH_P_IP),
    (0x30, 0, 0, 23),  # ldb [23]: the protocol
    (0x15, 0, 6, netlink.TCP),
    (0x28, 0, 0, 20),  # ldh [20]: the fragment offset
    (0x45, 4, 0, 0x1FFF),
    (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf): the length of the IP header
    (0x50, 0, 0, 27),  # ldb [x+27]: the TCP flags
    (0x54, 0, 0, 0x12),
    (0x15, 1, 0, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFF),
)


class Agent:
    """`eni`, `router` (R) and `inside` (T, both descriptors) are set where the task has a network of its own."""

    def __init__(self, control: socket.socket) -> None:
        self.eni = ""
        self.router = self.inside = -1
        self.has_sysfs = False
        self._control, self._poll = control, select.epoll()
        self._pumps: dict[int, Pump] = {}
        self._busy: set[Pump] = set()
        self._launchers: set[int] = set()
        self._containers = -1  # U2

    def serve(self) -> None:
        """Ends the process when the emulator has gone."""
        exits, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._poll.register(self._control.fileno(), select.EPOLLIN)
        self._poll.register(exits, select.EPOLLIN)
        while True:
            for descriptor, _ in self._poll.poll(0 if self._busy else -1):
                if descriptor == self._control.fileno():
                    self._receive()
                elif descriptor == exits:
                    with contextlib.suppress(BlockingIOError):
                        os.read(exits, 4096)
                    self._reap()
                elif descriptor in self._pumps:
                    self._busy.add(self._pumps[descriptor])
            self._busy = {pump for pump in self._busy if pump.step()}

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
        except OSError:  # the emulator has gone
            os._exit(0)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._launchers:
                self._launchers.discard(pid)
                continue
            code = os.waitstatus_to_exitcode(status)
            self._send({"event": "exit", "pid": pid, "code": code if code >= 0 else 128 - code}, [])

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 64, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, descriptors = b"", []
        if not data:
            os._exit(0)
        message = json.loads(data)
        answer: dict[str, Any]
        out: list[int]
        try:
            answer, out = _OPERATIONS[message["op"]](self, message, descriptors)
        except OSError as error:
            answer, out = {"error": system.reason(error), "errno": error.errno}, []
        if message["id"]:
            self._send({"id": message["id"], **answer}, out)
        for descriptor in (*descriptors, *out):
            os.close(descriptor)

    # Sockets and packets

    def _inside(self) -> None:
        system.setns(self.inside, system.NEWNET)

    def _back(self) -> None:
        system.setns(self.router, system.NEWNET)

    def _socket(self, inside: bool) -> socket.socket:
        if inside:
            self._inside()
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            if inside:
                self._back()
        if not inside:
            sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)  # it may bind any address, also later, in the emulator
        return sock

    def listen(self, message: dict[str, Any], _: list[int]) -> Reply:
        with self._socket(message["inside"]) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((message["address"], message["port"]))
            sock.listen(256)
            return {}, [sock.detach()]

    def tables(self, _message: dict[str, Any], _: list[int]) -> Reply:
        """The tables of the task's TCP sockets, open to be read: which network they are of was decided by opening."""
        self._inside()
        try:
            return {}, [os.open(f"/proc/thread-self/net/{name}", os.O_RDONLY) for name in ("tcp", "tcp6")]
        finally:
            self._back()

    def sockets(self, message: dict[str, Any], _: list[int]) -> Reply:
        return {}, [self._socket(False).detach() for _ in range(message["count"])]

    def egress(self, message: dict[str, Any], _: list[int]) -> Reply:
        netlink.rule(message["open"], self.eni, destination=message["address"], port=message["port"])
        return {}, []

    def answers(self, message: dict[str, Any], _: list[int]) -> Reply:
        """Lets the answers of one of the task's ports leave."""
        netlink.rule(True, self.eni, source_port=message["port"])
        return {}, []

    def capture(self, _: dict[str, Any], __: list[int]) -> Reply:
        """Two packet sockets: one that sees the SYNs that come from the task, and one that sends frames as the task."""
        instructions = b"".join(struct.pack("=HBBI", *line) for line in _BARE_SYNS)
        buffer = ctypes.create_string_buffer(instructions)
        program = struct.pack("@HP", len(_BARE_SYNS), ctypes.addressof(buffer))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as seen:
            seen.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
            # With the header that says that the checksum is still to be computed, which the sender hands back.
            seen.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            seen.bind(("uplink", _ETH_P_IP))
            self._inside()
            try:
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                    sender.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
                    sender.bind(("eth0", 0))
                    return {}, [seen.detach(), sender.detach()]
            finally:
                self._back()

    def pump(self, _: dict[str, Any], descriptors: list[int]) -> Reply:
        self._busy.add(Pump(self._poll, descriptors[0], descriptors[1], self._pumps))
        descriptors.clear()
        return {}, []

    # Processes

    def run(self, message: dict[str, Any], descriptors: list[int]) -> Reply:
        return self._launch(launch.run, message, descriptors)

    def execute(self, message: dict[str, Any], descriptors: list[int]) -> Reply:
        return self._launch(launch.execute, message, descriptors)

    def try_out(self, message: dict[str, Any], descriptors: list[int]) -> Reply:
        return self._launch(launch.try_out, message, descriptors)

    def kill(self, message: dict[str, Any], _: list[int]) -> Reply:
        with contextlib.suppress(ProcessLookupError):
            os.kill(message["pid"], message["signal"])
        return {}, []

    def _launch(
        self,
        work: Callable[[launch.Launch], None],
        message: dict[str, Any],
        descriptors: list[int],
    ) -> Reply:
        """Forks a launcher, which reports over the status pipe (the second descriptor) and exits."""
        with os.fdopen(os.dup(descriptors[0]), "rb") as file:
            settings = json.load(file)
        if self._containers < 0:
            self._containers = _user_namespace(settings["ids"])
        request = launch.Launch(settings, descriptors, self._containers, self.inside, self.has_sysfs)
        pid = os.fork()
        if pid == 0:
            launch.guarded(work, request)  # never returns
        self._launchers.add(pid)
        return {}, []


def _user_namespace(ids: int) -> int:
    """U2: a child user namespace with the same ids, so that containers hold no power over the task's networks."""
    (ready, tell_ready), (go, tell_go) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(tell_go)
            system.unshare(system.NEWUSER)
            system.prctl(system.PR_SET_DUMPABLE, 1)
            os.write(tell_ready, b"x")
            os.read(go, 1)
        finally:
            os._exit(0)
    os.close(tell_ready)
    try:
        if os.read(ready, 1):
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{pid}/{name}", "w") as file:
                    file.write(f"0 0 {ids}")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready, go, tell_go):
            os.close(descriptor)
        os.waitpid(pid, 0)


_OPERATIONS: dict[str, Callable[[Agent, dict[str, Any], list[int]], Reply]] = {
    "listen": Agent.listen,
    "sockets": Agent.sockets,
    "tables": Agent.tables,
    "egress": Agent.egress,
    "answers": Agent.answers,
    "capture": Agent.capture,
    "pump": Agent.pump,
    "run": Agent.run,
    "execute": Agent.execute,
    "try": Agent.try_out,
    "kill": Agent.kill,
}
