"""The network over the process runtime's real namespaces: what programs in tasks and on the host really see."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from emulation.clock import SystemClock, monotonic
from emulation.errors import RuntimeUnavailable
from emulation.images.build import build_python_app
from emulation.images.library import Library
from emulation.network.destination import Destination
from emulation.network.endpoint import Endpoint, Placement
from emulation.network.network import Network
from emulation.runtime.base import ContainerSpec, Line, PulledImage, Stream, Task, TaskSpec
from emulation.runtime.process import ProcessRuntime

from .fake_plumbing import Connection, Groups, interface, ip, network, story, tcp

SERVER = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True:
    client, (peer, _) = server.accept()
    client.sendall(f"{sys.argv[2]} {peer}\\n".encode())
    client.close()
"""
CLIENT = """
import socket, sys, time
begin = time.monotonic()
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as server:
        print(server.makefile().readline().strip(), end=" ")
except OSError as error:
    print(type(error).__name__, end=" ")
print(int((time.monotonic() - begin) * 1000))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    app = tmp_path_factory.mktemp("app")
    (app / "server.py").write_text(SERVER)
    (app / "client.py").write_text(CLIENT)
    library = Library(tmp_path_factory.mktemp("library"))
    build_python_app(app, library=library, names=["app:1"])
    return library


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's folder, in which the image stays unpacked from one test to the next."""
    return tmp_path_factory.mktemp("runtime")


class Machine:
    """A network and a process runtime, and tasks on them."""

    def __init__(self, net: Network, runtime: ProcessRuntime, image: PulledImage) -> None:
        self.net, self.runtime, self.image = net, runtime, image

    async def task(
        self, name: str, private_ip: str, *groups: str, ports: tuple[int, ...] = (), public: bool = False
    ) -> tuple[Task, IPv4Address | None]:
        address = self.net.allocate_public_address() if public else None
        place = interface(f"eni-{name}", private_ip, *groups, public=address)
        return await self.runtime.create_task(TaskSpec(name, name, place, ports)), address

    async def serve(self, task: Task, port: int, name: str) -> None:
        ready = asyncio.Event()

        async def output(line: Line) -> None:
            if line.stream is Stream.STDERR:
                raise AssertionError(line.data)
            ready.set()

        await task.start_container(self._container(f"server-{port}", "server.py", str(port), name), output)
        async with asyncio.timeout(10):
            await ready.wait()

    async def ask(self, task: Task, host: str, port: int, seconds: float = 5) -> tuple[str, int]:
        """What a client in the task is told, and after how many milliseconds."""
        lines: list[str] = []

        async def output(line: Line) -> None:
            lines.append(line.data.decode())

        name = f"client-{monotonic()}"
        container = await task.start_container(
            self._container(name, "client.py", host, str(port), str(seconds)), output
        )
        assert (await container.wait()).code == 0, lines
        answer, _, duration = lines[-1].rpartition(" ")
        return answer, int(duration)

    def _container(self, name: str, *command: str) -> ContainerSpec:
        return ContainerSpec(name, self.image, command=("python3", *command))


@contextlib.asynccontextmanager
async def machine(groups: Groups, library: Library, folder: Path) -> AsyncIterator[Machine]:
    async with network(groups) as net:
        runtime = ProcessRuntime(clock=SystemClock(), images=library, network=net, folder=folder)
        try:
            await runtime.start()
        except RuntimeUnavailable as error:
            pytest.skip(str(error))
        try:
            yield Machine(net, runtime, await runtime.pull("app:1", "123456789012"))
        finally:
            await runtime.close()


async def from_host(address: IPv4Address | None, port: int, within: float = 5) -> str:
    connection = await Connection.open(str(address), port, within)
    try:
        async with asyncio.timeout(10):
            return (await connection.reader.readline()).decode().strip()
    finally:
        await connection.close()


@story
async def test_two_tasks_listen_on_the_same_port_and_are_reached_by_host_and_peer(
    library: Library, folder: Path
) -> None:
    """Both listen on 0.0.0.0:7777. The host takes their public addresses, the peer the private one."""
    async with machine(Groups(sg_web=(tcp(7777),)), library, folder) as m:
        one, first = await m.task("one", "10.0.1.5", "sg-web", ports=(7777,), public=True)
        two, second = await m.task("two", "10.0.1.6", "sg-web", ports=(7777,), public=True)
        await m.serve(one, 7777, "one")
        await m.serve(two, 7777, "two")
        assert await from_host(first, 7777) == "one 203.0.113.1"
        assert await from_host(second, 7777) == "two 203.0.113.1"
        assert (await m.ask(one, "10.0.1.6", 7777))[0] == "two 10.0.1.5"
        assert (await m.ask(two, "10.0.1.5", 7777))[0] == "one 10.0.1.6"


@story
async def test_a_denied_connection_hangs_and_is_served_once_it_is_permitted(library: Library, folder: Path) -> None:
    """From the host and from a peer: no answer, then, after the rule was added, the program."""
    groups = Groups(sg_web=(), sg_client=())
    async with machine(groups, library, folder) as m:
        server, address = await m.task("server", "10.0.1.5", "sg-web", ports=(7777,), public=True)
        client, _ = await m.task("client", "10.0.1.6", "sg-client")
        await m.serve(server, 7777, "server")
        with pytest.raises(TimeoutError):
            await from_host(address, 7777, within=0.3)
        answer, duration = await m.ask(client, "10.0.1.5", 7777, 0.5)
        assert answer == "TimeoutError" and duration >= 500
        assert [(denial.source, str(denial.destination), denial.port) for denial in m.net.denials] == [
            ("eni-client (10.0.1.6)", "10.0.1.5", 7777),
            ("the host", str(address), 7777),
        ]
        groups.rules["sg-web"] = (tcp(7777, "sg-client"),)
        await m.net.refresh()
        assert (await m.ask(client, "10.0.1.5", 7777))[0] == "server 10.0.1.6"
        with pytest.raises(TimeoutError):
            await from_host(address, 7777, within=0.3)
        groups.rules["sg-web"] = (tcp(7777),)
        await m.net.refresh()
        assert await from_host(address, 7777) == "server 203.0.113.1"


@story
async def test_a_port_nobody_declared_is_opened_by_the_first_attempt(library: Library, folder: Path) -> None:
    """The client's first packet finds nothing open; at the latest TCP's first repetition, after a second, does."""
    async with machine(Groups(sg_web=(tcp(9000, "sg-web"),)), library, folder) as m:
        client, _ = await m.task("client", "10.0.1.6", "sg-web")
        server, _ = await m.task("server", "10.0.1.5", "sg-web")
        await m.serve(server, 9000, "server")
        answer, duration = await m.ask(client, "10.0.1.5", 9000)
        assert answer == "server 10.0.1.6" and duration < 3000


@story
async def test_destinations_on_the_host_are_reached_by_name_and_metadata_whatever_the_rules(
    library: Library, folder: Path
) -> None:
    """A database by its name; the task's metadata though nothing may leave the task."""
    groups = Groups(sg_app=(), sg_closed=())
    groups.out["sg-closed"] = ()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    async with machine(groups, library, folder) as m, await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        upstream = server.sockets[0].getsockname()
        await m.net.announce(Destination(ip("10.0.2.9"), 5432, upstream, "vpc-1", ("db.example.internal",)))
        await m.net.announce(Destination(ip("169.254.170.2"), 80, upstream))
        app, _ = await m.task("app", "10.0.1.5", "sg-app")
        closed, _ = await m.task("closed", "10.0.1.6", "sg-closed")
        assert (await m.ask(app, "db.example.internal", 5432))[0] == "hello"
        assert (await m.ask(closed, "169.254.170.2", 80))[0] == "hello"
        assert (await m.ask(closed, "db.example.internal", 5432, 0.3))[0] == "TimeoutError"


@story
async def test_an_endpoint_is_one_address_for_host_and_tasks_and_silent_where_groups_deny_it(
    library: Library, folder: Path
) -> None:
    """The host's address, the private one and the name lead to it; after the rule has gone, none of them answers."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    groups = Groups(sg_app=(), sg_cache=(tcp(6379, "sg-app"),))
    async with machine(groups, library, folder) as m:
        endpoint = Endpoint(m.net, 6379)
        places = (str(endpoint.address), "10.0.2.9", "cache.example.internal")
        async with await asyncio.start_server(greet, str(endpoint.address), endpoint.port):
            app, _ = await m.task("app", "10.0.1.5", "sg-app")
            other, _ = await m.task("other", "10.0.1.6")
            admitted: list[bool] = []
            placement = Placement("vpc-1", ("sg-cache",), ip("10.0.2.9"), "eni-cache")
            await endpoint.announce(placement, places[2:], admit=admitted.append)
            assert await from_host(endpoint.address, 6379) == "hello"
            assert [(await m.ask(app, place, 6379))[0] for place in places] == ["hello"] * 3
            answer, duration = await m.ask(other, places[0], 6379, 0.3)
            assert answer == "TimeoutError" and duration >= 300
            assert [(d.source, str(d.destination)) for d in m.net.denials] == [("eni-other (10.0.1.6)", places[0])]
            groups.rules["sg-cache"] = (tcp(6379),)
            await m.net.refresh()
            groups.rules["sg-cache"] = ()
            await m.net.refresh()
            assert admitted == [False, True, False]
            assert [(await m.ask(app, place, 6379, 0.3))[0] for place in places] == ["TimeoutError"] * 3
            await endpoint.release()
            assert (await m.ask(app, places[0], 6379, 0.3))[0] == "ConnectionRefusedError"


@story
async def test_a_program_that_is_not_there_yet_resets_its_client(library: Library, folder: Path) -> None:
    """The port is open, nobody listens: the host's client and the peer's are told so at once."""
    async with machine(Groups(sg_web=(tcp(7777),)), library, folder) as m:
        _, address = await m.task("server", "10.0.1.5", "sg-web", ports=(7777,), public=True)
        client, _ = await m.task("client", "10.0.1.6", "sg-web")
        with pytest.raises(ConnectionResetError):
            await from_host(address, 7777)
        assert (await m.ask(client, "10.0.1.5", 7777))[0] == "ConnectionResetError"
