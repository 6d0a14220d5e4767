"""Servers of managed services as containers: started by Testcontainers, watched and ended by us.

They share the host's network, so that a server listens on its endpoint's addresses itself, as one without Docker does:
security groups act on its own sockets, and no proxy takes a part of its speed. Everything here blocks.
"""

import io
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import requests
from docker.errors import DockerException
from docker.utils.socket import STDOUT, frames_iter

from emulation.clock import monotonic
from emulation.errors import SunaboxError

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_POLL_SECONDS = 0.01
_LOG_LINES = 60
_LONGEST_ERROR = 10_000


class ServerEnded(SunaboxError):
    """The server ended before it was ready; the message is the end of its log."""


class ServerContainer:
    """A started container, and its first process as this host sees it. Raises SunaboxError where the daemon refuses."""

    def __init__(self, container: "DockerContainer") -> None:
        self._container = container
        wrapped = container.get_wrapped_container()
        wrapped.reload()
        self.process_id = int(wrapped.attrs["State"]["Pid"])
        self._process = -1
        with suppress(OSError):
            if self.process_id:
                self._process = os.pidfd_open(self.process_id)

    @property
    def running(self) -> bool:
        return self._process >= 0 and not self.ended_within(0)

    def ended_within(self, seconds: float) -> bool:
        """Waits so long at most."""
        if self._process < 0:
            return True
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def signal(self, number: int) -> None:
        """By the kernel, so that it also arrives when the daemon does not answer."""
        if self._process >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Raises ServerEnded as soon as the server has ended, or is not ready after so long."""
        deadline = monotonic() + seconds
        while not ready():
            if self.ended_within(_POLL_SECONDS) or monotonic() > deadline:
                raise ServerEnded(self.log())

    def log(self) -> str:
        """The end of what it wrote on its output."""
        with explained():
            said = self._container.get_wrapped_container().logs(tail=_LOG_LINES)
            return bytes(said).decode(errors="replace").strip()

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        with explained():
            self._container.copy_into_container(content, path, mode)

    def execute(self, *command: str) -> bytes:
        """Runs a program in it as root: its standard output. Raises SunaboxError with what it wrote on the other."""
        output = io.BytesIO()
        self.copy_output(output, *command)
        return output.getvalue()

    def copy_output(self, file: IO[bytes], *command: str) -> None:
        """The same, with the output written into a file."""
        errors = b""
        with explained():
            wrapped = self._container.get_wrapped_container()
            api = wrapped.client.api
            execution = api.exec_create(wrapped.id, list(command))["Id"]
            stream = api.exec_start(execution, socket=True)
            try:
                for kind, data in frames_iter(stream, tty=False):
                    if kind == STDOUT:
                        file.write(data)
                    else:
                        errors = (errors + data)[-_LONGEST_ERROR:]
            finally:  # the SDK itself would leave it open
                stream._response.close()
                stream.close()
            code = api.exec_inspect(execution)["ExitCode"]
        if code:
            raise SunaboxError(errors.decode(errors="replace").strip())

    def exit_code(self) -> int:
        """Of its first process, once that has ended."""
        with explained():
            return int(self._container.get_wrapped_container().wait()["StatusCode"])

    def remove(self) -> None:
        """Harmless twice, and where the daemon has gone: the next start removes it then."""
        if self._process >= 0:
            os.close(self._process)
            self._process = -1
        with suppress(DockerException, requests.RequestException):
            self._container.stop()


def start(
    container: "DockerContainer", labels: Mapping[str, str], files: Mapping[str, bytes], folder: tuple[Path, str]
) -> ServerContainer:
    """Starts a Testcontainer in the host's network. `files` are there before it runs; `folder` is ours, and its place.

    Raises SunaboxError.
    """
    container.ports.clear()  # nothing to publish: it is on the host's network
    # Process ids that a server tells (pg_backend_pid) are this machine's, as they are without Docker.
    container.with_kwargs(network="host", pid_mode="host", userns_mode="host", labels=dict(labels))
    container.with_volume_mapping(str(folder[0]), folder[1], "rw")
    for path, content in files.items():
        container.with_copy_into_container(content, path)
    try:
        with explained():
            container.start()
            return ServerContainer(container)
    except BaseException:
        with suppress(DockerException, requests.RequestException):
            container.stop()
        raise


def take_back(folder: Path) -> None:
    """Makes a folder ours again, which the container's user had to own: so that every runtime can go on with it."""
    user, group = os.geteuid(), os.getegid()
    for parent, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(os.path.join(parent, name), user, group, follow_symlinks=False)


def without_reaper() -> None:
    """Tells Testcontainers to start no reaper: our labels do its work, and its image is not on every machine."""
    from testcontainers.core.config import testcontainers_config

    testcontainers_config.ryuk_disabled = True


@contextmanager
def explained() -> Iterator[None]:
    """Turns what the daemon, or the way to it, raises into SunaboxError."""
    try:
        yield
    except (DockerException, requests.RequestException) as problem:
        raise SunaboxError(f"The Docker daemon: {getattr(problem, 'explanation', None) or problem}") from problem
