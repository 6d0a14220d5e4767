"""A client of OCI registries: pushes images of a library, and pulls into it.

Source: OCI Distribution Specification, "Push" and "Pull"; Amazon ECR User Guide, "Private registry authentication".
"""

import json
from collections.abc import Mapping, Sequence
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout, make_headers

from emulation.errors import ImageError, ImageNotFound
from emulation.images.blobs import digest_of
from emulation.images.library import Library, LocalImage
from emulation.images.manifest import INDEXES, LARGEST_MANIFEST, MANIFESTS, Index, parse_manifest, select_manifest
from emulation.images.reference import ImageReference, ecr_registry, is_loopback

_TIMEOUT = Timeout(connect=10, read=300)
_RETRIES = Retry(connect=0, read=0, redirect=5, status=0, other=0)


def push(library: Library, reference: str, target: str, *, username: str = "", password: str = "") -> str:
    """Pushes this machine's image of a local name to `target`, for example `<repositoryUri>:<tag>`.

    Blobs that are there already are not sent again. Loopback registries are spoken to by HTTP, others by HTTPS. Gives
    the digest of the manifest. Raises ImageNotFound for a name that the library does not have, ImageError where the
    registry cannot be reached or refuses, with what to do.
    """
    image = library.read(reference)
    manifest = parse_manifest(image.manifest)
    assert not isinstance(manifest, Index)  # `read` has chosen this machine's
    registry = _Registry(ImageReference.parse(target), username, password)
    for descriptor in {entry.digest: entry for entry in (*manifest.layers, manifest.config)}.values():
        if not registry.has_blob(descriptor.digest):
            with library.blobs.path(descriptor.digest).open("rb") as file:
                registry.push_blob(descriptor.digest, library.blobs.size(descriptor.digest), file)
    registry.push_manifest(image.manifest, manifest.media_type)
    return image.digest


def pull(
    library: Library, source: str, *, names: Sequence[str] = (), username: str = "", password: str = ""
) -> LocalImage:
    """Pulls this machine's image into a library, named `source` or `names`. Everything is verified.

    Raises ImageNotFound where the registry has no such image, ImageError where it cannot be reached or refuses.
    """
    reference = ImageReference.parse(source)
    registry = _Registry(reference, username, password)
    data = registry.pull_manifest(reference.digest or reference.tag)
    manifest = parse_manifest(data)
    if isinstance(manifest, Index):
        data = registry.pull_manifest(select_manifest(manifest).digest)
        manifest = parse_manifest(data)
        if isinstance(manifest, Index):
            raise ImageError(f"manifest invalid: {source} is an index inside an index")
    for descriptor in (manifest.config, *manifest.layers):
        if not library.blobs.has(descriptor.digest):
            upload = library.blobs.new_upload()
            try:
                with upload.open("wb") as file:
                    registry.pull_blob(descriptor.digest, descriptor.size, file)
                library.blobs.adopt(upload, descriptor.digest)
            finally:
                upload.unlink(missing_ok=True)
    digest = library.blobs.put(data)
    return library.add(digest, names or [reference.name + (f":{reference.tag}" if reference.tag else "")])[0]


class _Registry:
    """One repository of one registry, as one user."""

    def __init__(self, reference: ImageReference, username: str, password: str) -> None:
        if not reference.registry:
            raise ImageError(f"{reference} names no registry: give <registry>/<repository>:<tag>")
        self._reference = reference
        scheme = "http" if is_loopback(reference.registry) else "https"
        self._host = reference.registry
        self._root = f"{scheme}://{reference.registry}/v2/{reference.repository}/"
        self._login = make_headers(basic_auth=f"{username}:{password}") if username else {}
        self._http = urllib3.PoolManager(timeout=_TIMEOUT, retries=_RETRIES)

    def has_blob(self, digest: str) -> bool:
        response = self._request("HEAD", f"blobs/{digest}")
        if response.status == 404:
            return False
        self._expect(response, 200)
        return True

    def push_blob(self, digest: str, size: int, file: IO[bytes]) -> None:
        response = self._request("POST", "blobs/uploads/", headers={"Content-Length": "0"})
        self._expect(response, 202)
        location = urljoin(self._root, response.headers.get("Location", ""))
        location += f"{'&' if urlsplit(location).query else '?'}digest={quote(digest)}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._expect(self._request("PUT", location, body=file, headers=headers), 201)

    def push_manifest(self, manifest: bytes, media_type: str) -> None:
        name = self._reference.tag or digest_of(manifest)
        response = self._request("PUT", f"manifests/{name}", body=manifest, headers={"Content-Type": media_type})
        self._expect(response, 201)
        answered = response.headers.get("Docker-Content-Digest")
        if answered is not None and answered != digest_of(manifest):
            raise ImageError(f"digest does not match: the registry says {answered} of {digest_of(manifest)}")

    def pull_manifest(self, name: str) -> bytes:
        response = self._request("GET", f"manifests/{name}", headers={"Accept": ", ".join((*MANIFESTS, *INDEXES))})
        self._expect(response, 200)
        if len(response.data) > LARGEST_MANIFEST:
            raise ImageError(f"manifest invalid: that of {self._reference} is larger than {LARGEST_MANIFEST} bytes")
        if name.startswith("sha256:") and digest_of(response.data) != name:
            raise ImageError(f"digest does not match: the registry answers {digest_of(response.data)} for {name}")
        return response.data

    def pull_blob(self, digest: str, size: int, file: IO[bytes]) -> None:
        response = self._request("GET", f"blobs/{digest}", stream=True)
        try:
            if response.status != 200:
                response.read()
                self._expect(response, 200)
            received = 0
            for chunk in response.stream(1 << 20):
                received += len(chunk)
                if received > size:
                    raise ImageError(f"blob {digest} is larger than the {size} bytes that its manifest says")
                file.write(chunk)
        except HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: "bytes | IO[bytes] | None" = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        url = urljoin(self._root, path)
        # A registry may send uploads to another host, which must not learn the password.
        login = self._login if urlsplit(url).netloc == self._host else {}
        try:
            return self._http.request(
                method,
                url,
                body=body,
                headers={**login, **(headers or {})},
                preload_content=not stream,
                decode_content=False,
            )
        except HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: HTTPError) -> ImageError:
        reason = getattr(error, "reason", None) or error
        return ImageError(f"cannot reach the registry {self._host}: {reason}. Is it running (`sunabox status`)?")

    def _expect(self, response: urllib3.BaseHTTPResponse, status: int) -> None:
        if response.status == status:
            return
        code, message = _error(response)
        if response.status in (401, 403):
            reason = " ".join(filter(None, (str(response.status), message or code)))
            raise ImageError(
                f"the registry {self._host} refuses access to {self._reference.repository} ({reason}): "
                "give the user AWS and the password of `aws ecr get-login-password`"
            )
        if code == "NAME_UNKNOWN":
            raise ImageNotFound(f"the repository {self._reference.repository} does not exist: {self._creation()}")
        if response.status == 404:
            raise ImageNotFound(f"{self._reference} not found: {message or code or response.status}")
        raise ImageError(f"the registry {self._host} answers {response.status} {code} {message}".rstrip())

    def _creation(self) -> str:
        ecr = ecr_registry(self._reference)
        name = ecr.repository if ecr else self._reference.repository
        region = f" --region {ecr.region}" if ecr else ""
        return f"create the repository first: aws ecr create-repository --repository-name {name}{region}"


def _error(response: urllib3.BaseHTTPResponse) -> tuple[str, str]:
    """Code and message of a registry's error, empty where it gives none."""
    try:
        first: Any = json.loads(response.data)["errors"][0]
        return str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", ""
