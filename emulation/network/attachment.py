"""One attached interface: what is open inside its task, what the host reaches of it, and the jobs on its behalf."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from emulation.errors import PortInUse, SunaboxError
from emulation.network.base import Interface, Plumbing
from emulation.network.listener import Listener, bind_listener, reset
from emulation.network.security import Decision

log = logging.getLogger(__name__)

Address = tuple[IPv4Address, int]

REMEMBERED = 256
"""So many addresses that a task asked for are kept open, and so many of its denials are told apart."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be open for an interface: addresses inside its task, names, and ports for the host by decision.

    `silent` are addresses of 127.0.0.0/8 that must not answer in the task. Nothing filters them there, as they never
    leave its loopback device, and without a listener they would refuse connections instead.
    """

    outlets: frozenset[Address] = frozenset()
    silent: Mapping[Address, Decision] = field(default_factory=dict)
    published: Mapping[int, Decision] = field(default_factory=dict)
    names: Mapping[str, IPv4Address] = field(default_factory=dict)


class Attachment:
    """Keeps the real listeners equal to what is wanted. The decisions are made by `Network`."""

    def __init__(
        self,
        interface: Interface,
        plumbing: Plumbing,
        ports: Collection[int],
        on_outlet: Callable[["Attachment", Address, socket.socket], Coroutine[None, None, None]],
        on_published: Callable[["Attachment", int, socket.socket], Coroutine[None, None, None]],
        host_endpoint: Callable[[IPv4Address, int], Address],
    ) -> None:
        self.interface, self.plumbing, self.ports = interface, plumbing, frozenset(ports)
        self.outlets: dict[Address, Listener] = {}
        self.published: dict[int, Listener] = {}
        self.denied: dict[int, Decision] = {}
        self.silent: Mapping[Address, Decision] = {}
        self.demanded: dict[Address, None] = {}
        self.reported: dict[Address, str] = {}
        self.closed = False
        self.sync_pending = False
        self.lock = asyncio.Lock()
        self._on_outlet, self._on_published, self._host_endpoint = on_outlet, on_published, host_endpoint
        self._names: Mapping[str, IPv4Address] = {}
        self._refused_ports: set[int] = set()
        self._jobs: set[asyncio.Task[None]] = set()

    def demand(self, address: Address) -> None:
        """Remembers an address that the task wants to reach; the longest-known one is forgotten beyond REMEMBERED."""
        self.demanded.pop(address, None)
        self.demanded[address] = None
        if len(self.demanded) > REMEMBERED:
            del self.demanded[next(iter(self.demanded))]

    def first_report(self, address: Address, reason: str) -> bool:
        """Whether this denial is news; TCP repeats its attempts, and they would fill the list."""
        if self.reported.get(address) == reason:
            return False
        self.reported[address] = reason
        if len(self.reported) > REMEMBERED:
            del self.reported[next(iter(self.reported))]
        return True

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Runs `work` until it ends or the interface is detached."""
        if self.closed:
            work.close()
            return
        self._spawn(work)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def apply(self, wanted: Wanted, *, strict: bool = False) -> None:
        """Opens and closes what differs. With `strict`, what cannot be opened raises; else it is logged.

        The caller holds `lock`.
        """
        if dict(wanted.names) != dict(self._names):
            await self.plumbing.set_names(wanted.names)
            self._names = dict(wanted.names)
        listening = wanted.outlets | wanted.silent.keys()
        surplus = [address for address in self.outlets if address not in listening]
        missing = sorted(address for address in listening if address not in self.outlets)
        for address, listener in self.outlets.items():
            if address in listening:
                listener.deny() if address in wanted.silent else listener.permit()
        self.silent = wanted.silent
        results = await asyncio.gather(
            *(self._close_outlet(address) for address in surplus),
            *(self._open_outlet(address, open=address not in wanted.silent) for address in missing),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                if strict or not isinstance(result, (OSError, SunaboxError)):
                    raise result
                log.warning("The network of %s could not be changed: %s", self.interface.eni_id, result)
        self._publish(wanted.published, strict)

    async def close(self) -> None:
        """Stops listening and all jobs. The task's own sockets and rules go with its plumbing."""
        self.closed = True
        jobs = [job for job in self._jobs if job is not asyncio.current_task()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        async with self.lock:
            for listener in (*self.outlets.values(), *self.published.values()):
                listener.close()
            self.outlets.clear()
            self.published.clear()
            self.denied.clear()

    async def _open_outlet(self, address: Address, *, open: bool) -> None:
        sock = await self.plumbing.listen(*address)
        listener = Listener(
            sock, lambda client, _: self.take(self._on_outlet(self, address, client), client), open=open
        )
        try:
            await self.plumbing.open_egress(*address)
        except BaseException:
            listener.close()
            raise
        self.outlets[address] = listener

    async def _close_outlet(self, address: Address) -> None:
        listener = self.outlets.pop(address)
        try:
            await self.plumbing.close_egress(*address)
        finally:
            listener.close()

    def _publish(self, wanted: Mapping[int, Decision], strict: bool) -> None:
        if self.interface.public_ip is None:
            return
        for port in [port for port in self.published if port not in wanted]:
            self.published.pop(port).close()
            self.denied.pop(port, None)
        for port, decision in sorted(wanted.items()):
            if port not in self.published and not self._publish_port(port, decision, strict):
                continue
            if decision.permitted:
                self.denied.pop(port, None)
                self.published[port].permit()
            else:
                self.denied[port] = decision
                self.published[port].deny()

    def _publish_port(self, port: int, decision: Decision, strict: bool) -> bool:
        assert self.interface.public_ip is not None
        try:
            sock = bind_listener(*self._host_endpoint(self.interface.public_ip, port))
            self.published[port] = Listener(
                sock,
                lambda client, _: self.take(self._on_published(self, port, client), client),
                open=decision.permitted,
            )
        except PortInUse as error:
            if strict and port in self.ports:
                raise
            if port not in self._refused_ports:  # said once; a port that only a rule names must not stop a task
                log.warning("%s does not serve port %d to the host: %s", self.interface.eni_id, port, error)
                self._refused_ports.add(port)
            return False
        return True

    def take(self, work: Coroutine[None, None, None], client: socket.socket) -> None:
        """Runs `work` for a client until it ends or the interface is detached, which resets the client."""
        if self.closed:
            work.close()
            reset(client)
            return
        # A job that is cancelled before its first step never sees its client.
        self._spawn(work).add_done_callback(lambda job: reset(client) if job.cancelled() else None)


async def connect(host: str, port: int, timeout_seconds: float = 5) -> socket.socket:
    """A connection from the host, non-blocking. Raises OSError, TimeoutError among them.

    A `host` that begins with a slash is the path of a Unix socket.
    """
    local = host.startswith("/")
    sock = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(timeout_seconds):
            await asyncio.get_running_loop().sock_connect(sock, host if local else (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def introduce(sock: socket.socket, source: IPv4Address, destination: Address) -> None:
    """Tells the other side who connects. Emulation: the source's port is not known here, and said to be 1024.

    Source: The PROXY protocol, version 1.
    """
    header = f"PROXY TCP4 {source} {destination[0]} 1024 {destination[1]}\r\n"
    try:
        await asyncio.get_running_loop().sock_sendall(sock, header.encode())
    except BaseException:
        sock.close()
        raise


def without_delay(*sockets: socket.socket) -> None:
    """Bytes are passed on as they come: the ends decide about Nagle's algorithm, not the splice between them."""
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
