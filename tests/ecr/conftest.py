"""A whole ECR on a free port: the registry, and the AWS API over moto, as the gateway puts them together."""

import asyncio
import gzip
import hashlib
import io
import json
import socket
import tarfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
import requests
import uvicorn
from botocore.config import Config

from emulation.clock import VirtualClock
from emulation.core.api_thread import ApiThread
from emulation.ecr.http import Receive, Scope, Send
from emulation.ecr.registry import Registry
from emulation.ecr.service import Ecr
from emulation.ecr.source import EcrImages
from emulation.ecr.store import EcrStore
from emulation.images.manifest import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, host_platform

ACCOUNT = "111122223333"
REGION = "eu-west-1"

T = TypeVar("T")


class Server:
    """ECR as clients see it, and as the rest of the emulation does (`ecr`, `images`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ecr-test-loop")
        self._thread.start()
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.api = ApiThread()
        self.clock = VirtualClock()
        self.ecr = Ecr(EcrStore(folder), self.clock, self.address)
        self.images = EcrImages(self.ecr, self.api)
        self._registry = Registry(self.ecr, self.api)
        self._aws: Any = None
        config = uvicorn.Config(
            self._serve, interface="asgi3", lifespan="off", ws="none", log_level="error", timeout_graceful_shutdown=1
        )
        self._uvicorn = uvicorn.Server(config)
        self.run(self.api.start())
        self.run(self.api.call(self._load_moto))
        self._serving = asyncio.run_coroutine_threadsafe(self._uvicorn.serve(sockets=[listener]), self._loop)

    def close(self) -> None:
        self.ecr.store.close()
        self._uvicorn.should_exit = True
        self._serving.result(20)
        self.api.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def on_api_thread(self, function: Callable[..., T], *args: Any) -> T:
        return self.run(self.api.call(function, *args))

    def advance(self, duration: timedelta) -> None:
        self.run(self.clock.advance(duration))

    def aws(self, account: str = ACCOUNT, region: str = REGION) -> Any:
        client = boto3.client(
            "ecr",
            region_name=region,
            aws_access_key_id=account,
            aws_secret_access_key="x",
            endpoint_url=f"http://{self.address}",
            config=Config(retries={"total_max_attempts": 1}),
        )

        def name_account(request: Any, **_: Any) -> None:  # the gateway tells it from the access key
            request.headers["x-moto-account-id"] = account

        client.meta.events.register("before-sign.ecr", name_account)
        return client

    def _load_moto(self) -> None:
        from moto.moto_server import werkzeug_app

        from emulation.ecr import api

        api.install(self.ecr)
        self._aws = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v2"):
            await self._registry(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve_aws(scope, receive, send)

    async def _serve_aws(self, scope: Scope, receive: Receive, send: Send) -> None:
        from werkzeug.test import EnvironBuilder, run_wsgi_app

        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = [(key.decode(), value.decode()) for key, value in scope["headers"]]
        environ = EnvironBuilder(path=scope["path"], method=scope["method"], headers=headers, data=body).get_environ()
        parts, status, answer = await self.api.call(run_wsgi_app, self._aws, environ, buffered=True)
        raw = [(key.lower().encode(), value.encode()) for key, value in answer.items()]
        await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": raw})
        await send({"type": "http.response.body", "body": b"".join(parts)})


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts servers; all on the same folder."""
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server(tmp_path / "ecr"))
        return servers[-1]

    yield start
    for server in servers:
        if not server._serving.done():
            server.close()


@pytest.fixture
def server(serve: Callable[[], Server]) -> Server:
    return serve()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class SampleImage:
    """A real, small image: one gzipped layer with one file that holds `text`."""

    layer: bytes
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def size(self) -> int:
        return len(self.layer) + len(self.config)


def sample_image(text: str = "hello", **more: Any) -> SampleImage:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        info = tarfile.TarInfo("hello.txt")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    layer = gzip.compress(content.getvalue(), mtime=0)
    platform = host_platform()
    config = json.dumps(
        {
            "os": platform.os,
            "architecture": platform.architecture,
            "config": {"Cmd": ["cat", "/hello.txt"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(content.getvalue())]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": OCI_LAYER_GZIP, "digest": digest_of(layer), "size": len(layer)}],
        **more,
    }
    return SampleImage(layer, config, json.dumps(manifest).encode())


class Repository:
    """A repository of the registry, spoken to in plain HTTP."""

    def __init__(self, server: Server, name: str, account: str = ACCOUNT, region: str = REGION) -> None:
        self.base = f"http://{server.address}/v2/{account}/{region}/{name}"
        self.uri = f"{server.address}/{account}/{region}/{name}"
        self._origin = f"http://{server.address}"
        self.name = name

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        url = self._origin + path if path.startswith("/v2") else f"{self.base}/{path}"
        return requests.request(method, url, timeout=30, **kwargs)

    def upload(self, data: bytes) -> str:
        digest = digest_of(data)
        answer = self.request("POST", f"blobs/uploads/?digest={digest}", data=data)
        assert answer.status_code == 201, answer.text
        return digest

    def put_manifest(self, manifest: bytes, reference: str = "", media_type: str = OCI_MANIFEST) -> requests.Response:
        headers = {"Content-Type": media_type}
        return self.request("PUT", f"manifests/{reference or digest_of(manifest)}", data=manifest, headers=headers)

    def push(self, image: SampleImage, tag: str = "") -> str:
        self.upload(image.layer)
        self.upload(image.config)
        answer = self.put_manifest(image.manifest, tag)
        assert answer.status_code == 201, answer.text
        return image.digest


@pytest.fixture
def repository(server: Server) -> Repository:
    """`app`, which exists."""
    server.aws().create_repository(repositoryName="app")
    return Repository(server, "app")


def files_of(server: Server) -> list[str]:
    """Digests of all blobs, and the names of what else lies where blobs are written."""
    root = server.folder / "blobs"
    uploads = [path.name for path in (root / "uploads").glob("*/*")]
    return sorted([*server.ecr.store.blobs.digests(), *uploads])
