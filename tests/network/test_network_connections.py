"""Connections between tasks, the host and what lives on it, over a fake plumbing of loopback sockets."""

import asyncio
import os
import socket
from ipaddress import IPv4Address

import pytest

from emulation.clock import SystemClock, real_sleep
from emulation.errors import PortInUse
from emulation.network.addresses import PublicAddresses
from emulation.network.destination import Destination
from emulation.network.network import INTERNET, Network
from emulation.network.security import HOST

from .fake_plumbing import (
    Connection,
    FakePlumbing,
    Groups,
    greeting,
    interface,
    ip,
    network,
    story,
    tcp,
)

WEB = Groups(sg_web=(tcp(7777),))


async def attach(
    net: Network, plumbing: FakePlumbing, eni_id: str, private_ip: str, *groups: str, ports: tuple[int, ...] = (7777,),
    vpc_id: str = "vpc-1", public: bool = False,
) -> IPv4Address | None:  # fmt: skip
    address = net.allocate_public_address() if public else None
    await net.attach(interface(eni_id, private_ip, *groups, vpc_id=vpc_id, public=address), plumbing, ports)
    return address


@story
async def test_the_host_reaches_tasks_that_listen_on_the_same_port_by_their_public_addresses() -> None:
    """Two tasks listen on port 7777; each answers on its own public address and sees the internet's address."""
    async with network(WEB) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await one.serve(7777, b"11")
        await two.serve(7777, b"22")
        first = await attach(net, one, "eni-1", "10.0.1.5", "sg-web", public=True)
        second = await attach(net, two, "eni-2", "10.0.1.6", "sg-web", public=True)
        assert await greeting(await Connection.open(str(first), 7777)) == b"11"
        assert await greeting(await Connection.open(str(second), 7777)) == b"22"
        assert one.seen == two.seen == [INTERNET]
        assert net.published_endpoint(first, 7777) == (str(first), 7777)
        await one.close()
        await two.close()


@story
async def test_a_task_reaches_the_declared_port_of_a_peer_by_its_private_address() -> None:
    """The port is open before anybody asks, and the program sees its peer's private address."""
    async with network(WEB) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await two.serve(7777, b"22")
        await attach(net, two, "eni-2", "10.0.1.6", "sg-web")
        await attach(net, one, "eni-1", "10.0.1.5", "sg-web", ports=())
        while (ip("10.0.1.6"), 7777) not in one.open:
            await real_sleep(0.01)
        connection = await one.connect("10.0.1.6", 7777)
        assert await connection.read(2) == b"22"
        assert await connection.echo(b"hello") == b"hello"
        assert two.seen == [ip("10.0.1.5")]
        await connection.close()
        await two.close()


@story
async def test_a_port_that_was_not_declared_opens_when_it_is_tried() -> None:
    """A peer listens on a port its task definition does not name: the first attempt opens it, if rules allow."""
    async with network(Groups(sg_web=(tcp(9000, "sg-web"),))) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await two.serve(9000, b"90")
        await attach(net, one, "eni-1", "10.0.1.5", "sg-web", ports=())
        await attach(net, two, "eni-2", "10.0.1.6", "sg-web", ports=())
        assert not one.open
        assert await greeting(await one.connect("10.0.1.6", 9000)) == b"90"
        await two.close()


@story
async def test_a_denied_peer_gets_no_answer_and_the_denial_is_recorded_once() -> None:
    """However often TCP repeats its SYN, there is one denial, which says what would be allowed."""
    async with network(Groups(sg_web=(tcp(22),), sg_other=())) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await two.serve(7777, b"22")
        await attach(net, one, "eni-1", "10.0.1.5", "sg-other", ports=())
        await attach(net, two, "eni-2", "10.0.1.6", "sg-web")
        with pytest.raises(TimeoutError):
            await one.connect("10.0.1.6", 7777, within=0.2)
        (denial,) = net.denials
        assert str(denial) == (
            "eni-1 (10.0.1.5) → 10.0.1.6:7777 got no answer: no security group of eni-2 (sg-web) allows tcp 7777 "
            "from eni-1 (10.0.1.5); allowed: tcp 22 from 0.0.0.0/0"
        )
        await two.close()


@story
async def test_a_denied_host_gets_no_answer_until_the_rules_permit_it() -> None:
    """A client that was denied and keeps trying gets through when the rule is added, as on AWS."""
    groups = Groups(sg_web=(tcp(7777, "203.0.113.7/32"),))
    async with network(groups) as net:
        task = FakePlumbing()
        await task.serve(7777, b"77")
        address = str(await attach(net, task, "eni-1", "10.0.1.5", "sg-web", public=True))
        assert not net.denials
        with pytest.raises(TimeoutError):
            await Connection.open(address, 7777, within=0.3)
        assert [(d.source, str(d.destination), d.port) for d in net.denials] == [(HOST.name, address, 7777)]
        patient = asyncio.create_task(Connection.open(address, 7777))
        await real_sleep(0)
        groups.rules["sg-web"] = (tcp(7777, "127.0.0.1/32"),)
        await net.refresh()
        assert await greeting(await patient) == b"77"
        assert await greeting(await Connection.open(address, 7777)) == b"77"
        await task.close()


@story
async def test_many_changes_of_rules_are_applied_together() -> None:
    """A stack that makes twenty rules costs one pass over the tasks."""
    groups = Groups(sg_web=())
    async with network(groups) as net:
        task = FakePlumbing()
        await task.serve(7777, b"77")
        address = str(await attach(net, task, "eni-1", "10.0.1.5", "sg-web", public=True))
        jobs = len(asyncio.all_tasks())
        groups.rules["sg-web"] = (tcp(7777),)
        for _ in range(20):
            net.refresh_soon()
        assert len(asyncio.all_tasks()) == jobs + 1
        assert await greeting(await Connection.open(address, 7777)) == b"77"
        await task.close()


@story
async def test_where_only_127_0_0_1_exists_each_public_port_is_allotted_one_of_its_own() -> None:
    """On macOS two tasks that listen on port 7777 are told apart by the host's port."""
    addresses = PublicAddresses(bindable=lambda address, _: address == ip("127.0.0.1"))
    net = Network(WEB, SystemClock(), addresses)
    endpoints = []
    tasks = [FakePlumbing(), FakePlumbing()]
    for number, task in enumerate(tasks):
        await task.serve(7777, b"%d" % number)
        address = await attach(net, task, f"eni-{number}", f"10.0.1.{5 + number}", "sg-web", public=True)
        assert address is not None
        endpoints.append(net.published_endpoint(address, 7777))
    assert len(set(endpoints)) == 2
    for number, endpoint in enumerate(endpoints):
        assert endpoint is not None and endpoint[0] == "127.0.0.1"
        assert await greeting(await Connection.open(*endpoint), 1) == b"%d" % number
    await net.close()
    for task in tasks:
        await task.close()


@story
async def test_established_connections_outlive_a_revoked_rule() -> None:
    """Revoking a rule stops new connections only, for the host as for peers."""
    groups = Groups(sg_web=(tcp(7777),))
    async with network(groups) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await two.serve(7777, b"22")
        address = str(await attach(net, two, "eni-2", "10.0.1.6", "sg-web", public=True))
        await attach(net, one, "eni-1", "10.0.1.5", "sg-web", ports=())
        inside, outside = await one.connect("10.0.1.6", 7777), await Connection.open(address, 7777)
        assert await inside.read(2) == await outside.read(2) == b"22"
        groups.rules["sg-web"] = ()
        await net.refresh()
        assert await inside.echo(b"still") == await outside.echo(b"still") == b"still"
        with pytest.raises(TimeoutError):
            await Connection.open(address, 7777, within=0.3)
        with pytest.raises(TimeoutError):
            await one.connect("10.0.1.6", 7777, within=0.1)
        await inside.close()
        await outside.close()
        await two.close()


@story
async def test_a_program_that_does_not_listen_resets_its_client() -> None:
    """Nobody listens behind an open port: the client is told so rather than left alone."""
    async with network(WEB) as net:
        task = FakePlumbing()
        address = str(await attach(net, task, "eni-1", "10.0.1.5", "sg-web", public=True))
        connection = await Connection.open(address, 7777)
        with pytest.raises(ConnectionResetError):
            await connection.reader.readexactly(1)
        await connection.close()


@story
async def test_vpcs_with_the_same_addresses_do_not_see_each_other() -> None:
    """Private addresses mean something only together with their VPC."""
    async with network(WEB) as net:
        clients = {vpc_id: FakePlumbing() for vpc_id in ("vpc-1", "vpc-2", "vpc-3")}
        servers = {"vpc-1": FakePlumbing(), "vpc-2": FakePlumbing()}
        for vpc_id, server in servers.items():
            await server.serve(7777, vpc_id.encode())
            await attach(net, server, f"eni-server-{vpc_id}", "10.0.1.6", "sg-web", vpc_id=vpc_id)
        for vpc_id, client in clients.items():
            await attach(net, client, f"eni-{vpc_id}", "10.0.1.5", "sg-web", ports=(), vpc_id=vpc_id)
        for vpc_id in servers:
            assert await greeting(await clients[vpc_id].connect("10.0.1.6", 7777), 5) == vpc_id.encode()
        with pytest.raises(TimeoutError):
            await clients["vpc-3"].connect("10.0.1.6", 7777, within=0.1)
        for server in servers.values():
            await server.close()


@story
async def test_a_task_reaches_the_public_address_of_another_as_the_internet_does() -> None:
    """A reference to its security group does not admit a client that takes the way over the public address."""
    groups = Groups(sg_web=(tcp(7777, "sg-client"),), sg_client=())
    async with network(groups) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await two.serve(7777, b"22")
        address = str(await attach(net, two, "eni-2", "10.0.1.6", "sg-web", public=True))
        await attach(net, one, "eni-1", "10.0.1.5", "sg-client", ports=(), public=True)
        assert await greeting(await one.connect("10.0.1.6", 7777)) == b"22"
        with pytest.raises(TimeoutError):
            await one.connect(address, 7777, within=0.1)
        groups.rules["sg-web"] = (tcp(7777),)
        await net.refresh()
        assert await greeting(await one.connect(address, 7777)) == b"22"
        assert two.seen == [ip("10.0.1.5"), INTERNET]
        await two.close()


@story
async def test_a_destination_and_its_names_are_there_in_present_and_future_tasks_of_its_vpc_only() -> None:
    """A database on the host is reached by its private address and its name; withdrawn, it is gone."""
    database = FakePlumbing()
    await database.serve(5432, b"db")
    upstream = database.programs[5432].sockets[0].getsockname()
    async with network(Groups(sg_app=(), sg_db=(tcp(5432, "sg-app"),))) as net:
        present, future, stranger = FakePlumbing(), FakePlumbing(), FakePlumbing()
        await attach(net, present, "eni-1", "10.0.1.5", "sg-app", ports=())
        await attach(net, stranger, "eni-3", "10.0.1.5", "sg-app", ports=(), vpc_id="vpc-2")
        names = ("db.example.internal",)
        place = Destination(ip("10.0.2.9"), 5432, upstream, "vpc-1", names, "eni-db", ("sg-db",))
        await net.announce(place)
        await attach(net, future, "eni-2", "10.0.1.6", "sg-app", ports=())
        for task in (present, future):
            assert task.names == {"db.example.internal": ip("10.0.2.9")}
            assert (ip("10.0.2.9"), 5432) in task.open
            assert await greeting(await task.connect("10.0.2.9", 5432)) == b"db"
        assert not stranger.names and not stranger.open
        await net.withdraw(place)
        assert not present.names and not present.open
    await database.close()


@story
async def test_link_local_services_answer_whatever_the_security_groups_say() -> None:
    """Task metadata is reached from a task whose security group lets nothing out."""
    metadata = FakePlumbing()
    await metadata.serve(80, b"md")
    groups = Groups(sg_closed=())
    groups.out["sg-closed"] = ()
    async with network(groups) as net:
        task = FakePlumbing()
        upstream = metadata.programs[80].sockets[0].getsockname()
        await net.announce(Destination(ip("169.254.170.2"), 80, upstream))
        await net.announce(Destination(ip("10.0.9.9"), 80, upstream))
        await attach(net, task, "eni-1", "10.0.1.5", "sg-closed", ports=())
        assert await greeting(await task.connect("169.254.170.2", 80)) == b"md"
        with pytest.raises(TimeoutError):
            await task.connect("10.0.9.9", 80, within=0.1)
    await metadata.close()


@story
async def test_a_port_that_a_security_group_names_is_served_though_the_task_did_not_declare_it() -> None:
    """Somebody opens port 9000 for a program that its task definition does not mention."""
    groups = Groups(sg_web=())
    async with network(groups) as net:
        task = FakePlumbing()
        await task.serve(9000, b"90")
        address = str(await attach(net, task, "eni-1", "10.0.1.5", "sg-web", ports=(), public=True))
        with pytest.raises(ConnectionRefusedError):
            await Connection.open(address, 9000)
        groups.rules["sg-web"] = (tcp(9000),)
        await net.refresh()
        assert await greeting(await Connection.open(address, 9000)) == b"90"
        await task.close()


@story
async def test_a_taken_declared_port_is_named_and_nothing_of_the_interface_is_left() -> None:
    """Another program listens on the same port of all addresses: attach says so and can be repeated."""
    async with network(WEB) as net:
        task = FakePlumbing()
        with socket.create_server(("0.0.0.0", 0)) as foreign:
            port = foreign.getsockname()[1]
            with pytest.raises(PortInUse, match=rf":{port} cannot be listened on .* Stop it"):
                await attach(net, task, "eni-1", "10.0.1.5", "sg-web", ports=(port,), public=True)
        await attach(net, task, "eni-1", "10.0.1.5", "sg-web", ports=(port,), public=True)


@story
async def test_a_taken_port_that_only_a_rule_names_does_not_stop_a_task() -> None:
    """Security groups open port 22 where the host's own SSH server listens: the task runs without it."""
    with socket.create_server(("0.0.0.0", 0)) as foreign:
        port = foreign.getsockname()[1]
        async with network(Groups(sg_web=(tcp(port),))) as net:
            address = await attach(net, FakePlumbing(), "eni-1", "10.0.1.5", "sg-web", ports=(), public=True)
            assert net.published_endpoint(address, port) is None


@story
async def test_nothing_is_left_after_detach_and_close() -> None:
    """No descriptor, job or listener outlives its interface, also with connections under way and denied ports."""
    descriptors, jobs = set(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    async with network(Groups(sg_web=(tcp(7777), tcp(7778, "10.9.9.9/32")))) as net:
        tasks = [FakePlumbing() for _ in range(4)]
        addresses = []
        for number, task in enumerate(tasks):
            await task.serve(7777, b"77")
            address = await attach(
                net, task, f"eni-{number}", f"10.0.1.{5 + number}", "sg-web", ports=(7777, 7778), public=True
            )
            addresses.append(str(address))
        await greeting(await Connection.open(addresses[0], 7777))
        await greeting(await tasks[0].connect("10.0.1.6", 7777))
        with pytest.raises(TimeoutError):
            await Connection.open(addresses[0], 7778, within=0.1)
        waiting = socket.create_connection((addresses[1], 7777))
        await net.detach("eni-0")
        await net.detach("eni-0")
        with pytest.raises(ConnectionRefusedError):
            await Connection.open(addresses[0], 7777)
        for task in tasks:
            await task.close()
    waiting.close()
    async with asyncio.timeout(5):  # the fake's own servers notice their clients' end a few turns later
        while len(asyncio.all_tasks()) > jobs or set(os.listdir("/proc/self/fd")) != descriptors:
            await real_sleep(0.01)
    assert len(asyncio.all_tasks()) == jobs
    assert set(os.listdir("/proc/self/fd")) == descriptors


@story
async def test_a_task_that_tries_many_addresses_does_not_fill_the_memory() -> None:
    """A port scan inside a task opens a bounded number of addresses."""
    async with network(Groups(sg_web=(tcp(1), *(tcp(port) for port in range(7000, 8000))))) as net:
        one, two = FakePlumbing(), FakePlumbing()
        await attach(net, one, "eni-1", "10.0.1.5", "sg-web", ports=())
        await attach(net, two, "eni-2", "10.0.1.6", "sg-web", ports=())
        for port in range(7000, 7300):
            one._attempt(ip("10.0.1.6"), port)
        await (await one.connect("10.0.1.6", 7301)).close()
        assert len(one.open) <= 256


@story
async def test_a_detached_peer_is_closed_in_the_others_and_its_address_may_be_used_again() -> None:
    """The next task with the same private address is the one that answers."""
    async with network(WEB) as net:
        client, old, new = FakePlumbing(), FakePlumbing(), FakePlumbing()
        await old.serve(7777, b"old")
        await new.serve(7777, b"new")
        await attach(net, client, "eni-1", "10.0.1.5", "sg-web", ports=())
        await attach(net, old, "eni-2", "10.0.1.6", "sg-web")
        assert await greeting(await client.connect("10.0.1.6", 7777), 3) == b"old"
        await net.detach("eni-2")
        while client.open:
            await real_sleep(0.01)
        await attach(net, new, "eni-3", "10.0.1.6", "sg-web")
        assert await greeting(await client.connect("10.0.1.6", 7777), 3) == b"new"
        await old.close()
        await new.close()
