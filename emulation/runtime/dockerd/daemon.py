"""The Docker daemon, through the docker SDK. The only module that imports it.

The SDK blocks, so its calls run in a few threads; the streams of containers, which last, are read on the event loop.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException

from emulation.errors import SunaboxError

T = TypeVar("T")

_THREADS = 8
_SECONDS = 120
_LARGEST_HEADER = 1 << 16


class DaemonGone(SunaboxError):
    """The daemon does not answer."""


class DaemonError(SunaboxError):
    """What the daemon answered instead. `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Daemon:
    """The daemon at the socket `path` of this machine. All but the constructor: on the event loop."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._client: docker.APIClient | None = None
        self.version = ""

    async def connect(self) -> Mapping[str, Any]:
        """What `docker info` shows. Raises DaemonGone."""

        def connect() -> docker.APIClient:
            return docker.APIClient(f"unix://{self.path}", version="auto", timeout=_SECONDS, num_pools=_THREADS)

        self._client = client = await self._run(connect)
        self.version = str(client.api_version)
        info: Mapping[str, Any] = await self.call(lambda client: client.info())
        return info

    async def close(self) -> None:
        client, self._client = self._client, None
        await asyncio.to_thread(self._threads.shutdown)
        if client is not None:
            client.close()

    async def call(self, operation: Callable[[Any], T]) -> T:
        """Runs `operation` with the SDK's client in a thread. Raises DaemonError and DaemonGone."""
        client = self._client
        if client is None:
            raise self._gone()
        return await self._run(lambda: operation(client))

    async def _run(self, work: Callable[[], T]) -> T:
        def guarded() -> T:
            # Where nobody listens, the SDK would leave its socket to the garbage collector.
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.path)
            return work()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, guarded)
        except APIError as error:
            raise DaemonError(str(error.explanation or error), error.response.status_code) from None
        except (DockerException, requests.RequestException, OSError) as error:
            raise self._gone() from error

    def _gone(self) -> DaemonGone:
        return DaemonGone(f"Cannot connect to the Docker daemon at unix://{self.path}. Is the docker daemon running?")

    # Containers

    async def create(self, configuration: Mapping[str, Any]) -> str:
        answer = await self.call(lambda client: client.create_container_from_config(configuration))
        return str(answer["Id"])

    async def start(self, container: str) -> None:
        await self.call(lambda client: client.start(container))

    async def state(self, container: str) -> Mapping[str, Any]:
        answer = await self.call(lambda client: client.inspect_container(container))
        return dict(answer["State"])

    async def ended(self, container: str) -> Mapping[str, Any]:
        """The state of a container whose program has ended, once the daemon knows that."""

        def wait(client: Any) -> Mapping[str, Any]:
            state: Mapping[str, Any] = client.inspect_container(container)["State"]
            if state["Running"]:
                client.wait(container)
                state = client.inspect_container(container)["State"]
            return state

        return await self.call(wait)

    async def answers(self) -> bool:
        try:
            return bool(await self.call(lambda client: client.ping()))
        except SunaboxError:
            return False

    async def remove(self, container: str) -> None:
        """Kills and removes a container, with the nameless volumes that its image declares."""
        await self._unless_gone(lambda client: client.remove_container(container, force=True, v=True))

    async def containers(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """Ids and labels, of all that were not removed."""
        found = await self.call(lambda client: client.containers(all=True, filters={"label": label}))
        return [(one["Id"], one["Labels"] or {}) for one in found]

    async def _unless_gone(self, operation: Callable[[Any], object]) -> None:
        """Does something that somebody else may have done, or be doing."""
        try:
            await self.call(operation)
        except DaemonError as error:
            if error.status not in (404, 409):
                raise

    # Volumes

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        await self.call(lambda client: client.create_volume(name, labels=labels))

    async def remove_volume(self, name: str) -> None:
        await self._unless_gone(lambda client: client.remove_volume(name, force=True))

    async def volumes(self, label: str) -> list[tuple[str, dict[str, str]]]:
        answer = await self.call(lambda client: client.volumes(filters={"label": label}))
        return [(one["Name"], one["Labels"] or {}) for one in answer["Volumes"] or ()]

    # Images

    async def image(self, name: str) -> Mapping[str, Any] | None:
        """What `docker image inspect` shows, None where the daemon has no such image."""
        try:
            answer: Mapping[str, Any] = await self.call(lambda client: client.inspect_image(name))
        except DaemonError as error:
            if error.status not in (400, 404):
                raise
            return None
        return answer

    async def load(self, archive: Iterable[bytes]) -> None:
        """Raises DaemonError where the daemon refuses the archive."""

        def load(client: Any) -> None:
            for message in client.load_image(archive):
                if "error" in message:
                    raise DaemonError(str(message["error"]), 500)

        await self.call(load)

    async def tag(self, image: str, repository: str, tag: str) -> None:
        await self.call(lambda client: client.tag(image, repository, tag))

    async def untag(self, name: str) -> None:
        await self._unless_gone(lambda client: client.remove_image(name))

    async def image_names(self, prefix: str) -> list[str]:
        found = await self.call(lambda client: client.images())
        names = [name for one in found for name in one["RepoTags"] or ()]
        return [name for name in names if name.startswith(prefix)]

    # Commands in containers

    async def create_execution(self, container: str, settings: Mapping[str, Any]) -> str:
        def create(client: Any) -> Any:
            return client.exec_create(
                container,
                settings["command"],
                stdin=True,
                environment=settings["environment"],
                user=settings["user"],
                workdir=settings["working_directory"] or None,
            )

        return str((await self.call(create))["Id"])

    async def execution(self, execution: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self.call(lambda client: client.exec_inspect(execution))
        return answer

    # Streams

    async def attach(self, container: str) -> "Connection":
        return await self._upgrade(f"/containers/{container}/attach?stream=1&stdout=1&stderr=1", {})

    async def start_execution(self, execution: str) -> "Connection":
        return await self._upgrade(f"/exec/{execution}/start", {"Detach": False, "Tty": False})

    async def _upgrade(self, path: str, body: Mapping[str, Any]) -> "Connection":
        """Asks for a stream. The SDK would lose what comes right after the answer's header.

        Source: Docker Engine API, ContainerAttach, "Hijacking".
        """
        data = json.dumps(body).encode()
        request = (
            f"POST /v{self.version}{path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_unix_connection(self.path, limit=_LARGEST_HEADER)
        except OSError as error:
            raise self._gone() from error
        try:
            writer.write(request.encode() + data)
            header = await reader.readuntil(b"\r\n\r\n")
            status = int(header.split()[1])
            if status not in (101, 200):
                raise DaemonError(_message(await reader.read(_LARGEST_HEADER)), status)
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            writer.close()
            raise self._gone() from error
        except BaseException:
            writer.close()
            raise
        return Connection(reader, writer)


class Connection:
    """A hijacked connection: the container's output comes in, in frames, and its input goes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
