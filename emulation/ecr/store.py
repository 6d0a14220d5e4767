"""ECR's memory: the repositories of all accounts and regions, over one store of blobs, kept in a folder.

    <folder>/blobs/                                          manifests, configurations and layers by digest
    <folder>/repositories/<account>/<region>/<name>.json     a repository ("/" in its name written as "%2f")
    <folder>/token-key                                       what authorization tokens are signed with

Both faces of ECR, the registry and the AWS API, read and write here, on the API thread only: there is one truth. Blob
content is written and read elsewhere; a *lease* keeps a blob that is on its way into an image from being collected.
"""

import json
import logging
import os
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from emulation.clock import monotonic
from emulation.ecr.errors import LayerNotFound, ManifestDigestMismatch, RepositoryNotFound, TagInvalid
from emulation.ecr.manifest import PushedManifest
from emulation.ecr.records import ImageRecord, RepositoryRecord
from emulation.errors import SunaboxError
from emulation.images.blobs import BlobStore
from emulation.images.reference import EcrName

log = logging.getLogger(__name__)

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LEASE_SECONDS = timedelta(minutes=15).total_seconds()


class EcrStore:
    """Loads what `folder` holds; creates it where it does not exist."""

    def __init__(self, folder: Path) -> None:
        self.blobs = BlobStore(folder / "blobs")
        self._folder = folder / "repositories"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._repositories: dict[EcrName, RepositoryRecord] = {}
        self._leases: dict[str, float] = {}
        self._closed = False
        self.token_key = _token_key(folder / "token-key")
        for path in sorted(self._folder.glob("*/*/*.json")):
            record = _load(path)
            self._repositories[record.name] = record
        self._collect(self.blobs.digests())  # what an emulator was writing when it was killed

    def close(self) -> None:
        """From now on nothing is changed or removed any more, whatever becomes of moto's records in this process."""
        self._closed = True

    # --- Repositories

    def repositories(self, account: str = "", region: str = "") -> list[RepositoryRecord]:
        """In order of their names; of one account and region, or of all."""
        found = (
            record
            for name, record in self._repositories.items()
            if (not account or name.account == account) and (not region or name.region == region)
        )
        return sorted(found, key=lambda record: (record.name.account, record.name.region, record.name.repository))

    def repository(self, name: EcrName) -> RepositoryRecord:
        """Raises RepositoryNotFound."""
        try:
            return self._repositories[name]
        except KeyError:
            raise RepositoryNotFound(name) from None

    def create(self, name: EcrName, settings: dict[str, Any]) -> RepositoryRecord:
        record = self._repositories[name] = RepositoryRecord(name, settings)
        self._save(record)
        return record

    def update(self, name: EcrName, settings: dict[str, Any]) -> None:
        record = self.repository(name)
        if record.settings != settings:
            record.settings = settings
            self._save(record)

    def delete(self, name: EcrName) -> None:
        """Removes a repository with its images, and the blobs that nobody else has."""
        if self._closed:
            return
        record = self._repositories.pop(name, None)
        if record is not None:
            self._path(name).unlink(missing_ok=True)
            self._collect({*record.layers, *record.images})

    # --- Images

    def put_image(
        self,
        name: EcrName,
        manifest: PushedManifest,
        now: datetime,
        *,
        tag: str = "",
        digest: str = "",
        again: bool = True,
    ) -> ImageRecord:
        """Adds an image, whole or not at all. `digest` is what the client says it has.

        Raises RepositoryNotFound, TagInvalid, TagImmutable, ManifestDigestMismatch, LayersNotFound,
        ReferencedImagesNotFound, and with `again=False` ImageAlreadyExists.
        """
        record = self.repository(name)
        if tag and not _TAG.fullmatch(tag):
            raise TagInvalid(tag)
        if digest and digest != manifest.digest:
            raise ManifestDigestMismatch(digest, manifest.digest)
        before = dict(record.images), dict(record.tags)
        image = record.put(manifest, tag, now, again=again)
        try:
            self._keep(manifest)
            self._save(record)
        except OSError:
            record.images, record.tags = before
            self._collect([manifest.digest])
            raise
        for needed in manifest.blobs:
            self._leases.pop(needed, None)
        return image

    def remove_tag(self, name: EcrName, tag: str) -> None:
        """Raises ImageNotFound. The image stays."""
        record = self.repository(name)
        record.find(tag=tag)
        del record.tags[tag]
        self._save(record)

    def remove_image(self, name: EcrName, digest: str) -> None:
        """Raises ImageNotFound, or ImageReferenced where an index needs it. Blobs that nobody has any more go too."""
        record = self.repository(name)
        removed = record.remove(record.find(digest=digest).digest)
        for blob in removed.blobs:
            if not record.uses(blob) and not self._leased(blob):
                record.layers.pop(blob, None)
        self._save(record)
        self._collect({removed.digest, *removed.blobs})

    def record_pull(self, name: EcrName, digest: str, now: datetime) -> None:
        record = self._repositories.get(name)
        image = record.images.get(digest) if record is not None else None
        if record is not None and image is not None:
            image.pulled_at = now
            try:
                self._save(record)
            except OSError as problem:
                # When an image was pulled last is worth less than the pull: a full disk must not end it.
                log.warning("The pull of %s could not be recorded: %s", name.repository, problem.strerror)

    def manifest(self, name: EcrName, *, digest: str = "", tag: str = "") -> tuple[ImageRecord, bytes]:
        """An image and its manifest, byte for byte as it was pushed. Raises ImageNotFound."""
        image = self.repository(name).find(digest=digest, tag=tag)
        return image, self.blobs.path(image.digest).read_bytes()

    # --- Layers

    def lease(self, digest: str) -> None:
        """Keeps a blob from being collected for a while: somebody is about to use it."""
        self._leases[digest] = monotonic()

    def layer_size(self, name: EcrName, digest: str, *, pushing: bool = False) -> int:
        """Bytes. `pushing` leases it: who asks is about to name it in a manifest. Raises LayerNotFound."""
        record = self.repository(name)
        size = record.layers.get(digest)
        if size is None or not self.blobs.has(digest):
            raise LayerNotFound(name, digest)
        if pushing:
            self.lease(digest)
        return size

    def add_layer(self, name: EcrName, digest: str) -> None:
        """Makes a blob that is in the store known to a repository. Raises RepositoryNotFound, or LayerNotFound."""
        try:
            record = self.repository(name)
        except RepositoryNotFound:
            self._leases.pop(digest, None)
            self._collect({digest})
            raise
        if not self.blobs.has(digest):
            raise LayerNotFound(name, digest)
        self.lease(digest)
        new = digest not in record.layers
        record.layers[digest] = self.blobs.size(digest)
        try:
            self._save(record)
        except OSError:
            if new:
                self._leases.pop(digest)
                del record.layers[digest]
                self._collect([digest])
            raise

    def remove_layer(self, name: EcrName, digest: str) -> None:
        """Raises LayerNotFound. What an image still needs stays."""
        record = self.repository(name)
        self.layer_size(name, digest)
        if not record.uses(digest):
            del record.layers[digest]
            self._leases.pop(digest, None)
            self._save(record)
            self._collect({digest})

    def mount(self, name: EcrName, digest: str, source: EcrName | None) -> bool:
        """Whether the blob was taken over from `source`, or, where that is None, from any repository of the account."""
        self.repository(name)
        if source is None:
            sources = self.repositories(name.account)
        else:
            sources = [record for record in (self._repositories.get(source),) if record is not None]
        if any(digest in record.layers for record in sources) and self.blobs.has(digest):
            self.add_layer(name, digest)
            return True
        return False

    def sweep(self) -> None:
        """Collects what pushes left behind that were never finished."""
        for digest in [digest for digest in self._leases if not self._leased(digest)]:
            del self._leases[digest]
        for record in self._repositories.values():
            needed = {blob for image in record.images.values() for blob in image.blobs}
            unused = [digest for digest in record.layers if digest not in needed and not self._leased(digest)]
            for digest in unused:
                del record.layers[digest]
            if unused:
                self._save(record)
        self._collect(self.blobs.digests())

    def _leased(self, digest: str) -> bool:
        since = self._leases.get(digest)
        return since is not None and monotonic() - since < _LEASE_SECONDS

    def _collect(self, digests: Iterable[str]) -> None:
        """Deletes those of the blobs that no repository has and nobody is about to use."""
        for digest in sorted(digests):
            known = any(digest in record.layers or digest in record.images for record in self._repositories.values())
            if not known and not self._leased(digest):
                self.blobs.delete(digest)

    def _keep(self, manifest: PushedManifest) -> None:
        if self.blobs.has(manifest.digest):
            return
        upload = self.blobs.new_upload()
        try:
            upload.write_bytes(manifest.body)
            self.blobs.adopt(upload, manifest.digest)
        finally:
            upload.unlink(missing_ok=True)

    # --- The folder

    def _path(self, name: EcrName) -> Path:
        return self._folder / name.account / name.region / f"{name.repository.replace('/', '%2f')}.json"

    def _save(self, record: RepositoryRecord) -> None:
        if self._closed:
            return
        path = self._path(record.name)
        new = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(record.to_json()))
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            self._forget_changes(record.name, path)
            raise

    def _forget_changes(self, name: EcrName, path: Path) -> None:
        """What could not be kept did not happen: memory is again what the folder holds."""
        if path.exists():
            self._repositories[name] = _load(path)
        else:
            self._repositories.pop(name, None)


def _load(path: Path) -> RepositoryRecord:
    try:
        return RepositoryRecord.from_json(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise SunaboxError(
            f"{path} is damaged, or was written by another version of Sunabox ({error!r}). "
            "Remove it, which loses that ECR repository, or start with another data folder."
        ) from error


def _token_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != 32:
        key = secrets.token_bytes(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
    return key
