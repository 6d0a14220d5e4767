"""ECR's parts in one place, and what happens on a push whichever way it comes: by the registry or by the AWS API."""

import logging
from dataclasses import dataclass, field
from datetime import datetime

from emulation.clock import Clock
from emulation.ecr.errors import EcrError
from emulation.ecr.lifecycle import Candidate, Expiration, Policy, parse_policy, plan_expirations
from emulation.ecr.manifest import PushedManifest
from emulation.ecr.records import ImageRecord, RepositoryRecord
from emulation.ecr.store import EcrStore
from emulation.ecr.uploads import Uploads
from emulation.images.reference import EcrName

log = logging.getLogger(__name__)


@dataclass
class Ecr:
    """`address` is the gateway's host:port, as clients of this machine reach it. All methods: on the API thread."""

    store: EcrStore
    clock: Clock
    address: str
    uploads: Uploads = field(init=False)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.store.blobs)

    def repository_uri(self, name: EcrName) -> str:
        """What `docker push` takes as it stands."""
        # Emulation: AWS's is <account>.dkr.ecr.<region>.amazonaws.com/<name>, which no client here can reach.
        return f"{self.address}/{name.account}/{name.region}/{name.repository}"

    def push(
        self, name: EcrName, manifest: PushedManifest, *, tag: str = "", digest: str = "", again: bool = True
    ) -> ImageRecord:
        """See EcrStore.put_image. The lifecycle policy is applied at once."""
        now = self.clock.now()
        image = self.store.put_image(name, manifest, now, tag=tag, digest=digest, again=again)
        # Emulation: on AWS a lifecycle policy acts within 24 hours; here it acts at each push and each hour.
        self._expire(self.store.repository(name), now)
        return image

    def pull(
        self, name: EcrName, *, digest: str = "", tag: str = "", recorded: bool = True
    ) -> tuple[ImageRecord, bytes]:
        """An image and its manifest; recorded as a pull. Raises RepositoryNotFound, ImageNotFound."""
        image, body = self.store.manifest(name, digest=digest, tag=tag)
        if recorded:
            self.store.record_pull(name, image.digest, self.clock.now())
        return image, body

    def delete_repository(self, name: EcrName) -> None:
        self.uploads.drop_all(name)
        self.store.delete(name)

    def apply_lifecycle(self, now: datetime) -> dict[EcrName, list[Expiration]]:
        """Expires what the lifecycle policies of all repositories say, and collects what unfinished pushes left.

        To be called every hour of the clock.
        """
        expired = {record.name: self._expire(record, now) for record in self.store.repositories()}
        self.store.sweep()
        return {name: expirations for name, expirations in expired.items() if expirations}

    def _expire(self, record: RepositoryRecord, now: datetime) -> list[Expiration]:
        text = record.settings.get("lifecyclePolicyText")
        if not text:
            return []
        expirations = plan(record, parse_policy(text), now)
        done = []
        for expiration in expirations:
            log.info("%s: %s", record.name.repository, expiration)
            try:
                self.store.remove_image(record.name, expiration.image.digest)
                done.append(expiration)
            except EcrError as error:
                log.warning("%s could not be expired: %s", expiration.image.digest, error)
        record.settings["lifecycleEvaluatedAt"] = now.isoformat()
        return done


def plan(record: RepositoryRecord, policy: Policy, now: datetime) -> list[Expiration]:
    """What a policy would expire in a repository."""
    tags = record.tags_by_image()
    children = {child for image in record.images.values() for child in image.children}
    candidates = [
        Candidate(
            image.digest,
            tuple(tags[image.digest]),
            image.pushed_at,
            image.pulled_at,
            is_child=image.digest in children,
        )
        for image in record.images.values()
    ]
    return plan_expirations(candidates, policy, now)
