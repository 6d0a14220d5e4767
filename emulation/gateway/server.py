"""Port 4566: one HTTP/1.1 server for the AWS API, the registry, the task metadata endpoint and the control API."""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from emulation.clock import real_sleep
from emulation.errors import PortInUse, SunaboxError
from emulation.gateway import hosts, pages
from emulation.gateway.asgi import Application, Receive, Scope, Send, header, respond

log = logging.getLogger(__name__)

_LONGEST_SHUTDOWN_SECONDS = 3
_NOT_HTTP = "Invalid HTTP request received."


class Router:
    """Sends a request to the application that it is for, by its Host header and the first part of its path."""

    def __init__(
        self,
        aws: Application,
        control: Application,
        registry: Application,
        metadata: Application,
        own_names: frozenset[str] = frozenset(),
    ) -> None:
        self._aws, self._control, self._registry, self._metadata = aws, control, registry, metadata
        self._own_names = own_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        host, path = header(scope, "host"), scope["path"]
        if not hosts.is_ours(host, self._own_names):
            log.warning("refused a request for the host %r", host)
            text = f"Sunabox does not answer for the host {host!r}. Use 127.0.0.1 or localhost.\n".encode()
            await _refuse(send, text)
        elif hosts.host_name(host) == hosts.METADATA_HOST and path.startswith(("/v2/", "/v3/", "/v4/")):
            await self._metadata(scope, receive, send)
        elif path == "/v2" or path.startswith("/v2/"):
            if pages.is_foreign(scope):
                await _refuse(send, f"{pages.REFUSAL}\n".encode())
            else:
                await self._registry(scope, receive, send)
        elif path.startswith(("/_sunabox", "/_localstack")):
            await self._control(scope, receive, send)
        else:
            await self._aws(scope, receive, send)


async def _refuse(send: Send, text: bytes) -> None:
    await respond(send, 403, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))], text)


class Server:
    """The listening sockets and uvicorn on them, in the running event loop.

    Tasks come in at a door of their own, a free port of 127.0.0.1: what a program in a container may ask for is less
    than what its user may, and nothing else that it sends (such as the Host header) tells the two apart.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._door_of_tasks: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    def bind(self) -> tuple[str, int]:
        """Takes the address, so that it is known and held before anything else starts. Raises PortInUse."""
        self._socket = _listen(self._host, self._port)
        address = self._socket.getsockname()
        return str(address[0]), int(address[1])

    def bind_for_tasks(self) -> tuple[str, int]:
        """Takes the address that the network leads tasks to. Raises SunaboxError."""
        self._door_of_tasks = _listen("127.0.0.1", 0)
        address = self._door_of_tasks.getsockname()
        return str(address[0]), int(address[1])

    async def start(self, application: Application, for_tasks: Application | None = None) -> None:
        """`for_tasks` answers those who come in at the address of `bind_for_tasks`."""
        assert self._socket is not None, "bind comes first"
        listeners = [self._socket]
        if for_tasks is not None and self._door_of_tasks is not None:
            listeners.append(self._door_of_tasks)
            application = _by_door(application, self._door_of_tasks.getsockname()[1], for_tasks)
        config = uvicorn.Config(
            application,
            http="httptools",
            loop="asyncio",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_LONGEST_SHUTDOWN_SECONDS,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=listeners), name="gateway")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise SunaboxError("The HTTP server ended while it was starting; the log says why.")
            await real_sleep(0.002)

    async def stop(self) -> None:
        """Lets requests in flight finish, for a few seconds at most."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        for listener in (self._socket, self._door_of_tasks):
            if listener is not None:
                listener.close()
        self._server = self._serving = self._socket = self._door_of_tasks = None


def _listen(host: str, port: int) -> socket.socket:
    """Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only on sockets that say that they are TCP. Without that, an
    # answer's body waits 40 ms for the client to acknowledge its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as problem:
        listener.close()
        where = f"{host}:{port}"
        if problem.errno == errno.EADDRINUSE:
            message = f"{where} is taken by another program. Stop it (`sunabox down`?), or pass --port."
            raise PortInUse(message) from problem
        raise SunaboxError(f"Cannot listen on {where}: {problem.strerror}. Pass another --host or --port.") from problem
    return listener


def _is_news(record: logging.LogRecord) -> bool:
    """Docker, skopeo and others try TLS before each push, and go on without. That is nothing to warn of."""
    return record.msg != _NOT_HTTP


def _by_door(main: Application, port_of_tasks: int, for_tasks: Application) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        inside = (scope.get("server") or ("", 0))[1] == port_of_tasks
        await (for_tasks if inside else main)(scope, receive, send)

    return application


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's business, not the server's."""
        yield
