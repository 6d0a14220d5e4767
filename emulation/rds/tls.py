"""TLS before a PostgreSQL server that does not speak it itself: the front takes the client's encryption off.

It is there for instances whose parameter group says `rds.force_ssl`; for all others the server is reached directly. A
client that comes without TLS is refused in PostgreSQL's words.

Source: PostgreSQL documentation, Frontend/Backend Protocol, SSL Session Encryption; Message Formats.
"""

import asyncio
import logging
import ssl
import struct
from contextlib import suppress
from ipaddress import IPv4Address

from emulation.network.gate import Gate
from emulation.network.listener import bind_listener
from emulation.rds.certificates import Certificate

log = logging.getLogger(__name__)

_SSL_REQUEST, _CANCEL_REQUEST, _GSS_REQUEST = 80877103, 80877102, 80877104
_LONGEST_STARTUP = 10_000
_CHUNK = 1 << 16


class TlsFront:
    """Listens at `address`:`port`, which `admit` opens to the host, and at `inner`, which is always open."""

    def __init__(self, upstream: tuple[str, int], certificate: Certificate) -> None:
        self._upstream = upstream
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.chain, certificate.key)
        self._servers: list[asyncio.Server] = []
        self._gate: Gate | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, address: tuple[str, int], inner: tuple[str, int]) -> None:
        """Raises PortInUse."""
        sockets = [bind_listener(IPv4Address(host), port) for host, port in (address, inner)]
        for sock in sockets:
            self._servers.append(await asyncio.start_server(self._serve, sock=sock))
        self._gate = Gate(sockets[0].dup())

    def admit(self, host: bool) -> None:
        if self._gate is not None:
            self._gate.set(host)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._negotiate(reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as problem:
            log.debug("A client of %s:%d left: %s", *self._upstream, problem)
        finally:
            self._clients.discard(task)
            writer.close()

    async def _negotiate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encrypted = False
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!II", head)
            if code == _SSL_REQUEST and not encrypted:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                encrypted = True
            elif code == _GSS_REQUEST:
                writer.write(b"N")
                await writer.drain()
            elif not 8 <= length <= _LONGEST_STARTUP:
                return
            else:
                startup = head + await reader.readexactly(length - 8)
                if encrypted or code == _CANCEL_REQUEST:
                    await self._join(startup, reader, writer)
                else:
                    writer.write(_refusal(startup[8:], writer.get_extra_info("peername")[0]))
                    await writer.drain()
                return

    async def _join(self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        server_writer.write(startup)
        ways = [
            asyncio.ensure_future(_copy(reader, server_writer)),
            asyncio.ensure_future(_copy(server_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


def _refusal(parameters: bytes, peer: str) -> bytes:
    fields = parameters.decode(errors="replace").split("\0")
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    user, database = named.get("user", ""), named.get("database") or named.get("user", "")
    words = f'no pg_hba.conf entry for host "{peer}", user "{user}", database "{database}", no encryption'
    body = "".join(f"{kind}{text}\0" for kind, text in (("S", "FATAL"), ("V", "FATAL"), ("C", "28000"), ("M", words)))
    content = body.encode() + b"\0"
    return b"E" + struct.pack("!I", 4 + len(content)) + content
