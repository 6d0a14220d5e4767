"""Where runtimes get images from: the protocol that the local library and the ECR registry implement."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emulation.errors import ImageError
from emulation.images.blobs import BlobStore, digest_of
from emulation.images.manifest import (
    LARGEST_MANIFEST,
    Index,
    host_platform,
    no_platform,
    parse_configuration,
    parse_manifest,
    select_manifest,
)
from emulation.runtime.base import ImageConfig


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is kept: a tar, compressed as `media_type` says, in the file `path` with that `digest`."""

    digest: str
    media_type: str
    path: Path


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image for this machine with all its blobs at hand. `digest` is that of `manifest`; lowest layer first."""

    reference: str
    digest: str
    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]

    @property
    def image_config(self) -> ImageConfig:
        """How the image wants to be run. Raises ImageError where its configuration is malformed."""
        return parse_configuration(self.config).image_config

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the uncompressed layers, lowest first."""
        return parse_configuration(self.config).diff_ids


class ImageSource(Protocol):
    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        """Finds an image for this machine, as `account` may see it.

        Raises ImageNotFound where there is no such name, tag or digest, ImageError where the image cannot be used.
        """
        ...


def read_image(blobs: BlobStore, digest: str, reference: str) -> ResolvedImage:
    """Follows a manifest, or an index to this machine's manifest, through a store whose blobs are all verified.

    Raises ImageNotFound where a blob is missing, ImageError where one is malformed or nothing fits this machine.
    """
    data = _read_small(blobs, digest)
    manifest = parse_manifest(data)
    if isinstance(manifest, Index):
        digest = select_manifest(manifest).digest
        data = _read_small(blobs, digest)
        manifest = parse_manifest(data)
        if isinstance(manifest, Index):
            raise ImageError(f"manifest invalid: {digest} is an index inside an index")
    config = _read_small(blobs, manifest.config.digest)
    configuration = parse_configuration(config)
    host = host_platform()
    if configuration.platform.architecture and not host.accepts(configuration.platform):
        raise no_platform(host)
    if len(configuration.diff_ids) != len(manifest.layers):
        raise ImageError(f"manifest invalid: {len(manifest.layers)} layers, but {len(configuration.diff_ids)} diff_ids")
    layers = tuple(Layer(layer.digest, layer.media_type, blobs.path(layer.digest)) for layer in manifest.layers)
    return ResolvedImage(reference, digest, data, config, layers)


def _read_small(blobs: BlobStore, digest: str) -> bytes:
    if blobs.size(digest) > LARGEST_MANIFEST:
        raise ImageError(f"manifest invalid: {digest} is larger than {LARGEST_MANIFEST} bytes")
    data = blobs.path(digest).read_bytes()
    if digest_of(data) != digest:
        raise ImageError(f"digest does not match: blob {digest} was damaged on disk")
    return data
