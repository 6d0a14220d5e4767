"""Valkey servers of this machine, without Docker: `CacheServers` from the binary of `server.py`."""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from emulation.elasticache import resp
from emulation.elasticache.server import ValkeyServer, server_version
from emulation.elasticache.servers import ADMINISTRATOR, ServerDidNotStart, ServerSpec
from emulation.elasticache.tls import Certificates, TlsFront
from emulation.errors import PortInUse, SunaboxError
from emulation.network.gate import Gate, gate_of

log = logging.getLogger(__name__)

# Emulation: these answer NOPERM; on AWS they do not exist.
# Source: Amazon ElastiCache user guide, Supported and restricted Valkey and Redis OSS commands.
_RESTRICTED = (
    "acl|setuser acl|load acl|save acl|deluser bgrewriteaof bgsave cluster|addslots "
    "cluster|addslotsrange cluster|bumpepoch cluster|delslots cluster|delslotsrange cluster|failover "
    "cluster|flushslots cluster|forget cluster|meet cluster|replicate cluster|reset cluster|saveconfig "
    "cluster|set-config-epoch cluster|setslot config debug migrate module psync replicaof save slaveof shutdown sync"
).split()


class EmbeddedServer:
    """A running server. It listens on the node's addresses for the host, and on one more for the emulator."""

    def __init__(
        self,
        server: ValkeyServer,
        inner: str,
        spec: ServerSpec,
        front: TlsFront | None,
        door: str,
        release: Callable[[], None],
    ) -> None:
        self._front, self._door = front, door
        self._server, self._inner, self._spec, self._release = server, inner, spec, release
        self._addresses = spec.addresses
        self._gates: list[Gate] = []
        self._admits = True
        self._process_id = 0
        self._stopped = False

    @property
    def upstream(self) -> tuple[str, int]:
        return self._inner, self._server.port

    @property
    def entrance(self) -> tuple[str, int]:
        return self._door, self._server.port

    async def execute(self, *commands: tuple[str, ...]) -> list[Any]:
        return await resp.execute(*self.upstream, ADMINISTRATOR, self._spec.password, *commands)

    async def prepare(self) -> None:
        (info,) = await self.execute(("INFO", "server"))
        facts = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
        self._process_id = self._server.process_id(int(facts["process_id"]))
        if self._front is not None:
            await self._front.serve(self._addresses)

    async def serve(self, addresses: tuple[IPv4Address, ...]) -> None:
        if self._front is not None:
            await self._front.serve(addresses)
        elif addresses != self._addresses:
            listed = " ".join(map(str, (*addresses, self._inner)))
            await self.execute(("CONFIG", "SET", "bind", listed))
            self._addresses = addresses
            self._close_gates()  # the server has new sockets
            self.admit(self._admits)

    def admit(self, host: bool) -> None:
        self._admits = host
        try:
            if self._front is not None:
                self._front.admit(host)
            elif not self._gates and not host:
                addresses = [(str(address), self._server.port) for address in self._addresses]
                self._gates = [gate_of(self._process_id, address) for address in addresses]
            for gate in self._gates:
                gate.set(host)
        except OSError as problem:
            # Emulation: without the right to reach into the server's sockets, the host is let in whatever groups say.
            log.warning(
                "The host reaches %s although its security groups do not let it in: %s. "
                "Give Sunabox the capability SYS_PTRACE to have it denied.",
                self._spec.name, problem,
            )  # fmt: skip

    async def ended(self) -> str:
        keeper = self._server.keeper
        if keeper is not None:
            watched = os.pidfd_open(keeper)
            gone = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(watched, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(watched)
                os.close(watched)
        code = self._server.exit_code or 0
        return f"killed by signal {code - 128}" if code > 128 else f"exit code {code}"

    async def stop(self, *, save: bool) -> None:
        self._close_gates()
        if self._front is not None:
            await self._front.stop()
        await asyncio.to_thread(self._server.stop if save else self._server.kill)
        if not self._stopped:
            self._stopped = True
            self._release()

    def _close_gates(self) -> None:
        for gate in self._gates:
            gate.close()
        self._gates = []


class EmbeddedServers:
    """`allocate` and `release` give loopback addresses of the host that nobody else uses.

    `certificates` is who certifies servers with TLS; without, there is none.
    """

    def __init__(
        self,
        allocate: Callable[[], IPv4Address],
        release: Callable[[IPv4Address], None],
        certificates: Certificates | None = None,
    ) -> None:
        self._allocate, self._release, self._certificates = allocate, release, certificates

    @property
    def tls(self) -> bool:
        return self._certificates is not None

    def version(self, engine: str, asked: str) -> str:
        return _version()

    def _server(self, spec: ServerSpec, **settings: Any) -> ValkeyServer:
        """The server itself, not started yet."""
        return ValkeyServer(spec.folder, **settings)

    async def start(self, spec: ServerSpec) -> EmbeddedServer:
        inner = self._allocate()
        encrypted = bool(spec.tls_names) and self._certificates is not None
        door = self._allocate() if encrypted else inner
        first, *others = (str(inner),) if encrypted else (*map(str, spec.addresses), str(inner))
        front = None
        if encrypted and self._certificates is not None:
            upstream = str(inner), spec.port
            front = TlsFront(upstream, str(door), self._certificates, spec.folder / "tls", spec.tls_names)
        server = self._server(
            spec,
            address=first,
            port=spec.port,
            settings=_settings(spec, str(inner)),
            also=others,
            users=_users(spec),
        )

        def release() -> None:
            for address in {inner, door}:
                self._release(address)

        started = EmbeddedServer(server, str(inner), spec, front, str(door), release)
        try:
            await asyncio.to_thread(server.start)
            await started.prepare()
        except BaseException as problem:
            await started.stop(save=False)
            if isinstance(problem, SunaboxError) and not isinstance(problem, PortInUse):
                raise ServerDidNotStart(str(problem)) from problem
            raise
        return started


def _settings(spec: ServerSpec, inner: str) -> dict[str, str]:
    settings = {
        **{name: value for name, value in spec.settings.items() if name != "requirepass"},
        "shutdown-on-sigterm": "save" if spec.durable else "nosave",
        "repl-diskless-sync-delay": "0",
        "repl-ping-replica-period": "1",
        "masteruser": ADMINISTRATOR,
        "masterauth": spec.password,
        "protected-mode": "no",
    }
    if spec.follows is not None:
        settings["replicaof"] = f"{spec.follows[0]} {spec.follows[1]}"
    if spec.clustered:
        settings |= {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-announce-ip": inner,
            "cluster-announce-client-ipv4": str(spec.addresses[0]),
            # Failures are noticed and answered by the emulation, as on AWS by ElastiCache.
            "cluster-replica-no-failover": "yes",
        }
    return settings


def _users(spec: ServerSpec) -> list[str]:
    tokens = " ".join(f">{token}" for token in spec.settings.get("requirepass", "").split()) or "nopass"
    restricted = " ".join(f"-{command}" for command in _RESTRICTED)
    return [
        f"user default on {tokens} ~* &* +@all {restricted}",
        f"user {ADMINISTRATOR} on >{spec.password} ~* &* +@all",
    ]


@cache
def _version() -> str:
    return server_version()
