"""Previews of lifecycle policies, as StartLifecyclePolicyPreview makes them. Source: Amazon ECR API Reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emulation.ecr.lifecycle import Expiration, parse_policy
from emulation.ecr.records import RepositoryRecord
from emulation.ecr.service import plan


@dataclass(frozen=True, slots=True)
class Preview:
    """What the policy `text` would have expired at the moment of the preview."""

    text: str
    expirations: tuple[Expiration, ...]


def preview(record: RepositoryRecord, text: str, now: datetime) -> Preview:
    """Raises LifecyclePolicyInvalid."""
    return Preview(text, tuple(plan(record, parse_policy(text), now)))


def select(shown: Preview, image_ids: Sequence[dict[str, str]] | None, tag_status: str) -> list[dict[str, Any]]:
    """The results that a filter leaves, as LifecyclePolicyPreviewResult."""
    return [
        {
            "imageTags": list(expiration.image.tags),
            "imageDigest": expiration.image.digest,
            "imagePushedAt": expiration.image.pushed_at,
            "action": {"type": "EXPIRE"},
            "appliedRulePriority": expiration.rule_priority,
        }
        for expiration in shown.expirations
        if _is_wanted(expiration, image_ids or ()) and _has_status(expiration, tag_status)
    ]


def _is_wanted(expiration: Expiration, image_ids: Sequence[dict[str, str]]) -> bool:
    return not image_ids or any(
        image_id.get("imageDigest") == expiration.image.digest or image_id.get("imageTag") in expiration.image.tags
        for image_id in image_ids
    )


def _has_status(expiration: Expiration, tag_status: str) -> bool:
    return tag_status == "ANY" or (tag_status == "TAGGED") == bool(expiration.image.tags)
