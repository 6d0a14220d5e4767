"""The Valkey server: quick, protected, and gone when it is told to be, or when its parent is."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from emulation.clock import monotonic
from emulation.elasticache.server import ValkeyServer
from emulation.errors import PortInUse, SunaboxError


def test_a_password_is_asked_for(tmp_path: Path) -> None:
    """Quotes, blanks and backslashes work in it; without it, nothing is answered."""
    server = ValkeyServer(tmp_path, password='it\'s "a" \\ %41 @/: é secret')
    server.start()
    try:
        with redis.Redis.from_url(server.url()) as client:
            assert client.ping()
        with (
            redis.Redis(host=server.address, port=server.port) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        assert (tmp_path / "valkey.conf").stat().st_mode & 0o777 == 0o600
    finally:
        server.stop()


@pytest.mark.parametrize("persistent", [True, False])
def test_data_outlive_stop_and_start_where_they_are_meant_to(tmp_path: Path, persistent: bool) -> None:
    """A cache comes back empty, a persistent server with its data; on the port that it had is nobody meanwhile."""
    server = ValkeyServer(tmp_path, persistent=persistent)
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        client.set("key", "value")
    server.stop()
    server.stop()
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.address, server.port))
    server.start()
    with redis.Redis.from_url(server.url()) as client:
        assert client.get("key") == (b"value" if persistent else None)
    server.stop()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """The same port on another address is free; on the same one it is PortInUse, and nothing is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.7.30", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ValkeyServer(tmp_path, address="127.0.7.30", port=port)
        with pytest.raises(PortInUse, match=f"127.0.7.30:{port}"):
            server.start()
        assert not server.running
        other = ValkeyServer(tmp_path / "other", address="127.0.7.31", port=port)
        other.start()
        other.stop()


def test_settings_that_it_does_not_know_fail_the_start(tmp_path: Path) -> None:
    """The error carries Valkey's words."""
    with pytest.raises(SunaboxError, match="no-such-setting"):
        ValkeyServer(tmp_path, settings={"no-such-setting": "1"}).start()


def test_a_killed_parent_takes_the_server_with_it(tmp_path: Path) -> None:
    """SIGKILL to the emulator leaves no server behind."""
    code = (
        "import sys, pathlib; from emulation.elasticache.server import ValkeyServer; "
        "s = ValkeyServer(pathlib.Path(sys.argv[1])); s.start(); print(s.port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        port = int(parent.stdout.readline())
        socket.create_connection(("127.0.0.1", port)).close()
        parent.kill()
    deadline = monotonic() + 10
    while monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionError:
            return
    pytest.fail("the server outlived its parent")
