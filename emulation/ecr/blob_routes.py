"""Blobs over HTTP: read whole or in ranges, uploaded at once or in chunks, mounted from another repository, deleted.

Bodies go to disk as they come. An upload that lies about its digest, or whose body breaks off, is gone with all of its
bytes.

Source: OCI Distribution Specification, "Pushing Blobs" and "Pulling Blobs".
"""

import asyncio
import re
from urllib.parse import quote

from emulation.core.api_thread import ApiThread
from emulation.ecr.errors import UploadNotFound
from emulation.ecr.http import FilePart, RegistryError, Reply, Request, parse_range
from emulation.ecr.routing import Addressed, Naming
from emulation.ecr.service import Ecr
from emulation.ecr.uploads import Upload
from emulation.images.blobs import check_digest
from emulation.images.reference import EcrName

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d+)-(\d+)(?:/(?:\d+|\*))?")


class BlobRoutes:
    def __init__(self, ecr: Ecr, api: ApiThread, naming: Naming) -> None:
        self._store, self._uploads, self._api, self._naming = ecr.store, ecr.uploads, api, naming

    # --- Reading

    async def get(self, to: Addressed) -> Reply:
        size = await self._api.call(self._store.layer_size, to.name, to.item)
        wanted = parse_range(to.request.headers.get("range", ""), size)
        start, length = wanted or (0, size)
        headers = {**_blob_headers(to.item), "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
        return Reply(206 if wanted else 200, headers, FilePart(self._store.blobs.path(to.item), start, length))

    async def head(self, to: Addressed) -> Reply:
        # Who asks so is most often about to name the blob in a manifest.
        size = await self._api.call(self._store.layer_size, to.name, to.item, pushing=True)
        headers = {**_blob_headers(to.item), "Accept-Ranges": "bytes", "Content-Length": str(size)}
        return Reply(200, headers)

    async def delete(self, to: Addressed) -> Reply:
        await self._api.call(self._store.remove_layer, to.name, to.item)
        return Reply(202)

    # --- Uploading

    async def start(self, to: Addressed) -> Reply:
        await self._api.call(self._store.repository, to.name)
        query = to.request.query
        if digest := query.get("mount"):
            check_digest(digest)
            source = self._naming(to.request, to.token, query["from"]) if query.get("from") else None
            if await self._api.call(self._store.mount, to.name, digest, source):
                return _created(to, digest)
        upload = await asyncio.to_thread(self._uploads.start, to.name)
        if digest := query.get("digest"):
            with self._uploads.written(to.name, upload.id):
                return await self._complete(to, upload, digest)
        return _progress(202, to, upload)

    async def append(self, to: Addressed) -> Reply:
        with self._uploads.written(to.name, to.item) as upload:
            _check_position(to, upload)
            await self._receive(to.request, upload)
            return _progress(202, to, upload)

    async def finish(self, to: Addressed) -> Reply:
        with self._uploads.written(to.name, to.item) as upload:
            digest = to.request.query.get("digest")
            if not digest:
                raise RegistryError(400, "DIGEST_INVALID", "The upload can be finished with ?digest=… only.")
            _check_position(to, upload)
            return await self._complete(to, upload, digest)

    async def status(self, to: Addressed) -> Reply:
        return _progress(204, to, self._uploads.get(to.name, to.item))

    async def cancel(self, to: Addressed) -> Reply:
        with self._uploads.written(to.name, to.item) as upload:
            await asyncio.to_thread(self._uploads.drop, upload)
        return Reply(204)

    async def _receive(self, request: Request, upload: Upload) -> None:
        try:
            async for chunk in request.chunks():
                await asyncio.to_thread(upload.write, chunk)
        except FileNotFoundError:  # its repository was deleted meanwhile
            raise UploadNotFound(upload.name, upload.id) from None
        except BaseException:  # whatever it is, cancellation too: nothing of a body that broke off may stay
            self._uploads.drop(upload)
            raise

    async def _complete(self, to: Addressed, upload: Upload, digest: str) -> Reply:
        try:
            check_digest(digest)
            await self._receive(to.request, upload)
            await self._keep(to.name, upload, digest)
        finally:
            self._uploads.drop(upload)
        return _created(to, digest)

    async def _keep(self, name: EcrName, upload: Upload, digest: str) -> None:
        # Leased first: between becoming a blob and becoming known to the repository it must not be collected.
        await self._api.call(self._store.lease, digest)
        await asyncio.to_thread(self._uploads.finish, upload, digest)
        await self._api.call(self._store.add_layer, name, digest)


def _check_position(to: Addressed, upload: Upload) -> None:
    """Chunks come in order, without gaps. Raises RegistryError (416)."""
    header = to.request.headers.get("content-range")
    if header is None:
        return
    match = _CONTENT_RANGE.fullmatch(header.strip())
    length = to.request.headers.get("content-length", "")
    first, last = (int(match[1]), int(match[2])) if match else (-1, -1)
    if first != upload.size or (length.isdecimal() and last - first + 1 != int(length)):
        message = f"The chunk {header[:100]} does not follow the {upload.size} bytes that have arrived."
        raise RegistryError(416, "BLOB_UPLOAD_INVALID", message, _progress(416, to, upload).headers)


def _blob_headers(digest: str) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}


def _created(to: Addressed, digest: str) -> Reply:
    return Reply(201, {"Location": f"{to.base}/blobs/{quote(digest, safe=':')}", "Docker-Content-Digest": digest})


def _progress(status: int, to: Addressed, upload: Upload) -> Reply:
    headers = {
        "Location": f"{to.base}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(0, upload.size - 1)}",
        "Docker-Upload-UUID": upload.id,
    }
    return Reply(status, headers)
