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
from emulation.gateway import hosts
from emulation.gateway.asgi import Application, Receive, Scope, Send, header, respond

log = logging.getLogger(__name__)

_LONGEST_SHUTDOWN_SECONDS = 3


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
            await respond(send, 403, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))], text)
        elif hosts.host_name(host) == hosts.METADATA_HOST and path.startswith(("/v2/", "/v3/", "/v4/")):
            await self._metadata(scope, receive, send)
        elif path == "/v2" or path.startswith("/v2/"):
            await self._registry(scope, receive, send)
        elif path.startswith(("/_sunabox", "/_localstack")):
            await self._control(scope, receive, send)
        else:
            await self._aws(scope, receive, send)


class Server:
    """The listening socket and uvicorn on it, in the running event loop."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    def bind(self) -> tuple[str, int]:
        """Takes the address, so that it is known and held before anything else starts. Raises PortInUse."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio sends small answers at once (TCP_NODELAY) only on sockets that say that they are TCP. Without that, an
        # answer's body waits 40 ms for the client to acknowledge its headers.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
            listener.listen(1024)
        except OSError as problem:
            listener.close()
            where = f"{self._host}:{self._port}"
            if problem.errno == errno.EADDRINUSE:
                message = f"{where} is taken by another program. Stop it (`sunabox down`?), or pass --port."
                raise PortInUse(message) from problem
            raise SunaboxError(
                f"Cannot listen on {where}: {problem.strerror}. Pass another --host or --port."
            ) from problem
        self._socket = listener
        address = listener.getsockname()
        return str(address[0]), int(address[1])

    async def start(self, application: Application) -> None:
        assert self._socket is not None, "bind comes first"
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
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="gateway")
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
        if self._socket is not None:
            self._socket.close()
        self._server = self._serving = self._socket = None


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's business, not the server's."""
        yield
