"""What the tests of servers in containers need: a daemon, addresses, and nothing left behind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count

import pytest

from emulation.images.library import Library
from emulation.runtime.dockerd import address
from emulation.runtime.dockerd.server_images import connected


@dataclass
class Ground:
    """`addresses` are of the host, one after the other; `labels` mark the containers of one test."""

    library: Library
    labels: Mapping[str, str]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def allocate(self) -> IPv4Address:
        return IPv4Address(f"127.77.0.{next(self.numbers)}")

    def release(self, address: IPv4Address) -> None:
        """Nobody else wants it."""

    def containers(self) -> list[str]:
        (label,) = self.labels.items()
        with connected() as daemon:
            return [one.id for one in daemon.containers.list(all=True, filters={"label": "=".join(label)})]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def ground(library: Library, request: pytest.FixtureRequest) -> Ground:
    """Skips where the docker runtime has no daemon."""
    url = address.daemon_url()
    if obstacle := address.obstacle(url):
        pytest.skip(obstacle)
    if not address.answers(url):
        pytest.skip(f"no Docker daemon answers at {url}")
    return Ground(library, {"sunabox.test": request.node.name})
