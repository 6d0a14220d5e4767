"""Manifests, indexes and image configurations as values: read strictly from JSON that somebody else wrote.

Source: OCI Image Format Specification (Image Manifest, Image Index, Image Configuration); Docker Registry, "Image
Manifest Version 2, Schema 2".
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulation.errors import ImageError
from emulation.images.blobs import check_digest
from emulation.runtime.base import ImageConfig

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_MANIFEST_LIST)

# More would be an attack, not a manifest. Source: OCI Distribution Specification, "Pushing Manifests" (4 MiB).
LARGEST_MANIFEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture in Go's words, as images name them: linux, amd64, variant v8."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def accepts(self, other: "Platform") -> bool:
        """Whether an image for `other` runs here. A variant that is not named fits."""
        return (self.os, self.architecture) == (other.os, other.architecture) and (
            not self.variant or not other.variant or self.variant == other.variant
        )


_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
}


def host_platform() -> Platform:
    """This machine's platform. Containers are Linux, also where a Mac hosts them."""
    machine = os.uname().machine
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    # AWS's messages say linux/arm64, without the variant that every arm64 machine has.
    return Platform("linux", architecture, "" if architecture == "arm64" else variant)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob. `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            fields["platform"] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.variant:
                fields["platform"]["variant"] = self.platform.variant
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return fields


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms under one name."""

    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_manifest(data: bytes) -> Manifest | Index:
    """Reads a manifest or an index. Raises ImageError where it is neither, or malformed."""
    document = _object(_json(data, "manifest"), "manifest")
    media_type = document.get("mediaType", "")
    if document.get("schemaVersion") == 1:
        raise ImageError(
            f"media type {DOCKER_SCHEMA_1!r} is no longer supported: push the image again with a current client"
        )
    if media_type in INDEXES or (not media_type and "manifests" in document):
        descriptors = tuple(_descriptor(entry) for entry in _array(document.get("manifests"), "manifests"))
        return Index(media_type or OCI_INDEX, descriptors)
    if media_type in MANIFESTS or (not media_type and "config" in document):
        layers = tuple(_descriptor(entry) for entry in _array(document.get("layers"), "layers"))
        return Manifest(media_type or OCI_MANIFEST, _descriptor(document.get("config")), layers)
    raise ImageError(f"manifest invalid: media type {str(media_type)[:100]!r} is neither an image nor an index")


def parse_index(data: bytes) -> Index:
    """Reads an index. Raises ImageError where it is none."""
    index = parse_manifest(data)
    if not isinstance(index, Index):
        raise ImageError("index invalid: it is the manifest of one image")
    return index


def select_manifest(index: Index, platform: Platform | None = None) -> Descriptor:
    """The image in an index for `platform`, this machine's unless given.

    Raises ImageError in the words that ECS shows. Source: Amazon ECS, "CannotPullContainer task errors".
    """
    wanted = platform or host_platform()
    fitting = [entry for entry in index.manifests if entry.platform is not None and wanted.accepts(entry.platform)]
    if not fitting:
        raise no_platform(wanted)
    return fitting[0]


def no_platform(wanted: Platform) -> ImageError:
    return ImageError(f"image Manifest does not contain descriptor matching platform '{wanted}'")


@dataclass(frozen=True, slots=True)
class Configuration:
    """An image's configuration blob: where it runs, how it is run, and the digests of its unpacked layers."""

    platform: Platform
    image_config: ImageConfig
    diff_ids: tuple[str, ...]


def parse_configuration(data: bytes) -> Configuration:
    """Reads a configuration blob. Raises ImageError where it is malformed."""
    document = _object(_json(data, "image configuration"), "image configuration")
    run = _object(document.get("config") or {}, "config")
    rootfs = _object(document.get("rootfs") or {}, "rootfs")
    environment = dict(entry.partition("=")[::2] for entry in _strings(run.get("Env"), "Env"))
    diff_ids = _strings(rootfs.get("diff_ids"), "diff_ids")
    for diff_id in diff_ids:
        check_digest(diff_id)
    return Configuration(
        Platform(*(_text(document.get(key), key) for key in ("os", "architecture", "variant"))),
        ImageConfig(
            entry_point=_strings(run.get("Entrypoint"), "Entrypoint"),
            command=_strings(run.get("Cmd"), "Cmd"),
            environment=environment,
            working_directory=_text(run.get("WorkingDir"), "WorkingDir") or "/",
            user=_text(run.get("User"), "User"),
            stop_signal=_text(run.get("StopSignal"), "StopSignal") or "SIGTERM",
            exposed_ports=tuple(sorted(_object(run.get("ExposedPorts") or {}, "ExposedPorts"))),
            volumes=tuple(sorted(_object(run.get("Volumes") or {}, "Volumes"))),
        ),
        diff_ids,
    )


def _json(data: bytes, what: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} invalid: it is not JSON") from error


def _descriptor(value: object) -> Descriptor:
    fields = _object(value, "descriptor")
    size = fields.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageError(f"manifest invalid: {size!r} is no size of a descriptor")
    digest = _text(fields.get("digest"), "digest")
    check_digest(digest)
    platform = _object(fields.get("platform") or {}, "platform")
    annotations = _object(fields.get("annotations") or {}, "annotations")
    return Descriptor(
        _text(fields.get("mediaType"), "mediaType"),
        digest,
        size,
        Platform(*(_text(platform.get(key), key) for key in ("os", "architecture", "variant"))) if platform else None,
        {key: _text(text, key) for key, text in annotations.items()} or None,
    )


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ImageError(f"{what} invalid: a JSON object is needed")
    return value


def _array(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ImageError(f"{what} invalid: a JSON array is needed")
    return value


def _strings(value: object, what: str) -> tuple[str, ...]:
    return tuple(_text(entry, what) for entry in _array(value or [], what))


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImageError(f"{what} invalid: a text is needed")
    return value
