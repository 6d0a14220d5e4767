"""The machine's local images by name and tag, as `docker images` lists them.

The folder is an OCI image layout, so other tools read it: `blobs/sha256/…` and an `index.json` in which every name is
an entry. Several processes may use it at once: changes of the index happen under a lock, and appear by a rename.

Source: OCI Image Format Specification, "Image Layout".
"""

import asyncio
import builtins
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emulation.errors import ImageError, ImageNotFound
from emulation.images.blobs import BlobStore
from emulation.images.manifest import OCI_INDEX, Descriptor, Index, parse_index, parse_manifest
from emulation.images.reference import ImageReference
from emulation.images.source import ResolvedImage, read_image

NAME_ANNOTATION = "io.containerd.image.name"
"""The annotation with a full reference: containerd's and Docker's, since OCI's own may hold a tag only."""
REF_NAME_ANNOTATION = "org.opencontainers.image.ref.name"
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A name in the library. `size_bytes` is that of the manifest, the configuration and the layers as kept."""

    name: str
    digest: str
    media_type: str
    size_bytes: int


def default_root() -> Path:
    """$SUNABOX_IMAGES, else sunabox/images in the user's data folder. Source: XDG Base Directory Specification."""
    if chosen := os.environ.get("SUNABOX_IMAGES"):
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data.startswith("/") else Path.home() / ".local" / "share") / "sunabox" / "images"


class Library:
    """Images in the folder `root` (see `default_root`), which is created. Implements ImageSource."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self.blobs = BlobStore(self.root / "blobs")

    def add(self, image: ResolvedImage | str, names: Iterable[str]) -> tuple[LocalImage, ...]:
        """Gives names to an image: one that another source resolved, or the digest of a manifest or index whose blobs
        are all in `blobs` already. A name that meant another image means this one from now on.

        Raises ImageError where a name is malformed or the image is, ImageNotFound where a blob is missing.
        """
        if isinstance(image, ResolvedImage):
            self._take(image)
            digest = image.digest
        else:
            digest = image
        wanted = {_key(name) for name in names}
        with self._locked():
            read_image(self.blobs, digest, digest)
            manifest = parse_manifest(self.blobs.path(digest).read_bytes())
            added = [
                Descriptor(
                    manifest.media_type,
                    digest,
                    self.blobs.size(digest),
                    annotations={NAME_ANNOTATION: name, REF_NAME_ANNOTATION: ImageReference.parse(name).tag},
                )
                for name in sorted(wanted)
            ]
            kept = [entry for entry in self._entries() if _name(entry) not in wanted]
            self._write(kept + added)
        return tuple(self._local(entry) for entry in added)

    def remove(self, name: str) -> None:
        """Takes a name away, and the blobs that no other name needs. Raises ImageNotFound."""
        key = _key(name)
        with self._locked():
            entries = self._entries()
            kept = [entry for entry in entries if _name(entry) != key]
            if len(kept) == len(entries):
                raise _not_found(name)
            self._write(kept)
            needed = {digest for entry in kept for digest in self._reachable(entry.digest)}
            for entry in entries:
                for digest in self._reachable(entry.digest) - needed:
                    self.blobs.delete(digest)

    def list(self) -> tuple[LocalImage, ...]:
        """All names, sorted."""
        return tuple(self._local(entry) for entry in sorted(self._entries(), key=_name))

    def find(self, name: str) -> LocalImage:
        """The image of a name, or of a name and digest. Raises ImageNotFound, ImageError for a malformed name."""
        reference = ImageReference.parse(name).familiar
        for entry in self._entries():
            if reference.digest:
                if entry.digest == reference.digest and ImageReference.parse(_name(entry)).name == reference.name:
                    return self._local(entry)
            elif _name(entry) == str(reference):
                return self._local(entry)
        raise _not_found(name)

    def read(self, name: str) -> ResolvedImage:
        """Like `resolve`, for whoever has no event loop."""
        return read_image(self.blobs, self.find(name).digest, name)

    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        """Finds a local image; every account sees the same ones.

        Raises ImageNotFound where there is none of that name, ImageError where it cannot run on this machine.
        """
        return await asyncio.to_thread(self.read, reference)

    def _take(self, image: ResolvedImage) -> None:
        for layer in image.layers:
            if not self.blobs.has(layer.digest):
                upload = self.blobs.new_upload()
                shutil.copyfile(layer.path, upload)
                self.blobs.adopt(upload, layer.digest)
        self.blobs.put(image.config)
        if self.blobs.put(image.manifest) != image.digest:
            raise ImageError(f"digest does not match: {image.digest} is not that of the manifest of {image.reference}")

    def _reachable(self, digest: str) -> set[str]:
        if not self.blobs.has(digest):
            return set()
        manifest = parse_manifest(self.blobs.path(digest).read_bytes())
        if isinstance(manifest, Index):
            return {digest}.union(*(self._reachable(entry.digest) for entry in manifest.manifests))
        return {digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}

    def _local(self, entry: Descriptor) -> LocalImage:
        size = sum(self.blobs.size(digest) for digest in self._reachable(entry.digest) if self.blobs.has(digest))
        return LocalImage(_name(entry), entry.digest, entry.media_type, size)

    def _entries(self) -> builtins.list[Descriptor]:
        try:
            data = (self.root / "index.json").read_bytes()
        except FileNotFoundError:
            return []
        return [entry for entry in parse_index(data).manifests if _name(entry)]

    def _write(self, entries: builtins.list[Descriptor]) -> None:
        ordered = sorted(entries, key=_name)
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry.to_json() for entry in ordered]}
        (self.root / "oci-layout").write_bytes(LAYOUT_FILE)
        upload = self.blobs.new_upload()
        upload.write_text(json.dumps(document, indent=1), encoding="utf-8")
        upload.chmod(0o644)
        upload.replace(self.root / "index.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / "index.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _key(name: str) -> str:
    reference = ImageReference.parse(name).familiar
    if reference.digest:
        raise ImageError(f"{name!r} has a digest: give a name and a tag, the digest follows from the image")
    return str(reference)


def _name(entry: Descriptor) -> str:
    return (entry.annotations or {}).get(NAME_ANNOTATION, "")


def _not_found(name: str) -> ImageNotFound:
    return ImageNotFound(f"No such image: {name}. `sunabox image ls` lists the local images; build or load it first.")
