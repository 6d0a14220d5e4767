"""A manifest as a client pushes it: what it is, and what it needs to be in the repository already.

Source: OCI Distribution Specification, "Pushing Manifests" and "Pushing Manifests with Subject".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulation.ecr.errors import ManifestInvalid
from emulation.errors import ImageError
from emulation.images.blobs import check_digest, digest_of
from emulation.images.manifest import LARGEST_MANIFEST, Index, parse_manifest

# Blobs of these are never pushed: the manifest says where else they are.
# Source: OCI Image Format Specification, Layers.
_NOT_DISTRIBUTED = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """`blobs` are what an image needs, `children` what an index needs, each by digest with its size in bytes.

    `artifact_type` is that of the manifest, or else its configuration's media type; '' for an index without one.
    """

    body: bytes
    digest: str
    media_type: str
    blobs: Mapping[str, int]
    children: tuple[str, ...]
    layers: tuple[tuple[str, str], ...]
    size_in_bytes: int
    subject: str
    artifact_type: str
    annotations: Mapping[str, str]


def read_pushed(body: bytes, content_type: str = "") -> PushedManifest:
    """Reads a manifest. `content_type` is what the client says it is, '' for nothing. Raises ManifestInvalid."""
    if len(body) > LARGEST_MANIFEST:
        raise ManifestInvalid(f"it is larger than {LARGEST_MANIFEST} bytes")
    try:
        body.decode()  # JSON may be UTF-16 too, which no client can be given as text
    except UnicodeDecodeError as error:
        raise ManifestInvalid("it is not UTF-8") from error
    try:
        manifest = parse_manifest(body)
        document: dict[str, Any] = json.loads(body)
        subject = _digest(document.get("subject"))
    except ImageError as error:
        raise ManifestInvalid(str(error)) from error
    said = content_type.partition(";")[0].strip()
    if said and said != manifest.media_type and not ("mediaType" not in document and said.endswith("+json")):
        raise ManifestInvalid(f"the content type {said!r} is not the manifest's media type {manifest.media_type!r}")
    annotations = document.get("annotations") or {}
    artifact_type = document.get("artifactType") or ""
    if not isinstance(annotations, dict) or not isinstance(artifact_type, str):
        raise ManifestInvalid("annotations must be an object and artifactType a text")
    if isinstance(manifest, Index):
        blobs: dict[str, int] = {}
        children = tuple(dict.fromkeys(entry.digest for entry in manifest.manifests))
        layers: tuple[tuple[str, str], ...] = ()
        size = 0
    else:
        pushed = [layer for layer in manifest.layers if not layer.media_type.startswith(_NOT_DISTRIBUTED)]
        blobs = {entry.digest: entry.size for entry in (manifest.config, *pushed)}
        children = ()
        layers = tuple((layer.digest, layer.media_type) for layer in manifest.layers)
        size = manifest.config.size + sum(layer.size for layer in manifest.layers)
        artifact_type = artifact_type or manifest.config.media_type
    return PushedManifest(
        body,
        digest_of(body),
        manifest.media_type,
        blobs,
        children,
        layers,
        size,
        subject,
        artifact_type,
        {str(key): str(text) for key, text in annotations.items()},
    )


def _digest(subject: object) -> str:
    if subject is None:
        return ""
    digest = subject.get("digest") if isinstance(subject, dict) else None
    if not isinstance(digest, str):
        raise ImageError("manifest invalid: the subject has no digest")
    check_digest(digest)
    return digest
