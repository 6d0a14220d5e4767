"""PostgreSQL servers of this machine, without Docker: `DatabaseServers` from the binaries of `server.py`."""

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from emulation.errors import PortInUse, SunaboxError
from emulation.network.gate import Gate, gate_of
from emulation.rds.parameters import Parameter
from emulation.rds.server import PostgresServer, copy_folder, describe_config, server_version
from emulation.rds.servers import ServerDidNotStart, ServerSpec
from emulation.rds.tls import TlsFront

log = logging.getLogger(__name__)

_KINDS = {"BOOLEAN": "boolean", "BOOL": "boolean", "INTEGER": "integer", "REAL": "float", "ENUM": "string"}
_STATIC = ("postmaster",)


class EmbeddedServer:
    """A running server. It listens on the instance's address for the host, and on one more for the emulator.

    With a `front`, which speaks TLS, the front does so, and the server listens on an address that nobody is told.
    """

    def __init__(
        self, server: PostgresServer, inner: str, release: Callable[[], None], front: TlsFront | None = None
    ) -> None:
        self._server, self._inner, self._release, self._front = server, inner, release, front
        self._gate: Gate | None = None
        self._stopped = False

    @property
    def upstream(self) -> tuple[str, int]:
        return self._inner, self._server.port

    def alive(self) -> bool:
        return self._server.running

    def admit(self, host: bool) -> None:
        if self._front is not None:
            self._front.admit(host)
            return
        try:
            if self._gate is None:
                process_id = self._server.process_id
                if process_id is None:
                    return
                self._gate = gate_of(process_id, (self._server.address, self._server.port))
            self._gate.set(host)
        except OSError as problem:
            # Emulation: without the right to reach into the server's socket, the host is let in whatever groups say.
            if not host:
                log.warning(
                    "The host reaches %s:%d although its security groups do not let it in: %s. To have it denied, "
                    "let processes trace their children (kernel.yama.ptrace_scope=1), on Linux 5.6 or later.",
                    self._server.address, self._server.port, problem,
                )  # fmt: skip

    async def apply(self, parameters: Mapping[str, str]) -> None:
        await asyncio.to_thread(self._server.set_parameters, parameters)

    async def set_password(self, user: str, password: str) -> None:
        await asyncio.to_thread(self._server.set_password, user, password)

    async def copy_to(self, folder: Path) -> None:
        await asyncio.to_thread(self._server.copy_to, folder)

    async def stop(self) -> None:
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        if self._front is not None:
            await self._front.stop()
        await asyncio.to_thread(self._server.stop)
        if not self._stopped:
            self._stopped = True
            self._release()


class EmbeddedServers:
    """`allocate` and `release` give loopback addresses of the host that nobody else uses."""

    def __init__(self, allocate: Callable[[], IPv4Address], release: Callable[[IPv4Address], None]) -> None:
        self._allocate, self._release = allocate, release

    def version(self, engine: str, asked: str) -> str:
        return _version()

    def parameters(self, engine: str, version: str) -> Mapping[str, Parameter]:
        return _parameters()

    def _server(self, spec: ServerSpec, **settings: Any) -> PostgresServer:
        """The server itself, not started yet."""
        return PostgresServer(spec.folder, **settings)

    async def start(self, spec: ServerSpec) -> EmbeddedServer:
        inner = self._allocate()
        hidden = self._allocate() if spec.certificate is not None else None
        addresses = [address for address in (inner, hidden) if address is not None]

        def release() -> None:
            for address in addresses:
                self._release(address)

        server = self._server(
            spec,
            address=str(hidden or spec.address),
            port=spec.port,
            parameters=spec.parameters,
            also=[] if hidden else [str(inner)],
        )
        front: TlsFront | None = None
        starting = asyncio.ensure_future(asyncio.to_thread(_start, server, spec))
        try:
            await asyncio.shield(starting)
            if hidden is not None and spec.certificate is not None:
                front = TlsFront((str(hidden), spec.port), spec.certificate)
                await front.start((str(spec.address), spec.port), (str(inner), spec.port))
        except BaseException as problem:
            await asyncio.wait([starting])  # a thread cannot be cancelled, and what it starts has to be stopped
            if front is not None:
                await front.stop()
            await asyncio.to_thread(server.stop)
            release()
            if isinstance(problem, SunaboxError) and not isinstance(problem, PortInUse):
                raise ServerDidNotStart(str(problem)) from problem
            raise
        return EmbeddedServer(server, str(inner), release, front)

    async def copy(self, folder: Path, to: Path) -> None:
        await asyncio.to_thread(_copy, folder, to)

    async def remove(self, folder: Path) -> None:
        await asyncio.to_thread(shutil.rmtree, folder, True)


def _copy(folder: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    copy_folder(folder, to)


def _start(server: PostgresServer, spec: ServerSpec) -> None:
    new = not (spec.folder / "PG_VERSION").exists()
    if new and spec.copy_of is not None:
        _copy(spec.copy_of, spec.folder)
    server.start()
    if new and spec.copy_of is None:
        server.create_master_user(spec.master_username, spec.master_password, spec.database)
    elif new:
        server.set_password(spec.master_username, spec.master_password)


@cache
def _version() -> str:
    return server_version()


@cache
def _parameters() -> Mapping[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for line in describe_config().splitlines():
        name, context, _, kind, default, low, high, words, *_ = [*line.split("\t"), "", "", "", "", ""]
        if not name or context == "internal":
            continue
        allowed = f"{low}-{high}" if low or high else "0,1" if kind == "BOOLEAN" else ""
        parameters[name.lower()] = Parameter(
            name.lower(), _KINDS.get(kind, "string"), context in _STATIC, default, allowed, words
        )
    return parameters
