"""TLS before a Valkey server that is built without it: the front takes the clients' encryption off.

It is there for caches with in-transit encryption; all others are reached directly, at the server's full speed.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from emulation.network.gate import Gate
from emulation.network.listener import bind_listener

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_one_at_a_time = threading.Lock()
"""The first certificate makes the authority's root; several nodes start at once."""


class Certificate(Protocol):
    """Files in PEM: the chain, and the private key."""

    @property
    def chain(self) -> Path: ...

    @property
    def key(self) -> Path: ...


class Certificates(Protocol):
    """The certificate authority whose root clients trust."""

    def issue(self, folder: Path, names: Sequence[str], addresses: Sequence[IPv4Address]) -> Certificate:
        """A certificate for a server that is known by these names and addresses, written into `folder`."""
        ...


class TlsFront:
    """Listens on addresses of the host, which `admit` opens to it, and on `inner`, which is always open."""

    def __init__(
        self, upstream: tuple[str, int], inner: str, certificates: Certificates, folder: Path, names: Sequence[str]
    ) -> None:
        self._upstream, self._inner = upstream, IPv4Address(inner)
        self._certificates, self._folder, self._names = certificates, folder, tuple(names)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._servers: dict[IPv4Address, tuple[asyncio.Server, Gate]] = {}
        self._clients: set[asyncio.Task[None]] = set()
        self._admits = True

    async def serve(self, addresses: Sequence[IPv4Address]) -> None:
        """Listens on these addresses and the inner one from now on. Raises PortInUse."""
        wanted = (*addresses, self._inner)
        certificate = await asyncio.to_thread(self._issue, wanted)
        self._context.load_cert_chain(certificate.chain, certificate.key)
        for address in [address for address in self._servers if address not in wanted]:
            self._close(address)
        for address in wanted:
            if address not in self._servers:
                sock = bind_listener(address, self._upstream[1])
                gate = Gate(sock.dup())
                server = await asyncio.start_server(self._accepted, sock=sock, ssl=self._context)
                self._servers[address] = server, gate
        self.admit(self._admits)

    def _issue(self, addresses: Sequence[IPv4Address]) -> Certificate:
        with _one_at_a_time:
            return self._certificates.issue(self._folder, self._names, addresses)

    def admit(self, host: bool) -> None:
        """Raises OSError where the kernel has no socket filters."""
        self._admits = host
        for address, (_, gate) in self._servers.items():
            gate.set(host or address == self._inner)

    async def stop(self) -> None:
        for address in list(self._servers):
            self._close(address)
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _close(self, address: IPv4Address) -> None:
        server, gate = self._servers.pop(address)
        server.close()
        gate.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        except OSError as problem:
            log.debug("The server behind TLS does not answer: %s", problem)
            writer.close()
            return
        try:
            with suppress(asyncio.CancelledError):  # by `stop`; asyncio would log it as a failure of ours
                await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))
        finally:
            upstream_writer.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; then the other is ended, too, for TLS cannot close one direction alone."""
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
