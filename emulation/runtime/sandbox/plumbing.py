"""What the network gets of one task: sockets in its namespaces, routing rules, and the attempts that nothing answers.

`NamespacePlumbing` is the real thing; `HostPlumbing` stands in where no network namespace can be made.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address

from emulation.clock import monotonic
from emulation.network.base import Attempt, Listening
from emulation.runtime.sandbox.channel import AgentGone, Channel

log = logging.getLogger(__name__)

_DIAL_SECONDS = 5
_SPARE_SOCKETS = 8
_REPEAT_SECONDS = 1.0
"""A SYN that is older is repeated by the task's own TCP."""
_MOST_ATTEMPTS = 64
_LOOPBACK_6 = "00000000000000000000000001000000"
_IP_HEADER = 10 + 14
"""Where it begins: after the kernel's own header (struct virtio_net_hdr) and Ethernet's."""

Address = tuple[IPv4Address, int]


class NamespacePlumbing:
    """Plumbing of a task with network namespaces of its own. `write_names` is told of new names."""

    def __init__(
        self,
        channel: Channel,
        address: IPv4Address,
        gateway: IPv4Address,
        write_names: Callable[[Mapping[str, IPv4Address]], None],
    ) -> None:
        self._channel, self._address, self._gateway, self._write_names = channel, address, gateway, write_names
        self._open: set[Address] = set()
        self._answering: dict[int, asyncio.Future[None]] = {}
        self._spare: list[socket.socket] = []
        self._attempt: Attempt | None = None
        self._capture: tuple[socket.socket, socket.socket] | None = None
        self._unanswered: dict[Address, list[tuple[float, bytes]]] = {}

    async def prepare(self) -> None:
        """Opens the packet sockets of `watch`. A kernel without them still runs tasks."""
        try:
            seen, sender = (socket.socket(fileno=one) for one in await self._channel.call("capture"))
        except AgentGone:
            raise
        except OSError as error:
            log.warning("Connections to closed addresses are not seen, so they cannot be explained: %s", error)
            return
        seen.setblocking(False)
        sender.setblocking(False)
        self._capture = seen, sender
        asyncio.get_running_loop().add_reader(seen.fileno(), self._seen)

    async def listen(self, address: IPv4Address, port: int) -> socket.socket:
        inside = address.is_loopback or address == self._address
        received = await self._channel.call("listen", address=str(address), port=port, inside=inside)
        return _adopt(received[0])

    async def open_egress(self, address: IPv4Address, port: int) -> None:
        if address.is_loopback or (address, port) in self._open:
            return
        self._open.add((address, port))
        try:
            await self._channel.call("egress", open=True, address=str(address), port=port)
        except BaseException:
            self._open.discard((address, port))
            raise
        self._repeat((address, port))

    async def close_egress(self, address: IPv4Address, port: int) -> None:
        if (address, port) in self._open:
            self._open.discard((address, port))
            await self._channel.call("egress", open=False, address=str(address), port=port)

    async def dial(self, port: int, source: IPv4Address) -> socket.socket:
        await self._let_answers_leave(port)
        # A packet that claims to come from the task itself would be thrown away by the task's kernel.
        seen_as = self._gateway if source == self._address else source
        sock = await self._transparent_socket()
        try:
            sock.bind((str(seen_as), 0))
            await _connect(sock, str(self._address), port)
        except BaseException:
            sock.close()
            raise
        return sock

    async def listening(self) -> Listening | None:
        try:
            tables = await self._channel.call("tables")
        except OSError:
            return None
        return await asyncio.to_thread(_read, tables)

    def splice(self, one: socket.socket, other: socket.socket) -> None:
        self._channel.send({"op": "pump", "id": 0}, [one.fileno(), other.fileno()])
        one.close()
        other.close()

    def watch(self, attempt: Attempt) -> None:
        self._attempt = attempt

    async def set_names(self, names: Mapping[str, IPv4Address]) -> None:
        self._write_names(names)

    def close(self) -> None:
        if self._capture is not None:
            asyncio.get_running_loop().remove_reader(self._capture[0].fileno())
            for sock in self._capture:
                sock.close()
            self._capture = None
        for sock in self._spare:
            sock.close()
        self._spare.clear()

    async def _let_answers_leave(self, port: int) -> None:
        """Once for each port; who comes while it is being done waits for it."""
        known = self._answering.get(port)
        if known is not None:
            await asyncio.shield(known)
            return
        known = self._answering[port] = asyncio.get_running_loop().create_future()
        try:
            await self._channel.call("answers", port=port)
        except BaseException as error:
            del self._answering[port]
            known.set_exception(error if isinstance(error, Exception) else ConnectionAbortedError())
            known.exception()  # nobody else may have waited
            raise
        known.set_result(None)

    async def _transparent_socket(self) -> socket.socket:
        while not self._spare:
            received = await self._channel.call("sockets", count=_SPARE_SOCKETS)
            self._spare += [_adopt(one) for one in received]
        return self._spare.pop()

    def _seen(self) -> None:
        if self._capture is None:
            return
        for _ in range(_MOST_ATTEMPTS):
            try:
                frame = self._capture[0].recv(2048)
            except OSError:
                return
            header = (frame[_IP_HEADER] & 0xF) * 4
            address = IPv4Address(frame[_IP_HEADER + 16 : _IP_HEADER + 20])
            (port,) = struct.unpack_from("!H", frame, _IP_HEADER + header + 2)
            # What is dialled on the emulator's behalf passes by here too.
            if (address, port) in self._open or address in (self._address, self._gateway):
                continue
            self._remember((address, port), frame)
            if self._attempt is not None:
                self._attempt(address, port)

    def _remember(self, address: Address, frame: bytes) -> None:
        now = monotonic()
        for known, frames in list(self._unanswered.items()):
            if frames[-1][0] < now - _REPEAT_SECONDS:
                del self._unanswered[known]
        if len(self._unanswered) < _MOST_ATTEMPTS:
            self._unanswered.setdefault(address, []).append((now, frame))
            del self._unanswered[address][:-_MOST_ATTEMPTS]

    def _repeat(self, address: Address) -> None:
        """The task's TCP would try again after a second. Its own packet, sent once more, spares it the wait."""
        if self._capture is None:
            return
        for seen, frame in self._unanswered.pop(address, []):
            if seen > monotonic() - _REPEAT_SECONDS:
                with contextlib.suppress(OSError):
                    self._capture[1].send(frame)


class HostPlumbing:
    """Plumbing of a task that shares the host's network: its ports are the host's, allotted; nothing is closed."""

    def __init__(self, ports: Mapping[int, int], write_names: Callable[[Mapping[str, IPv4Address]], None]) -> None:
        self._ports, self._write_names = ports, write_names
        self._joined: set[asyncio.Task[None]] = set()

    async def listen(self, address: IPv4Address, port: int) -> socket.socket:
        """Emulation: what the task connects to is the host's; nobody ever connects to this listener."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    async def open_egress(self, address: IPv4Address, port: int) -> None:
        pass

    async def close_egress(self, address: IPv4Address, port: int) -> None:
        pass

    async def dial(self, port: int, source: IPv4Address) -> socket.socket:
        """Emulation: the program sees 127.0.0.1 as its peer."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await _connect(sock, "127.0.0.1", self._ports.get(port, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def listening(self) -> Listening | None:
        return None

    def splice(self, one: socket.socket, other: socket.socket) -> None:
        job = asyncio.get_running_loop().create_task(_join(one, other))
        self._joined.add(job)
        job.add_done_callback(self._joined.discard)

    def watch(self, attempt: Attempt) -> None:
        pass

    async def set_names(self, names: Mapping[str, IPv4Address]) -> None:
        self._write_names(names)

    def close(self) -> None:
        for job in self._joined:
            job.cancel()


def _read(tables: Iterable[int]) -> Listening:
    """From /proc/net/tcp and tcp6. Source: proc_net_tcp: state 0A is LISTEN, addresses are words of the machine."""
    rows: list[str] = []
    for table in tables:
        with open(table) as file:
            rows += file.read().splitlines()[1:]
    everywhere: set[int] = set()
    loopback: set[int] = set()
    for row in rows:
        _, local, _, state, *_ = row.split()
        if state != "0A":
            continue
        address, _, port = local.partition(":")
        inside = address.endswith("7F") if len(address) == 8 else address == _LOOPBACK_6
        (loopback if inside else everywhere).add(int(port, 16))
    return Listening(frozenset(everywhere), frozenset(loopback - everywhere))


def _adopt(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


async def _connect(sock: socket.socket, host: str, port: int) -> None:
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except ConnectionRefusedError:
        raise
    except OSError as error:
        if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
            raise TimeoutError(f"no answer from {host}:{port} within {_DIAL_SECONDS} s") from None
        raise ConnectionRefusedError(f"{host}:{port}: {error}") from error


async def _join(one: socket.socket, other: socket.socket) -> None:
    streams = [await asyncio.open_connection(sock=sock) for sock in (one, other)]
    (reader, writer), (other_reader, other_writer) = streams
    try:
        await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
    finally:
        writer.close()
        other_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()
