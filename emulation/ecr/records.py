"""What is known of a repository: its settings, its images, its tags, its layers. Values, and how they are written down.

Touched on the API thread only.
"""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from emulation.ecr.errors import (
    ImageAlreadyExists,
    ImageNotFound,
    ImageReferenced,
    LayersNotFound,
    ReferencedImagesNotFound,
    TagImmutable,
)
from emulation.ecr.manifest import PushedManifest
from emulation.images.reference import EcrName

_FORMAT = 1


@dataclass(slots=True)
class ImageRecord:
    """An image (a manifest or an index). `size_in_bytes` is what ECR shows: configuration and layers, as kept.

    Source: Amazon ECR API Reference, ImageDetail (for an index it is the size of its largest image).
    """

    digest: str
    media_type: str
    pushed_at: datetime
    size_in_bytes: int
    manifest_size: int
    artifact_type: str = ""
    subject: str = ""
    blobs: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    pulled_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "mediaType": self.media_type,
            "pushedAt": self.pushed_at.isoformat(),
            "sizeInBytes": self.size_in_bytes,
            "manifestSize": self.manifest_size,
            "artifactType": self.artifact_type,
            "subject": self.subject,
            "blobs": list(self.blobs),
            "children": list(self.children),
            "annotations": dict(self.annotations),
            "pulledAt": self.pulled_at.isoformat() if self.pulled_at else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ImageRecord":
        return cls(
            digest=data["digest"],
            media_type=data["mediaType"],
            pushed_at=datetime.fromisoformat(data["pushedAt"]),
            size_in_bytes=data["sizeInBytes"],
            manifest_size=data["manifestSize"],
            artifact_type=data["artifactType"],
            subject=data["subject"],
            blobs=tuple(data["blobs"]),
            children=tuple(data["children"]),
            annotations=data["annotations"],
            pulled_at=datetime.fromisoformat(data["pulledAt"]) if data["pulledAt"] else None,
        )


@dataclass(slots=True)
class RepositoryRecord:
    """A repository. `settings` are what CreateRepository and its kin keep, as JSON; `layers` maps digests to bytes.

    `layers` are the blobs that this repository may name, configurations included; images keep theirs from being
    collected. `images` is in the order of the pushes.
    """

    name: EcrName
    settings: dict[str, Any] = field(default_factory=dict)
    images: dict[str, ImageRecord] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)

    def tags_of(self, digest: str) -> list[str]:
        return [tag for tag, tagged in self.tags.items() if tagged == digest]

    def tags_by_image(self) -> dict[str, list[str]]:
        """The tags of each image, of all at once."""
        tags: dict[str, list[str]] = {digest: [] for digest in self.images}
        for tag, digest in self.tags.items():
            tags[digest].append(tag)
        return tags

    def find(self, *, digest: str = "", tag: str = "") -> ImageRecord:
        """The image with that digest, with that tag, or with both. Raises ImageNotFound."""
        found = self.images.get(digest or self.tags.get(tag, ""))
        if found is None or (tag and self.tags.get(tag) != found.digest):
            raise ImageNotFound(self.name, digest, tag)
        return found

    def check_tag(self, tag: str, digest: str) -> None:
        """Raises TagImmutable where the tag is taken and may not move; pushing the same image again is refused too."""
        if tag in self.tags and self._is_immutable(tag):
            raise TagImmutable(self.name, tag)

    def _is_immutable(self, tag: str) -> bool:
        setting: str = self.settings.get("imageTagMutability", "MUTABLE")
        filters = self.settings.get("imageTagMutabilityExclusionFilters") or []
        excluded = any(fnmatch.fnmatchcase(tag, _only_stars(entry["filter"])) for entry in filters)
        if setting.endswith("_WITH_EXCLUSION") and excluded:
            return setting == "MUTABLE_WITH_EXCLUSION"
        return setting.startswith("IMMUTABLE")

    def check_complete(self, manifest: PushedManifest) -> None:
        """Raises LayersNotFound or ReferencedImagesNotFound for what the manifest names and the repository lacks."""
        missing = [digest for digest in manifest.blobs if digest not in self.layers]
        if missing:
            raise LayersNotFound(self.name, missing)
        missing = [digest for digest in manifest.children if digest not in self.images]
        if missing:
            raise ReferencedImagesNotFound(self.name, missing)

    def put(self, manifest: PushedManifest, tag: str, now: datetime, *, again: bool = True) -> ImageRecord:
        """Adds an image, or a tag to one that is there. With `again=False` nothing new raises ImageAlreadyExists."""
        self.check_tag(tag, manifest.digest)
        self.check_complete(manifest)
        known = manifest.digest in self.images
        if not again and known and (not tag or self.tags.get(tag) == manifest.digest):
            raise ImageAlreadyExists(self.name, manifest.digest, tag)
        if not known:
            sizes = (self.images[child].size_in_bytes for child in manifest.children)
            self.images[manifest.digest] = ImageRecord(
                digest=manifest.digest,
                media_type=manifest.media_type,
                pushed_at=now,
                size_in_bytes=max(sizes, default=0) if manifest.children else manifest.size_in_bytes,
                manifest_size=len(manifest.body),
                artifact_type=manifest.artifact_type,
                subject=manifest.subject,
                blobs=tuple(manifest.blobs),
                children=manifest.children,
                annotations=manifest.annotations,
            )
        if tag:
            self.tags[tag] = manifest.digest
        return self.images[manifest.digest]

    def check_unreferenced(self, digest: str) -> None:
        """Raises ImageReferenced where an index of this repository names the image."""
        parents = [image.digest for image in self.images.values() if digest in image.children]
        if parents:
            raise ImageReferenced(parents)

    def remove(self, digest: str) -> ImageRecord:
        """Removes an image with its tags. The index that names it must go first."""
        self.check_unreferenced(digest)
        for tag in self.tags_of(digest):
            del self.tags[tag]
        return self.images.pop(digest)

    def referrers(self, digest: str) -> list[ImageRecord]:
        return [image for image in self.images.values() if image.subject == digest]

    def uses(self, digest: str) -> bool:
        """Whether an image of this repository is that blob or needs it."""
        return digest in self.images or any(digest in image.blobs for image in self.images.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "name": [self.name.account, self.name.region, self.name.repository],
            "settings": self.settings,
            "images": [image.to_json() for image in self.images.values()],
            "tags": self.tags,
            "layers": self.layers,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RepositoryRecord":
        images = [ImageRecord.from_json(image) for image in data["images"]]
        return cls(
            EcrName(*data["name"]),
            data["settings"],
            {image.digest: image for image in images},
            data["tags"],
            data["layers"],
        )


def _only_stars(pattern: str) -> str:
    """A wildcard of ECR for fnmatch, to which more characters than the star would be special."""
    return "".join(f"[{letter}]" if letter in "?[" else letter for letter in pattern)
