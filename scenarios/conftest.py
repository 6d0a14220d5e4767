"""What the first chapters stand on: the program, and database servers that are real.

Servers start once a session (with pytest-xdist: once a worker); each test has a database of its own in them.
"""

import fcntl
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the chapters say `from checks import …`, as a workshop reads them

from fargate import Fargate, build_furui
from program import Program

from emulation.elasticache.server import ValkeyServer
from emulation.images.library import Library
from emulation.rds.server import PostgresServer
from emulation.testing.account import AwsAccount

_USER, _PASSWORD = "furui", "a sieve's secret"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.start()
    try:
        server.create_user(_USER, _PASSWORD)
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database, the test's own."""
    name = f"scenario_{next(_numbers)}"
    postgres_server.create_database(name, _USER)
    yield postgres_server.url(name, _USER, _PASSWORD)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"), settings={"databases": "1000"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> str:
    """The URL of an empty database, the test's own."""
    return valkey_server.url(next(_numbers))


@pytest.fixture
def furui(tmp_path: Path) -> Program:
    """The program, with its state in files."""
    return Program(tmp_path / "furui", {})


@pytest.fixture
def furui_on(tmp_path: Path) -> Callable[[Mapping[str, str]], Program]:
    """The program with other environment variables, in the same folder as `furui`."""
    return lambda environment: Program(tmp_path / "furui", environment)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The machine's images, with the program's among them; built once, also for several workers of one test run."""
    root = tmp_path_factory.getbasetemp()
    shared = (root.parent if root.name.startswith("popen-") else root) / "images"
    shared.mkdir(exist_ok=True)
    with open(shared / "build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = Library(shared / "library")
        if not built.list():
            build_furui(built)
    return built


@pytest.fixture
def fargate(aws: AwsAccount, library: Library) -> Fargate:
    return Fargate(aws, library)


@pytest.fixture
def furui_image(fargate: Fargate) -> str:
    """The URI of the program's image in the account's ECR."""
    return fargate.push("furui:1", "furui")[0]
