"""The stores of the sample program, each kind of them real."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures" / "app"))

from furui.store import Settings

from emulation.elasticache.server import ValkeyServer
from emulation.rds.server import PostgresServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, ValkeyServer]]:
    folder = tmp_path_factory.mktemp("servers")
    postgres, valkey = PostgresServer(folder / "postgres"), ValkeyServer(folder / "valkey")
    try:
        postgres.start()
        valkey.start()
        postgres.create_user("furui", "secret")
        yield postgres, valkey
    finally:
        postgres.stop()
        valkey.stop()


@pytest.fixture
def database_settings(servers: tuple[PostgresServer, ValkeyServer]) -> Settings:
    """Empty databases, the test's own."""
    postgres, valkey = servers
    number = next(_numbers) % 16
    name = f"test_{number}"
    postgres.drop_database(name)
    postgres.create_database(name, "furui")
    return Settings(database_url=postgres.url(name, "furui", "secret"), redis_url=valkey.url(number))


@pytest.fixture(params=["files", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The settings of an empty store of each kind."""
    if request.param == "files":
        return Settings(folder=tmp_path / "furui")
    found: Settings = request.getfixturevalue("database_settings")
    return found
