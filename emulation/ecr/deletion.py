"""BatchDeleteImage: what goes by tag, what by digest, and what cannot go.

Source: Amazon ECR API Reference, BatchDeleteImage and ImageFailure.
"""

import re
from collections.abc import Iterable

from emulation.ecr.errors import ImageNotFound, ImageReferenced
from emulation.ecr.records import RepositoryRecord
from emulation.ecr.store import EcrStore

_DIGEST = re.compile(r"[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+")

ImageId = dict[str, str]
Failure = tuple[ImageId, str, str]


def delete_images(
    store: EcrStore, record: RepositoryRecord, image_ids: Iterable[ImageId]
) -> tuple[list[ImageId], list[Failure]]:
    """Gives what was deleted, one entry for each tag, and what was not: image id, failure code, reason."""
    deleted: list[ImageId] = []
    failures: list[Failure] = []
    for image_id in image_ids:
        digest, tag = image_id.get("imageDigest", ""), image_id.get("imageTag", "")
        if not digest and not tag:
            reason = "Invalid request parameters: both tag and digest cannot be null"
            failures.append((image_id, "MissingDigestAndTag", reason))
        elif digest and not _DIGEST.fullmatch(digest):
            reason = f"Invalid request parameters: image digest should satisfy the regex '{_DIGEST.pattern}'"
            failures.append((image_id, "InvalidImageDigest", reason))
        else:
            try:
                deleted += _delete(store, record, digest, tag)
            except ImageNotFound:
                failures.append((image_id, "ImageNotFound", "Requested image not found"))
            except ImageReferenced as error:
                failures.append((image_id, "ImageReferencedByManifestList", str(error)))
    return deleted, failures


def _delete(store: EcrStore, record: RepositoryRecord, digest: str, tag: str) -> list[ImageId]:
    found = record.find(digest=digest, tag=tag).digest
    tags = record.tags_of(found)
    if tag and not digest and len(tags) > 1:
        store.remove_tag(record.name, tag)
        return [{"imageDigest": found, "imageTag": tag}]
    # The last tag takes the image with it.
    store.remove_image(record.name, found)
    return [{"imageDigest": found, "imageTag": name} for name in tags] or [{"imageDigest": found}]
