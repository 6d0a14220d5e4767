"""The database servers behind DB instances: what a runtime has to supply. `embedded.py` has those without Docker."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from emulation.errors import SunaboxError
from emulation.rds.certificates import Certificate
from emulation.rds.parameters import Parameter


class ServerDidNotStart(SunaboxError):
    """The server refuses its settings or its data; the message is its own."""


@dataclass(frozen=True)
class ServerSpec:
    """A server to start.

    `folder` is its data folder: used as it is where it has data, made else. `copy_of` is a snapshot's folder from which
    a new one is made. The host reaches it at `address`:`port`. `database` '' means none but `postgres`. With a
    `certificate` every connection has to be encrypted.
    """

    name: str
    folder: Path
    version: str
    parameters: Mapping[str, str]
    address: IPv4Address
    port: int
    master_username: str
    master_password: str
    database: str = ""
    copy_of: Path | None = None
    certificate: Certificate | None = None


class DatabaseServer(Protocol):
    """A running server. Its methods raise SunaboxError with the server's own words."""

    @property
    def upstream(self) -> tuple[str, int]:
        """Where the emulator reaches it on behalf of tasks, whatever `admit` says."""
        ...

    def alive(self) -> bool: ...

    def admit(self, host: bool) -> None:
        """Whether new connections of the host to the instance's address are answered; established ones live on."""
        ...

    async def apply(self, parameters: Mapping[str, str]) -> None:
        """Replaces the parameters; those that need a restart act after the next start."""
        ...

    async def set_password(self, user: str, password: str) -> None: ...

    async def copy_to(self, folder: Path) -> None:
        """A consistent copy of the data in a new folder, from which `copy_of` starts. The server goes on meanwhile."""
        ...

    async def stop(self) -> None:
        """A fast shutdown: sessions end, data is written. Harmless twice."""
        ...


class DatabaseServers(Protocol):
    """Where servers come from."""

    def version(self, engine: str, asked: str) -> str:
        """The version that a server has when `asked` ("16.4") is wanted. Raises SunaboxError where there is none."""
        ...

    def parameters(self, engine: str, version: str) -> Mapping[str, Parameter]:
        """What can be set in a parameter group, by name. Empty where nobody knows."""
        ...

    async def start(self, spec: ServerSpec) -> DatabaseServer:
        """Returns when it accepts connections. Raises PortInUse, ServerDidNotStart."""
        ...

    async def copy(self, folder: Path, to: Path) -> None:
        """A copy of the data of a server that does not run."""
        ...

    async def remove(self, folder: Path) -> None:
        """Removes the data of a server that does not run. Harmless when there is none."""
        ...
