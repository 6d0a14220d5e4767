"""A Valkey or Redis server in a container that Testcontainers starts."""

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from testcontainers.community.redis import RedisContainer

from emulation.elasticache.server import ValkeyServer, configuration_file
from emulation.errors import PortInUse, SunaboxError
from emulation.runtime.dockerd import server_container
from emulation.runtime.dockerd.server_container import ServerContainer, ServerEnded
from emulation.runtime.dockerd.server_images import ServerImage, numbers

_DATA = "/data"
_SETTINGS_FILE, _USERS_FILE = "/etc/sunabox/server.conf", "/etc/sunabox/users.acl"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_SINCE_VALKEY_8 = ("cluster-announce-client-ipv4",)


class ContainerValkey(ValkeyServer):
    """One server in a container. `folder` is its working folder, on this host; `labels` are the container's."""

    def __init__(
        self,
        folder: Path,
        *,
        image: Callable[[], ServerImage],
        labels: Mapping[str, str],
        address: str,
        port: int,
        settings: Mapping[str, str],
        also: Sequence[str] = (),
        users: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, address=address, port=port, settings=settings, also=also, users=users)
        self._image, self._labels = image, labels
        self._container: ServerContainer | None = None

    @property
    def keeper(self) -> int | None:
        return self._container.process_id if self._container is not None else None

    @property
    def exit_code(self) -> int | None:
        if self._container is None or self._container.running:
            return None
        return self._container.exit_code()

    @property
    def running(self) -> bool:
        return self._container is not None and self._container.running

    def process_id(self, told: int) -> int:
        return self._container.process_id if self._container is not None else 0

    def start(self) -> None:
        """Returns when the server answers. Raises PortInUse, or SunaboxError."""
        if self.running:
            return
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        image = self._image()
        server_container.without_reaper()
        redis = RedisContainer(image.name, port=self.port)
        # Testcontainers waits for two minutes, also for a container that has ended: we wait for it ourselves.
        redis._wait_strategy = None
        redis.with_command(["redis-server" if image.repository == "redis" else "valkey-server", _SETTINGS_FILE])
        redis.with_env("TZ", "UTC")
        self._container = server_container.start(redis, self._labels, self._files(image), (self.folder, _DATA))
        try:
            self._container.wait_until(self._answers, _START_SECONDS)
        except ServerEnded as ended:
            self.stop()
            if "Address already in use" in str(ended):
                raise PortInUse(
                    f"{self.address}:{self.port} is taken by another program. Stop it, or choose another port."
                ) from None
            raise SunaboxError(f"Valkey did not start in {self.folder}: {str(ended)[-2000:]}") from None
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        if self._container is not None:
            self._container.signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            container.signal(number)
            if container.ended_within(_STOP_SECONDS):
                break
        container.remove()
        server_container.take_back(self.folder)

    def log(self) -> str:
        return self._container.log() if self._container is not None else ""

    def _files(self, image: ServerImage) -> dict[str, bytes]:
        settings = {**self._settings, "port": str(self.port), "dir": _DATA}
        if self._users:
            settings["aclfile"] = _USERS_FILE
        if image.repository == "redis" or numbers(image.version) < (8,):
            settings = {name: value for name, value in settings.items() if name not in _SINCE_VALKEY_8}
        content = configuration_file(" ".join((self.address, *self._also)), settings, self._lists)
        return {_SETTINGS_FILE: content.encode(), _USERS_FILE: "".join(f"{line}\n" for line in self._users).encode()}

    def _answers(self) -> bool:
        """Whether it has loaded its data; who it is that asks does not matter."""
        with suppress(OSError), socket.create_connection((self.address, self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False
