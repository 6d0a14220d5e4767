"""Images go to a registry and come back the same; what a registry objects to is said with what to do."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from emulation.errors import ImageError, ImageNotFound
from emulation.images.library import Library
from emulation.images.push import pull, push
from tests.images.samples import entry, image_of, sha256, tar_of

LOGIN = "Basic " + base64.b64encode(b"AWS:secret").decode()


@dataclass
class Registry:
    """A registry of one repository, as small as a test needs it."""

    repository: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: int = 0
    address: str = ""


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Serves on loopback while the test runs."""
    state = Registry("123456789012/us-east-1/app")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet."""

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlsplit(self.path)
            rest = url.path.removeprefix(f"/v2/{state.repository}/")
            if self.headers["Authorization"] != LOGIN:
                self.answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "Not Authorized"}]}')
            elif rest == url.path:
                self.answer(404, b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no such repository"}]}')
            elif self.command == "POST":
                self.answer(202, Location=f"/v2/{state.repository}/blobs/uploads/1?state=x")
            elif self.command == "PUT" and rest.startswith("blobs/"):
                state.uploads += 1
                state.blobs[parse_qs(url.query)["digest"][0]] = body
                self.answer(201)
            elif self.command == "PUT":
                state.manifests[rest.partition("/")[2]] = (self.headers["Content-Type"], body)
                self.answer(201, Docker_Content_Digest=sha256(body))
            elif rest.startswith("blobs/") and rest[6:] in state.blobs:
                self.answer(200, state.blobs[rest[6:]])
            elif rest.startswith("manifests/") and rest[10:] in state.manifests:
                media_type, body = state.manifests[rest[10:]]
                self.answer(200, body, Content_Type=media_type)
            else:
                self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')

        do_HEAD = do_POST = do_PUT = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        state.address = f"127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """A library with one image of two layers, `app:1`."""
    library = Library(tmp_path / "library")
    library.add(image_of(tmp_path / "blobs", tar_of(entry("a", b"1")), tar_of(entry("b", b"2" * 99_999))), ["app:1"])
    return library


def test_a_pushed_image_is_pulled_the_same(registry: Registry, library: Library, tmp_path: Path) -> None:
    """Digest and blobs survive the way, and what is there already is not sent again."""
    target = f"{registry.address}/{registry.repository}:v1"
    for _ in range(2):
        assert push(library, "app:1", target, username="AWS", password="secret") == library.find("app:1").digest
    assert registry.uploads == 3
    pulled = pull(other := Library(tmp_path / "other"), target, username="AWS", password="secret")
    assert (pulled.name, pulled.digest) == (target, library.find("app:1").digest)
    assert other.read(target).layers[1].path.read_bytes() == library.read("app:1").layers[1].path.read_bytes()


def test_a_registry_that_lies_is_not_believed(registry: Registry, library: Library, tmp_path: Path) -> None:
    """A blob of another content or a longer one, and a manifest of another digest, are refused; nothing is named."""
    target = f"{registry.address}/{registry.repository}:v1"
    digest = push(library, "app:1", target, username="AWS", password="secret")
    other = Library(tmp_path / "other")
    layer = library.read("app:1").layers[0].digest
    good = registry.blobs[layer]
    for wrong, message in ((good[:-1] + b"!", "digest does not match"), (good + b"!", "is larger than")):
        registry.blobs[layer] = wrong
        with pytest.raises(ImageError, match=message):
            pull(other, target, username="AWS", password="secret")
    registry.manifests[digest] = ("application/vnd.oci.image.manifest.v1+json", b"{}")
    with pytest.raises(ImageError, match="digest does not match"):
        pull(other, f"{target}@{digest}", username="AWS", password="secret")
    assert other.list() == ()


def test_objections_say_what_to_do(registry: Registry, library: Library) -> None:
    """A wrong password, a missing repository and an unknown tag are told apart."""
    known = f"{registry.address}/{registry.repository}"
    with pytest.raises(ImageError, match=r"\(401\): .*aws ecr get-login-password"):
        push(library, "app:1", f"{known}:1", username="AWS", password="wrong")
    unknown = f"{registry.address}/123456789012/eu-west-1/team/new:1"
    with pytest.raises(ImageNotFound, match="aws ecr create-repository --repository-name team/new --region eu-west-1"):
        push(library, "app:1", unknown, username="AWS", password="secret")
    with pytest.raises(ImageNotFound, match="manifest unknown"):
        pull(library, f"{known}:none", username="AWS", password="secret")
    with pytest.raises(ImageError, match="names no registry"):
        push(library, "app:1", "app:2")
    assert json.dumps(registry.manifests) == "{}"


def test_a_registry_that_does_not_run_is_named(library: Library) -> None:
    """A refused connection is an ImageError that says which registry."""
    with pytest.raises(ImageError, match=r"cannot reach the registry 127\.0\.0\.1:1: .*refused"):
        push(library, "app:1", "127.0.0.1:1/app:1")
