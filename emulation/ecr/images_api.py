"""Images through the AWS API: listed, described, deleted, as values that moto writes into answers.

On the API thread. Source: Amazon ECR API Reference, ListImages, DescribeImages, ListImageReferrers, BatchDeleteImage.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

from emulation.ecr.errors import ImageNotFound, ImageReferenced
from emulation.ecr.records import ImageRecord, RepositoryRecord
from emulation.ecr.store import EcrStore

_DIGEST = re.compile(r"[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+")

ImageId = dict[str, str]


def ids(record: RepositoryRecord, tag_status: str) -> list[ImageId]:
    """One entry for each tag, and one for each image without."""
    return [
        {"imageDigest": digest, **({"imageTag": tag} if tag else {})}
        for digest, tags in record.tags_by_image().items()
        if _has_status(tags, tag_status)
        for tag in tags or [""]
    ]


def details(record: RepositoryRecord, image_ids: Sequence[ImageId] | None, tag_status: str) -> list[dict[str, Any]]:
    """All images, or those asked for, as ImageDetail. Raises ImageNotFound."""
    found: Iterable[ImageRecord] = record.images.values()
    if image_ids:
        wanted = [record.find(digest=i.get("imageDigest", ""), tag=i.get("imageTag", "")) for i in image_ids]
        found = {image.digest: image for image in wanted}.values()
    tags = record.tags_by_image()
    shown = [image for image in found if _has_status(tags[image.digest], tag_status)]
    return [_detail(record, image, tags[image.digest]) for image in shown]


def referrers(record: RepositoryRecord, digest: str, artifact_types: Sequence[str]) -> list[dict[str, Any]]:
    """Images whose subject is the image, as ImageReferrer. Raises ImageNotFound."""
    record.find(digest=digest)
    return [
        {
            "digest": image.digest,
            "mediaType": image.media_type,
            "artifactType": image.artifact_type,
            "size": image.manifest_size,
            "annotations": dict(image.annotations),
            "artifactStatus": "ACTIVE",
        }
        for image in record.referrers(digest)
        if not artifact_types or image.artifact_type in artifact_types
    ]


def delete(store: EcrStore, record: RepositoryRecord, image_ids: Iterable[ImageId]) -> dict[str, Any]:
    """What was deleted, one entry for each tag, and what was not and why, as BatchDeleteImage answers."""
    deleted: list[ImageId] = []
    failures: list[dict[str, Any]] = []
    for image_id in image_ids:
        digest, tag = image_id.get("imageDigest", ""), image_id.get("imageTag", "")
        if not digest and not tag:
            reason = "Invalid request parameters: both tag and digest cannot be null"
            failures.append(failure(image_id, "MissingDigestAndTag", reason))
        elif digest and not _DIGEST.fullmatch(digest):
            reason = f"Invalid request parameters: image digest should satisfy the regex '{_DIGEST.pattern}'"
            failures.append(failure(image_id, "InvalidImageDigest", reason))
        else:
            try:
                deleted += _delete(store, record, digest, tag)
            except ImageNotFound:
                failures.append(failure(image_id, "ImageNotFound", "Requested image not found"))
            except ImageReferenced as error:
                failures.append(failure(image_id, "ImageReferencedByManifestList", str(error)))
    return {"imageIds": deleted, "failures": failures}


def failure(image_id: ImageId, code: str, reason: str) -> dict[str, Any]:
    return {"imageId": image_id, "failureCode": code, "failureReason": reason}


def _delete(store: EcrStore, record: RepositoryRecord, digest: str, tag: str) -> list[ImageId]:
    found = record.find(digest=digest, tag=tag).digest
    tags = record.tags_of(found)
    if tag and not digest and len(tags) > 1:
        store.remove_tag(record.name, tag)
        return [{"imageDigest": found, "imageTag": tag}]
    # The last tag takes the image with it.
    store.remove_image(record.name, found)
    return [{"imageDigest": found, "imageTag": name} for name in tags] or [{"imageDigest": found}]


def _has_status(tags: Sequence[str], tag_status: str) -> bool:
    return tag_status == "ANY" or (tag_status == "TAGGED") == bool(tags)


def _detail(record: RepositoryRecord, image: ImageRecord, tags: list[str]) -> dict[str, Any]:
    detail = {
        "registryId": record.name.account,
        "repositoryName": record.name.repository,
        "imageDigest": image.digest,
        "imageTags": tags,
        "imageSizeInBytes": image.size_in_bytes,
        "imagePushedAt": image.pushed_at.astimezone(UTC),
        "imageManifestMediaType": image.media_type,
        "artifactMediaType": image.artifact_type,
        "lastRecordedPullTime": image.pulled_at,
        "subjectManifestDigest": image.subject,
        "imageStatus": "ACTIVE",
    }
    return {key: value for key, value in detail.items() if value not in (None, "", [])}
