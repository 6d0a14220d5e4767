"""The process runtime: what it gives the network of a task. The other end of each connection is a real program."""

import asyncio
import contextlib
import socket
from ipaddress import IPv4Address

import pytest

from emulation.clock import monotonic, real_sleep
from emulation.network.base import Listening
from emulation.runtime.base import Container
from tests.runtime.stage import Printed, Stage, Theatre, descriptors, inside

FOREVER = ("sleep", "1000")
DATABASE = IPv4Address("10.0.2.9")
CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as c:
        c.sendall(b"question"); c.shutdown(1); print(c.makefile().read())
except OSError as e: print(type(e).__name__)
"""
SERVER = """
import socket
s = socket.create_server(("0.0.0.0", 7777)); print("up", flush=True)
while True:
    c, (peer, _) = s.accept(); count = 0
    while got := c.recv(1 << 18): count += len(got)
    c.sendall(b"%d from %s" % (count, peer.encode())); c.close()
"""


async def connect(container: Container, address: object, port: int, seconds: float = 2) -> str:
    _, lines = await inside(container, "python3", "-I", "-S", "-c", CLIENT, str(address), str(port), str(seconds))
    return lines[0]


async def answer(listener: socket.socket, text: bytes) -> str:
    """Serves one connection; gives the peer's address."""
    loop = asyncio.get_running_loop()
    connection, peer = await loop.sock_accept(listener)
    with connection:
        while await loop.sock_recv(connection, 4096):
            pass
        await loop.sock_sendall(connection, text)
    return str(peer[0])


async def ask(sock: socket.socket, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with sock:
        await loop.sock_sendall(sock, question)
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while got := await loop.sock_recv(sock, 65536):
            data += got
    return data


def test_an_address_that_was_opened_must_answer_and_a_closed_one_be_silent(play_process: Theatre) -> None:
    """Denied means no answer, as on AWS; what was closed again is silent too; 127.0.0.1 is the task's own."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER)
        plumbing = stage.network.plumbing["eni-5"]
        assert await connect(container, DATABASE, 5432, 0.3) == "TimeoutError"
        with await plumbing.listen(DATABASE, 5432) as listener:
            await plumbing.open_egress(DATABASE, 5432)
            await plumbing.open_egress(DATABASE, 5432)
            peer, said = await asyncio.gather(answer(listener, b"rows"), connect(container, DATABASE, 5432))
            assert (peer, said) == ("10.0.1.5", "rows")
            assert await connect(container, DATABASE, 5433, 0.3) == "TimeoutError"
            await plumbing.close_egress(DATABASE, 5432)
            await plumbing.close_egress(DATABASE, 5432)
            assert await connect(container, DATABASE, 5432, 0.3) == "TimeoutError"
        with await plumbing.listen(IPv4Address("127.0.0.1"), 4566) as listener:
            assert (await asyncio.gather(answer(listener, b"aws"), connect(container, "127.0.0.1", 4566)))[1] == "aws"
        assert await connect(container, "127.0.0.1", 4567) == "ConnectionRefusedError"

    play_process(story)


def test_a_connection_that_is_opened_on_demand_must_not_wait_for_tcps_repetition(play_process: Theatre) -> None:
    """The attempt is reported at once; where it is opened then, the program connects well within TCP's first second."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER)
        plumbing = stage.network.plumbing["eni-5"]
        attempts: asyncio.Queue[tuple[IPv4Address, int]] = asyncio.Queue()
        plumbing.watch(lambda address, port: attempts.put_nowait((address, port)))
        client = asyncio.create_task(connect(container, DATABASE, 5432, 5))
        async with asyncio.timeout(5):
            assert await attempts.get() == (DATABASE, 5432)
        begun = monotonic()
        with await plumbing.listen(DATABASE, 5432) as listener:
            await plumbing.open_egress(DATABASE, 5432)
            await answer(listener, b"rows")
        assert monotonic() - begun < 0.7
        assert await client == "rows"
        assert attempts.empty()

    play_process(story)


def test_a_program_must_be_reached_and_see_who_asks(play_process: Theatre) -> None:
    """`dial` shows the source it was given; nobody there is a refusal."""

    async def story(stage: Stage) -> None:
        task, printed = await stage.task(), Printed()
        plumbing = stage.network.plumbing["eni-5"]
        attempts: list[object] = []
        plumbing.watch(lambda *attempt: attempts.append(attempt))
        with pytest.raises(ConnectionRefusedError):
            await plumbing.dial(7777, IPv4Address("10.0.0.20"))
        await stage.run(task, "python3", "-I", "-S", "-c", SERVER, output=printed)
        await printed.until("up")
        for source, seen in (("10.0.0.20", "10.0.0.20"), ("203.0.113.1", "203.0.113.1"), ("10.0.1.5", "10.0.1.1")):
            sock = await plumbing.dial(7777, IPv4Address(source))
            assert await ask(sock, b"hello") == f"5 from {seen}".encode()
        many = await asyncio.gather(*(plumbing.dial(7777, IPv4Address("10.0.0.20")) for _ in range(30)))
        assert {await ask(sock, b"x") for sock in many} == {b"1 from 10.0.0.20"}
        assert attempts == []  # they are not the task's

    play_process(story)


def test_bytes_between_two_tasks_must_all_arrive(play_process: Theatre) -> None:
    """Spliced in the agent: large, in both directions, half-closed; and no descriptor stays behind."""

    async def story(stage: Stage) -> None:
        one, other, printed = await stage.task(5), await stage.task(6), Printed()
        await stage.run(other, "python3", "-I", "-S", "-c", SERVER, output=printed)
        await printed.until("up")
        client = await stage.run(one, *FOREVER)
        here, there = stage.network.plumbing["eni-5"], stage.network.plumbing["eni-6"]
        target = IPv4Address("10.0.1.6")
        with await here.listen(target, 7777) as listener:
            await here.open_egress(target, 7777)

            async def join() -> None:
                while True:
                    accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
                    here.splice(accepted, await there.dial(7777, IPv4Address("10.0.1.5")))

            joining = asyncio.create_task(join())
            assert await connect(client, target, 7777) == "8 from 10.0.1.5"
            most = descriptors() + 8  # the spare sockets that dialling keeps
            big = CLIENT.replace('b"question"', 'b"x" * 50_000_000')
            _, lines = await inside(client, "python3", "-I", "-S", "-c", big, str(target), "7777", "20")
            assert lines == ["50000000 from 10.0.1.5"]
            results = await asyncio.gather(*(connect(client, target, 7777, 10) for _ in range(12)))
            assert set(results) == {"8 from 10.0.1.5"}
            assert descriptors() <= most
            joining.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await joining

    play_process(story)


def test_a_task_without_an_interface_must_share_the_hosts_network(play_process: Theatre) -> None:
    """Nobody tells the network about it."""

    async def story(stage: Stage) -> None:
        task = await stage.task(interface=None)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            container = await stage.run(task, *FOREVER)
            port = listener.getsockname()[1]
            said = await asyncio.gather(answer(listener, b"host"), connect(container, "127.0.0.1", port))
            assert said == ["127.0.0.1", "host"]
        assert stage.network.plumbing == {}

    play_process(story)


def test_a_network_that_refuses_a_task_must_leave_nothing_of_it(play_process: Theatre) -> None:
    """Its error reaches who asked for the task."""

    async def story(stage: Stage) -> None:
        async def attach(*_: object, **__: object) -> None:
            raise PermissionError("no address left")

        stage.network.attach = attach  # type: ignore[method-assign]
        with pytest.raises(PermissionError, match="no address left"):
            await stage.task()
        assert stage.network.detached == ["eni-5"]
        await real_sleep(0)

    play_process(story)


def test_what_a_task_listens_on_must_be_known(play_process: Theatre) -> None:
    """Ports that others reach are told from those that only the task itself does."""
    code = (
        "import socket, time\n"
        "a = socket.create_server(('0.0.0.0', 7777)); b = socket.create_server(('127.0.0.1', 8000))\n"
        "print('up', flush=True); time.sleep(60)"
    )

    async def story(stage: Stage) -> None:
        printed = Printed()
        await stage.run(await stage.task(), "python3", "-I", "-S", "-c", code, output=printed)
        await printed.until("up")
        plumbing = stage.network.plumbing["eni-5"]
        assert await plumbing.listening() == Listening(frozenset({7777}), frozenset({8000}))

    play_process(story)
