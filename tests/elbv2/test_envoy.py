"""The real Envoy, in front of small servers of this process."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import wraps
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from emulation.clock import real_sleep
from emulation.elbv2.envoy import Envoy
from emulation.elbv2.envoy_config import Rendered, render
from emulation.elbv2.records import (
    Condition,
    FixedResponse,
    Forward,
    Listener,
    LoadBalancer,
    Redirect,
    Rule,
    TargetGroup,
)

PREFIX = "arn:aws:elasticloadbalancing:us-east-1:123456789012:"
GROUP = TargetGroup(f"{PREFIX}targetgroup/web/aa", "vpc-1")
OTHER = TargetGroup(f"{PREFIX}targetgroup/other/bb", "vpc-1", sticky_for=timedelta(minutes=1))
ADDRESS = IPv4Address("127.0.3.77")  # below the addresses that emulators allocate


def story(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((str(ADDRESS), 0))
        return int(probe.getsockname()[1])


def balancer(port: int, *rules: Rule, **settings: Any) -> LoadBalancer:
    arn = f"{PREFIX}loadbalancer/app/lb/cc"
    default = Rule(Forward(((GROUP.arn, 1),)))
    listener = Listener(arn.replace("loadbalancer", "listener") + "/dd", 80, port, (*rules, default))
    private = (IPv4Address("10.0.0.9"),)
    return LoadBalancer(arn, "vpc-1", str(ADDRESS), private, ADDRESS, listeners=(listener,), **settings)


def rendered(
    one: LoadBalancer, targets: list[tuple[str, int]], others: list[tuple[str, int]] | None = None
) -> Rendered:
    return render([one], {GROUP.arn: GROUP, OTHER.arn: OTHER}, {GROUP.arn: targets, OTHER.arn: others or []})


@asynccontextmanager
async def envoy(folder: Path, died: Callable[[], object] = lambda: None) -> AsyncIterator[Envoy]:
    made = Envoy(folder / "envoy", died)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def target(name: str, delay: float = 0) -> AsyncIterator[tuple[str, int]]:
    """An HTTP server that answers with its name and the headers that it got; after `delay` seconds, for /slow."""
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if head.startswith("GET /slow"):
                    await real_sleep(delay)
                if "upgrade: websocket" in head:
                    writer.write(
                        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
                    )
                    writer.write(await reader.readexactly(4))
                    continue
                body = json.dumps({"name": name, "head": head}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()
        busy.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for task in tuple(busy):
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def ask(port: int, path: str = "/", *headers: str) -> str:
    """The whole answer, head and body."""
    reader, writer = await asyncio.open_connection(str(ADDRESS), port)
    lines = [f"GET {path} HTTP/1.1", "Host: example.com", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read(-1)
    writer.close()
    return answer.decode()


@story
async def test_rules_and_headers_are_those_of_a_load_balancer(tmp_path: Path) -> None:
    """One Envoy takes every kind of rule at once, and each does what it says."""
    rules = (
        Rule(Redirect(302, host="example.org", port="8443"), (Condition("path-pattern", ("/old/*",)),)),
        Rule(FixedResponse(404, "application/json", "{}"), (Condition("http-header", ("yes",), name="X-Gone"),)),
        Rule(FixedResponse(200, "", "from inside"), (Condition("source-ip", ("10.0.0.0/8",)),)),
        Rule(Forward(((OTHER.arn, 1),)), (Condition("query-string", ("other",), keys=("to",)),)),
        Rule(Forward(((GROUP.arn, 1), (OTHER.arn, 1)), timedelta(minutes=1)), (Condition("path-pattern", ("/both",)),)),
    )
    port = free_port()
    async with target("web") as web, target("other") as other, envoy(tmp_path) as plane:
        await plane.apply(rendered(balancer(port, *rules), [web], [other]))

        seen = await ask(
            port, "/a?b=c", "X-Forwarded-For: 1.2.3.4", "X-Amzn-Trace-Id: Root=1-aa-bb", "X-Sunabox-Source-Ip: 10.0.0.1"
        )
        assert '"name": "web"' in seen and "x-forwarded-for: 1.2.3.4," in seen
        assert "x-forwarded-proto: http" in seen and "x-forwarded-port: 80" in seen
        assert ";Root=1-aa-bb" in seen and "x-amzn-trace-id: Self=1-" in seen
        assert "x-envoy" not in seen and "x-sunabox" not in seen and "x-request-id" not in seen
        moved = await ask(port, "/old/a?b=c")
        assert moved.startswith("HTTP/1.1 302") and "location: http://example.org:8443/old/a?b=c\r\n" in moved
        assert (await ask(port, "/", "X-Gone: yes")).startswith("HTTP/1.1 404")
        sticky = await ask(port, "/?to=other")
        assert '"name": "other"' in sticky and "set-cookie: AWSALB=" in sticky
        for group, name in (("aa", "web"), ("bb", "other")):
            stuck = [await ask(port, "/both", f"Cookie: AWSALBTG={group}") for _ in range(4)]
            assert all(f'"name": "{name}"' in answer for answer in stuck)

        reader, writer = await asyncio.open_unix_connection(f"{plane.reachable_folder}/in-dd.sock")
        writer.write(b"PROXY TCP4 10.1.2.3 10.0.0.9 1024 80\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read(-1)).endswith(b"from inside")
        writer.close()


@story
async def test_a_websocket_passes(tmp_path: Path) -> None:
    """After the upgrade, bytes go both ways."""
    port = free_port()
    async with target("web") as web, envoy(tmp_path) as plane:
        await plane.apply(rendered(balancer(port), [web]))
        reader, writer = await asyncio.open_connection(str(ADDRESS), port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        writer.close()


@story
async def test_no_request_fails_while_targets_rules_and_groups_come_and_go(tmp_path: Path) -> None:
    """Changes are made before they are needed, and unmade after; requests in flight are finished."""
    port = free_port()
    async with target("one", 1.0) as one, target("two") as two, envoy(tmp_path) as plane:
        await plane.apply(rendered(balancer(port), [one]))
        slow = asyncio.ensure_future(ask(port, "/slow"))
        await real_sleep(0.2)
        answers: list[str] = []
        over = asyncio.Event()

        async def load() -> None:
            while not over.is_set():
                answers.append(await ask(port, "/both"))

        clients = [asyncio.ensure_future(load()) for _ in range(3)]
        both = Rule(Forward(((GROUP.arn, 1), (OTHER.arn, 1))), (Condition("path-pattern", ("/both",)),))
        while len(answers) < 100:
            await plane.apply(rendered(balancer(port), [one, two]))
            await plane.apply(rendered(balancer(port, both), [two], [one]))
            await plane.apply(rendered(balancer(port, idle_timeout=timedelta(seconds=30)), [two]))
            await plane.apply(rendered(balancer(port), [two]))
        over.set()
        await asyncio.gather(*clients)
        assert [answer for answer in answers if not answer.startswith("HTTP/1.1 200")] == []
        assert '"name": "one"' in await slow


@story
async def test_a_killed_envoy_comes_back_as_it_was(tmp_path: Path) -> None:
    """SIGKILL: it is noticed, started again, and serves the same rules; who was kept out still is."""
    died: list[bool] = []
    port = free_port()
    async with target("web") as web, envoy(tmp_path, lambda: died.append(True)) as plane:
        await plane.apply(rendered(balancer(port), [web]))
        first = plane.process_id
        assert first is not None
        plane.admit((str(ADDRESS), port), False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(port), 0.3)
        os.kill(first, signal.SIGKILL)
        while plane.process_id in (None, first):
            await real_sleep(0.02)
        async with asyncio.timeout(10):  # until it listens; it must not answer even then
            while not Path(f"/proc/{plane.process_id}").exists():
                await real_sleep(0.02)
        await plane.apply(rendered(balancer(port), [web]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(port), 0.3)
        plane.admit((str(ADDRESS), port), True)
        assert '"name": "web"' in await ask(port)
        assert died == [True]


def test_envoy_does_not_outlive_an_emulator_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the emulator: its Envoy ends at once."""
    program = """
import asyncio, sys
from pathlib import Path
from emulation.elbv2.envoy import Envoy
from emulation.elbv2.envoy_config import Rendered
async def main():
    envoy = Envoy(Path(sys.argv[1]))
    await envoy.apply(Rendered())
    print(envoy.process_id, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    emulator = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "e")], stdout=subprocess.PIPE, text=True)
    assert emulator.stdout is not None
    process = os.pidfd_open(int(emulator.stdout.readline()))
    try:
        emulator.kill()
        emulator.wait()
        ended, _, _ = select.select([process], [], [], 10)
        assert ended
    finally:
        os.close(process)
        emulator.stdout.close()
