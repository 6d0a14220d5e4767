"""A task made of loopback sockets: the network's plumbing without namespaces, and a small vocabulary for its tests."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from emulation.clock import SystemClock, real_sleep
from emulation.network.base import Attempt, Interface, Listening, Rule
from emulation.network.network import Network

ANYWHERE = IPv4Network("0.0.0.0/0")
OUT = (Rule("-1", 0, 65535, ANYWHERE),)

Address = tuple[IPv4Address, int]


def ip(text: str) -> IPv4Address:
    return IPv4Address(text)


def tcp(port: int, peer: str = "0.0.0.0/0") -> Rule:
    return Rule("tcp", port, port, peer if peer.startswith("sg-") else IPv4Network(peer))


def story(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test that is a coroutine function."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


class Groups:
    """Security groups in a dictionary. A group that was not given egress rules lets everything out, as on AWS."""

    def __init__(self, **ingress: tuple[Rule, ...]) -> None:
        self.rules = {name.replace("_", "-"): rules for name, rules in ingress.items()}
        self.out: dict[str, tuple[Rule, ...]] = {}

    def ingress(self, group_id: str) -> tuple[Rule, ...]:
        return self.rules.get(group_id, ())

    def egress(self, group_id: str) -> tuple[Rule, ...]:
        return self.out.get(group_id, OUT) if group_id in self.rules else ()


class FakePlumbing:
    """Closed to begin with: `connect` to an address that was not opened reports the attempt and waits, as TCP does."""

    def __init__(self) -> None:
        self.open: set[Address] = set()
        self.served: dict[Address, tuple[str, int]] = {}
        self.names: Mapping[str, IPv4Address] = {}
        self.programs: dict[int, asyncio.Server] = {}
        self.seen: list[IPv4Address] = []
        self.pumps: set[asyncio.Task[None]] = set()
        self._attempt: Attempt = lambda *_: None

    # Plumbing

    async def listen(self, address: IPv4Address, port: int) -> socket.socket:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.served[address, port] = sock.getsockname()
        return sock

    async def open_egress(self, address: IPv4Address, port: int) -> None:
        assert (address, port) in self.served, "packets would be delivered to nobody"
        self.open.add((address, port))

    async def close_egress(self, address: IPv4Address, port: int) -> None:
        self.open.discard((address, port))

    async def dial(self, port: int, source: IPv4Address) -> socket.socket:
        if port not in self.programs:
            raise ConnectionRefusedError(port)
        self.seen.append(source)
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.programs[port].sockets[0].getsockname())
        except BaseException:
            sock.close()
            raise
        return sock

    async def listening(self) -> Listening | None:
        return Listening(frozenset(self.programs), frozenset())

    def splice(self, one: socket.socket, other: socket.socket) -> None:
        pump = asyncio.get_running_loop().create_task(_pump(one, other))
        self.pumps.add(pump)
        pump.add_done_callback(self.pumps.discard)

    def watch(self, attempt: Attempt) -> None:
        self._attempt = attempt

    async def set_names(self, names: Mapping[str, IPv4Address]) -> None:
        self.names = dict(names)

    # What the task's programs do

    async def serve(self, port: int, greeting: bytes) -> None:
        """A program of the task that listens on the port: says its greeting, then echoes."""

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)
            with contextlib.suppress(OSError):
                while data := await reader.read(1000):
                    writer.write(data)
            writer.close()

        self.programs[port] = await asyncio.start_server(client, "127.0.0.1", 0)

    async def connect(self, address: str, port: int, within: float = 2) -> "Connection":
        """Repeats its SYN until it is answered; raises TimeoutError."""
        target = (ip(address), port)
        async with asyncio.timeout(within):
            while target not in self.open:
                self._attempt(*target)
                await real_sleep(0.01)
            return await Connection.open(*self.served[target])

    async def close(self) -> None:
        for program in self.programs.values():
            program.close()
            await program.wait_closed()
        for pump in list(self.pumps):
            pump.cancel()
        await asyncio.gather(*self.pumps, return_exceptions=True)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, host: str, port: int, within: float = 5) -> "Connection":
        """From the host. Raises TimeoutError when there is no answer."""
        async with asyncio.timeout(within):
            return cls(*await asyncio.open_connection(host, port))

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(size)

    async def echo(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.read(len(data))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def greeting(connection: Connection, size: int = 2) -> bytes:
    """What the program says first; closes the connection."""
    try:
        return await connection.read(size)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def network(groups: Groups) -> AsyncIterator[Network]:
    instance = Network(groups, SystemClock())
    try:
        yield instance
    finally:
        await instance.close()


def interface(
    eni_id: str, private_ip: str, *groups: str, vpc_id: str = "vpc-1", public: IPv4Address | None = None
) -> Interface:
    return Interface(eni_id, vpc_id, ip(private_ip), ip("10.0.1.1"), groups, public)


async def _pump(one: socket.socket, other: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    async def way(source: socket.socket, sink: socket.socket) -> None:
        while data := await loop.sock_recv(source, 65536):
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)

    try:
        await asyncio.gather(way(one, other), way(other, one), return_exceptions=True)
    finally:
        one.close()
        other.close()
