"""Manifests, tags and referrers over HTTP.

Source: OCI Distribution Specification, "Pushing Manifests", "Listing Tags", "Listing Referrers".
"""

from collections.abc import Iterable
from urllib.parse import quote

from emulation.core.api_thread import ApiThread
from emulation.ecr.http import RegistryError, Reply
from emulation.ecr.manifest import read_pushed
from emulation.ecr.records import ImageRecord
from emulation.ecr.routing import Addressed
from emulation.ecr.service import Ecr
from emulation.images.blobs import check_digest
from emulation.images.manifest import LARGEST_MANIFEST, OCI_INDEX
from emulation.images.reference import EcrName

_MOST_TAGS = 1000


class ManifestRoutes:
    def __init__(self, ecr: Ecr, api: ApiThread) -> None:
        self._ecr, self._api = ecr, api

    async def get(self, to: Addressed) -> Reply:
        digest, tag = _reference(to.item)
        # HEAD is how clients look whether a tag has moved: no pull.
        recorded = to.request.method == "GET"
        image, body = await self._api.call(self._ecr.pull, to.name, digest=digest, tag=tag, recorded=recorded)
        headers = {
            "Content-Type": image.media_type,
            "Docker-Content-Digest": image.digest,
            "ETag": f'"{image.digest}"',
        }
        return Reply(200, headers, body)

    async def put(self, to: Addressed) -> Reply:
        body = await to.request.body(LARGEST_MANIFEST)
        if len(body) > LARGEST_MANIFEST:
            raise RegistryError(413, "MANIFEST_INVALID", f"A manifest has at most {LARGEST_MANIFEST} bytes.")
        await self._api.call(self._ecr.store.repository, to.name)
        digest, tag = _reference(to.item)
        manifest = read_pushed(body, to.request.headers.get("content-type", ""))
        image = await self._api.call(self._ecr.push, to.name, manifest, tag=tag, digest=digest)
        headers = {"Location": f"{to.base}/manifests/{image.digest}", "Docker-Content-Digest": image.digest}
        if manifest.subject:
            headers["OCI-Subject"] = manifest.subject
        return Reply(201, headers)

    async def delete(self, to: Addressed) -> Reply:
        digest, tag = _reference(to.item)
        if tag:
            await self._api.call(self._ecr.store.remove_tag, to.name, tag)
        else:
            await self._api.call(self._ecr.store.remove_image, to.name, digest)
        return Reply(202)

    async def tags(self, to: Addressed) -> Reply:
        query = to.request.query
        last, limit = query.get("last", ""), query.get("n", str(_MOST_TAGS))
        if not limit.isdecimal():
            raise RegistryError(400, "PAGINATION_NUMBER_INVALID", f"n={limit[:50]} is not a number of tags.")
        following = [tag for tag in await self._api.call(self._tags, to.name) if tag > last]
        shown = following[: int(limit)]
        headers = {}
        if shown and len(shown) < len(following):
            headers["Link"] = f'<{to.base}/tags/list?n={limit}&last={quote(shown[-1])}>; rel="next"'
        return Reply.of_json(200, {"name": to.base.removeprefix("/v2/"), "tags": shown}, headers)

    async def referrers(self, to: Addressed) -> Reply:
        check_digest(to.item)
        found = await self._api.call(self._referrers, to.name, to.item)
        headers = {"Content-Type": OCI_INDEX}
        if wanted := to.request.query.get("artifactType"):
            found = [image for image in found if image.artifact_type == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(_descriptors(found))}
        return Reply.of_json(200, index, headers)

    def _tags(self, name: EcrName) -> list[str]:
        return sorted(self._ecr.store.repository(name).tags)

    def _referrers(self, name: EcrName, digest: str) -> list[ImageRecord]:
        return self._ecr.store.repository(name).referrers(digest)


def _reference(text: str) -> tuple[str, str]:
    """Digest and tag, one of them ''. Raises ImageError for a malformed digest."""
    if ":" in text:
        check_digest(text)
        return text, ""
    return "", text


def _descriptors(images: Iterable[ImageRecord]) -> Iterable[dict[str, object]]:
    for image in images:
        descriptor: dict[str, object] = {
            "mediaType": image.media_type,
            "digest": image.digest,
            "size": image.manifest_size,
        }
        if image.artifact_type:
            descriptor["artifactType"] = image.artifact_type
        if image.annotations:
            descriptor["annotations"] = dict(image.annotations)
        yield descriptor
