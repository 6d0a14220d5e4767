"""The PostgreSQL server: quick, protected, and gone when it is told to be, or when its parent is."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from emulation.clock import monotonic
from emulation.errors import PortInUse, SunaboxError
from emulation.rds.server import PostgresServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Longer than a socket's path may be, and, being pytest's, closed to other users."""
    return tmp_path / ("long" * 30)


@pytest.fixture
def server(folder: Path) -> Iterator[PostgresServer]:
    started = PostgresServer(folder)
    started.start()
    yield started
    started.stop()


def postgres_pid(server: PostgresServer) -> int:
    return int((server.folder / "postmaster.pid").read_text().splitlines()[0])


def shared_memory(server: PostgresServer) -> str:
    return (server.folder / "postmaster.pid").read_text().splitlines()[6].split()[1]


def shared_memory_ids() -> set[str]:
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


def is_gone(pid: int, seconds: float = 10) -> bool:
    """Whether the process ends within that time. One that waits for its parent to notice has ended."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
    return False


def test_users_and_databases_with_awkward_names_and_passwords(server: PostgresServer) -> None:
    """Quotes, blanks and backslashes are theirs to choose; a wrong password is refused."""
    user, password, database = 'o\'ne "two"', "it's \\ a %41 @/: secret", "my data"
    server.create_user(user, password)
    server.create_database(database, user)
    with psycopg.connect(server.url(database, user, password)) as connection:
        assert connection.execute("select current_user, current_database()").fetchone() == (user, database)
    server.set_password(user, "new")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url(database, user, password))


def test_the_administrator_is_not_let_in_by_tcp(server: PostgresServer) -> None:
    """rdsadmin has no password, so it must not be reachable by whoever reaches the port."""
    url = f"postgresql://rdsadmin@{server.address}:{server.port}/postgres"
    with pytest.raises(psycopg.OperationalError, match="rejects connection"):
        psycopg.connect(url)
    assert server.execute("select current_user").strip() == "rdsadmin"
    assert server.folder.stat().st_mode & 0o777 == 0o700


def test_sql_errors_carry_postgresqls_words(server: PostgresServer) -> None:
    """What is wrong with a statement is said by the one who knows."""
    with pytest.raises(SunaboxError, match='database "absent" does not exist|role "absent" does not exist'):
        server.create_database("x", "absent")


def test_data_outlive_stop_and_start_and_a_kill(server: PostgresServer) -> None:
    """A stopped server leaves nothing but its folder; one that was killed comes back with what was committed."""
    server.execute("create table t (n int); insert into t values (1)")
    pid, memory = postgres_pid(server), shared_memory(server)
    server.stop()
    assert is_gone(pid, 0.5)
    assert memory not in shared_memory_ids()
    server.start()
    server.execute("insert into t values (2)")
    pid, memory = postgres_pid(server), shared_memory(server)
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    server.start()
    assert server.execute("select sum(n) from t").strip() == "3"
    assert memory not in shared_memory_ids() - {shared_memory(server)}


def test_a_server_on_an_address_of_its_own(folder: Path) -> None:
    """The standard port on an address of one's own; the same once more is PortInUse, and leaves nothing running."""
    with socket.socket() as taken:
        taken.bind(("127.0.7.20", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.7.20:{port}"):
            PostgresServer(folder, address="127.0.7.20", port=port).start()
        assert not (folder / "postmaster.pid").exists()
        other = PostgresServer(folder, address="127.0.7.21", port=port)
        other.start()
        assert other.port == port
        other.stop()


def test_settings_reach_the_server(folder: Path) -> None:
    """A parameter group's values are in force; an unknown one fails the start with its name."""
    server = PostgresServer(folder, settings={"max_connections": "17"})
    server.start()
    assert server.execute("show max_connections").strip() == "17"
    server.stop()
    with pytest.raises(SunaboxError, match="no_such_parameter"):
        PostgresServer(folder, settings={"no_such_parameter": "1"}).start()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    """Someone's files are not mixed with a database's."""
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(SunaboxError, match="neither empty nor a PostgreSQL data folder"):
        PostgresServer(folder).start()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_killed_parent_takes_the_server_with_it(folder: Path) -> None:
    """SIGKILL to the emulator leaves neither process nor shared memory, and the folder can be used at once."""
    code = (
        "import sys, pathlib; from emulation.rds.server import PostgresServer; "
        "s = PostgresServer(pathlib.Path(sys.argv[1])); s.start(); print(s.port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert int(parent.stdout.readline())
        server = PostgresServer(folder)
        pid, memory = postgres_pid(server), shared_memory(server)
        parent.kill()
    server.start()
    assert is_gone(pid, 0.5)
    assert memory not in shared_memory_ids() - {shared_memory(server)}
    server.stop()
