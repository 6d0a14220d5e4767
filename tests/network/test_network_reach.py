"""Ways from the host into a VPC in somebody's name, over the same fake plumbing."""

import asyncio

from emulation.network.destination import Destination
from emulation.network.security import Party

from .fake_plumbing import Connection, FakePlumbing, Groups, greeting, interface, ip, network, story, tcp

BALANCER = Party(ip("10.0.0.9"), "vpc-1", ("sg-alb",), "app/web")


@story
async def test_a_reach_leads_to_the_port_in_the_name_of_its_source() -> None:
    """The program sees the load balancer's private address, and rules that name its security group let it in."""
    async with network(Groups(sg_alb=(), sg_web=(tcp(7777, "sg-alb"),))) as net:
        plumbing = FakePlumbing()
        await plumbing.serve(7777, b"11")
        await net.attach(interface("eni-1", "10.0.1.5", "sg-web"), plumbing, (7777,))
        reach = net.reach(BALANCER, ip("10.0.1.5"), 7777)
        assert await greeting(await Connection.open(*reach.address)) == b"11"
        assert plumbing.seen == [ip("10.0.0.9")]
        await plumbing.close()


@story
async def test_a_reach_answers_when_rules_permit_and_the_interface_is_there() -> None:
    """No answer without an interface, none without a rule; the one who waits is answered when there are both."""
    groups = Groups(sg_alb=(), sg_web=())
    async with network(groups) as net:
        plumbing = FakePlumbing()
        await plumbing.serve(7777, b"11")
        reach = net.reach(BALANCER, ip("10.0.1.5"), 7777)
        waiting = asyncio.ensure_future(Connection.open(*reach.address))
        assert not (await asyncio.wait({waiting}, timeout=0.1))[0]
        assert "nothing in vpc-1 has the address 10.0.1.5" in net.denials[-1].reason
        await net.attach(interface("eni-1", "10.0.1.5", "sg-web"), plumbing, (7777,))
        assert not (await asyncio.wait({waiting}, timeout=1.2))[0]
        assert "allows tcp 7777 from app/web (10.0.0.9)" in net.denials[-1].reason
        groups.rules["sg-web"] = (tcp(7777),)
        await net.refresh()
        assert await greeting(await waiting) == b"11"
        await plumbing.close()


@story
async def test_a_proxied_destination_is_told_who_connects() -> None:
    """What lives on the host sees one address for all tasks; a header tells it the task's."""
    async with network(Groups(sg_web=())) as net:
        told: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.append(await reader.readline())
            writer.write(b"ok")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        upstream = server.sockets[0].getsockname()
        plumbing = FakePlumbing()
        await net.attach(interface("eni-1", "10.0.1.5", "sg-web"), plumbing, ())
        await net.announce(Destination(ip("10.0.0.9"), 80, upstream, "vpc-1", proxied=True))
        connection = await plumbing.connect("10.0.0.9", 80)
        assert await connection.read(2) == b"ok"
        await connection.close()
        server.close()
        await server.wait_closed()
        assert told == [b"PROXY TCP4 10.0.1.5 10.0.0.9 1024 80\r\n"]
        await plumbing.close()
