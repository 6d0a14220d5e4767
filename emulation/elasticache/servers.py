"""The cache servers behind nodes: what a runtime has to supply. `embedded.py` has those without Docker."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

from emulation.errors import SunaboxError

ADMINISTRATOR = "sunabox"
"""The user as whom the emulator speaks to its servers; nobody else knows its password."""


class ServerDidNotStart(SunaboxError):
    """The server refuses its settings or its data; the message is its own."""


@dataclass(frozen=True)
class ServerSpec:
    """A server to start.

    `folder` is its own; a `dump.rdb` in it is loaded. The host reaches the server at `port` of each of `addresses`, the
    first of which is the node's own. `follows` is the upstream of its primary. With `clustered` it is a node of a
    cluster (cluster mode enabled), whose clients are told of the node's own address. With `durable`, an orderly end
    (also that of the emulator) writes the data into `dump.rdb`; without, nothing is ever written. With `tls_names`
    clients have to speak TLS, and the certificate is for these names and the node's addresses. Among the settings,
    `requirepass` holds AUTH tokens, separated by blanks; each of them opens the cache. `engine` is AWS's name of it.
    """

    name: str
    folder: Path
    version: str
    addresses: tuple[IPv4Address, ...]
    port: int
    settings: Mapping[str, str]
    password: str
    follows: tuple[str, int] | None = None
    tls_names: tuple[str, ...] = ()
    clustered: bool = False
    durable: bool = False
    engine: str = "valkey"


class CacheServer(Protocol):
    """A running server."""

    @property
    def upstream(self) -> tuple[str, int]:
        """Where the emulator and other nodes reach it, without TLS, whatever `admit` says."""
        ...

    @property
    def entrance(self) -> tuple[str, int]:
        """Where clients in tasks are led to, whatever `admit` says."""
        ...

    async def execute(self, *commands: tuple[str, ...]) -> list[Any]:
        """Executes commands as the administrator. Raises SunaboxError with the server's words, or OSError."""
        ...

    async def serve(self, addresses: tuple[IPv4Address, ...]) -> None:
        """Listens on these addresses for the host from now on; established connections live on."""
        ...

    def admit(self, host: bool) -> None:
        """Whether new connections of the host are answered."""
        ...

    async def ended(self) -> str:
        """Returns when the server has ended by itself: how, for people."""
        ...

    async def stop(self, *, save: bool) -> None:
        """Ends it, with its data written into `dump.rdb` or not. Harmless twice."""
        ...


class CacheServers(Protocol):
    """Where servers come from."""

    def version(self, engine: str, asked: str) -> str:
        """The version that a server has when `asked` ("8.0") is wanted. Raises SunaboxError where there is none."""
        ...

    @property
    def tls(self) -> bool:
        """Whether in-transit encryption can be had."""
        ...

    async def start(self, spec: ServerSpec) -> CacheServer:
        """Returns when it accepts connections. Raises PortInUse, ServerDidNotStart."""
        ...


class NoServers:
    """Where the runtime has no real servers: whoever asks for one is told `why`."""

    def __init__(self, why: str) -> None:
        self._why = why

    def version(self, engine: str, asked: str) -> str:
        raise SunaboxError(self._why)

    @property
    def tls(self) -> bool:
        return False

    async def start(self, spec: ServerSpec) -> CacheServer:
        raise ServerDidNotStart(self._why)
