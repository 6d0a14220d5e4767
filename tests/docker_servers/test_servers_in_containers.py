"""The servers of RDS and ElastiCache in containers, beyond what chapter 5 of the scenarios tells of them."""

import asyncio
import socket
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import psycopg
import pytest
import redis

from emulation.clock import monotonic
from emulation.elasticache.servers import ServerSpec as CacheSpec
from emulation.elasticache.testcontainer import ContainerServers as CacheContainers
from emulation.errors import PortInUse
from emulation.rds.embedded import EmbeddedServers
from emulation.rds.server import server_version
from emulation.rds.servers import ServerDidNotStart, ServerSpec
from emulation.rds.testcontainer import ContainerServers
from emulation.runtime.dockerd.server_images import connected
from tests.docker_servers.conftest import Ground

pytestmark = pytest.mark.docker

_PASSWORD = "a-sieve's+secret"


def test_data_go_from_containers_to_processes_and_back(ground: Ground, tmp_path: Path) -> None:
    """A data folder outlives the choice of the runtime, and no container outlives its server."""
    spec = _database(ground, tmp_path)
    containers = ContainerServers(ground.allocate, ground.release, labels=ground.labels, library=ground.library)
    processes = EmbeddedServers(ground.allocate, ground.release)

    async def story() -> list[int]:
        counts = []
        for servers in (containers, processes, containers):
            server = await servers.start(spec)
            try:
                counts.append(await asyncio.to_thread(_add_a_row, spec.address))
            finally:
                await server.stop()
        return counts

    assert asyncio.run(story()) == [1, 2, 3]
    assert ground.containers() == []


def test_a_server_that_cannot_start_is_reported_at_once(ground: Ground, tmp_path: Path) -> None:
    """In its own words, or as the port that is taken: not after Testcontainers' two minutes."""
    spec = _database(ground, tmp_path)
    containers = ContainerServers(ground.allocate, ground.release, labels=ground.labels, library=ground.library)
    asyncio.run(_start_and_stop(containers, spec))
    begun = monotonic()

    with pytest.raises(ServerDidNotStart, match="max_connections"):
        asyncio.run(_start_and_stop(containers, replace(spec, parameters={"max_connections": "many"})))
    with socket.create_server((str(spec.address), spec.port)), pytest.raises(PortInUse, match=str(spec.address)):
        asyncio.run(_start_and_stop(containers, spec))
    assert monotonic() - begun < 30
    assert ground.containers() == []


def test_the_version_is_that_of_an_image_which_the_daemon_has(ground: Ground) -> None:
    """Another major version than is there is not claimed: the API says which one really runs."""
    containers = ContainerServers(ground.allocate, ground.release, labels=ground.labels, library=ground.library)
    major = server_version().partition(".")[0]
    with connected() as daemon:
        there = [tag for image in daemon.api.images() for tag in image["RepoTags"] or () if tag.startswith("postgres:")]
    if there:
        pytest.skip(f"the daemon has images of its own: {', '.join(there)}")

    assert containers.version("postgres", "16.3") == server_version()
    assert containers.version("postgres", major) == server_version()


def test_a_cache_in_a_container_keeps_its_data_where_it_shall(ground: Ground, tmp_path: Path) -> None:
    """A durable one writes them at an orderly end, and loads them at the next start."""
    caches = CacheContainers(ground.allocate, ground.release, labels=ground.labels, library=ground.library)
    spec = CacheSpec(
        name="node",
        folder=tmp_path / "node",
        version=caches.version("redis", "7.1"),
        addresses=(ground.allocate(),),
        port=6379,
        settings={},
        password="administrator",
        durable=True,
        engine="redis",
    )

    async def story() -> object:
        first = await caches.start(spec)
        with redis.Redis(str(spec.addresses[0]), protocol=2) as client:
            client.set("word", "kept")
        await first.stop(save=True)
        second = await caches.start(spec)
        try:
            with redis.Redis(str(spec.addresses[0]), protocol=2) as client:
                return client.get("word")
        finally:
            await second.stop(save=False)

    assert asyncio.run(story()) == b"kept"
    assert ground.containers() == []


def _database(ground: Ground, folder: Path) -> ServerSpec:
    return ServerSpec(
        name="furui",
        folder=folder / "data",
        version=server_version(),
        parameters={},
        address=ground.allocate(),
        port=5432,
        master_username="furui",
        master_password=_PASSWORD,
        database="furui",
    )


async def _start_and_stop(servers: ContainerServers, spec: ServerSpec) -> None:
    await (await servers.start(spec)).stop()


def _add_a_row(address: IPv4Address) -> int:
    with psycopg.connect(host=str(address), user="furui", password=_PASSWORD, dbname="furui") as connection:
        connection.execute("create table if not exists rows (n int)")
        connection.execute("insert into rows values (1)")
        row = connection.execute("select count(*) from rows").fetchone()
        assert row is not None
        return int(row[0])
