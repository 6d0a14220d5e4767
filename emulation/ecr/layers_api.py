"""Layers through the AWS API: uploaded in parts, checked for, downloaded by URL; on the same blobs as the registry's.

On the API thread. Source: Amazon ECR API Reference, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload,
BatchCheckLayerAvailability, GetDownloadUrlForLayer.
"""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from emulation.ecr.errors import EmptyUpload, LayerAlreadyExists, LayerNotFound, LayerPartTooSmall
from emulation.ecr.service import Ecr
from emulation.ecr.tokens import Token, issue_password
from emulation.images.blobs import digest_of_file
from emulation.images.reference import EcrName

PART_SIZE = 10 << 20
SMALLEST_PART = 5 << 20
URL_VALIDITY = timedelta(hours=1)

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_MEDIA_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def initiate(ecr: Ecr, name: EcrName) -> dict[str, Any]:
    return {"uploadId": ecr.uploads.start(name).id, "partSize": PART_SIZE}


def upload_part(ecr: Ecr, name: EcrName, upload_id: str, first: int, last: int, data: bytes) -> tuple[int, bool]:
    """The last byte received, and whether the part was accepted: it must follow the one before, and be whole."""
    with ecr.uploads.written(name, upload_id) as upload:
        accepted = first == upload.size and last - first + 1 == len(data) and bool(data)
        if accepted:
            try:
                upload.write(data)
            except OSError:
                ecr.uploads.drop(upload)
                raise
            upload.parts.append(len(data))
        return upload.size - 1, accepted


def complete(ecr: Ecr, name: EcrName, upload_id: str, digests: list[str]) -> str:
    """The layer's digest. Raises EmptyUpload, LayerPartTooSmall, LayerDigestMismatch, LayerAlreadyExists."""
    with ecr.uploads.written(name, upload_id) as upload:
        if not upload.parts:
            raise EmptyUpload(upload_id)
        if any(size < SMALLEST_PART for size in upload.parts[:-1]):
            ecr.uploads.drop(upload)
            raise LayerPartTooSmall(SMALLEST_PART)
        digest = digests[0] if digests else digest_of_file(upload.path)
        if digest in ecr.store.repository(name).layers:
            ecr.uploads.drop(upload)
            raise LayerAlreadyExists(name, digest)
        ecr.store.lease(digest)
        ecr.uploads.finish(upload, digest)
        ecr.store.add_layer(name, digest)
        return digest


def availability(ecr: Ecr, name: EcrName, digests: list[str]) -> dict[str, Any]:
    layers, failures = [], []
    for digest in digests:
        if not _DIGEST.fullmatch(digest):
            failures.append(_failure(digest, "InvalidLayerDigest", f"Invalid layer digest '{digest}'"))
            continue
        try:
            size = ecr.store.layer_size(name, digest, pushing=True)
        except LayerNotFound:
            failures.append(_failure(digest, "MissingLayerDigest", f"Layer digest '{digest}' could not be found"))
        else:
            found = {
                "layerDigest": digest,
                "layerAvailability": "AVAILABLE",
                "layerSize": size,
                "mediaType": _MEDIA_TYPE,
            }
            layers.append(found)
    return {"layers": layers, "failures": failures}


def download_url(ecr: Ecr, name: EcrName, digest: str) -> str:
    """A URL of the registry, for an hour. Raises LayerNotFound."""
    ecr.store.layer_size(name, digest)
    token = Token(name.account, name.region, ecr.clock.now() + URL_VALIDITY)
    password = quote(issue_password(ecr.store.token_key, token))
    return f"http://{ecr.address}/v2/{name.account}/{name.region}/{name.repository}/blobs/{digest}?token={password}"


def _failure(digest: str, code: str, reason: str) -> dict[str, str]:
    return {"layerDigest": digest, "failureCode": code, "failureReason": reason}
