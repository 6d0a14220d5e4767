"""A folder of blobs addressed by their digest, shared by processes that know nothing of each other.

<root>/sha256/<64 hex digits>      complete blobs: a file appears here by a rename and never changes
<root>/uploads/<random>/           files that one open store is still writing
<root>/uploads/<random>.lock       locked by that store as long as it lives, so leftovers can be told and swept
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path

from emulation.errors import ImageError, ImageNotFound

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CHUNK = 1 << 20


def check_digest(digest: str) -> str:
    """The 64 hex digits of a digest `sha256:…`. Raises ImageError for all else, so that no digest can be a path."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ImageError(f"invalid digest {digest[:100]!r}: it must be sha256: and 64 lower-case hex digits")
    return match[1]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


class BlobStore:
    """Blobs under `root`, which is created. Leftovers of stores whose process was killed are removed at once.

    Every method that takes a digest raises ImageError where that is malformed.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "sha256"
        self._uploads = root / "uploads"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._uploads.mkdir(exist_ok=True)
        self._own_uploads: Path | None = None
        self._sweep()

    def path(self, digest: str) -> Path:
        """The blob's file, to be read only. Raises ImageNotFound."""
        path = self._blobs / check_digest(digest)
        if not path.is_file():
            raise ImageNotFound(f"blob {digest} not found")
        return path

    def has(self, digest: str) -> bool:
        return (self._blobs / check_digest(digest)).is_file()

    def size(self, digest: str) -> int:
        """The blob's size in bytes. Raises ImageNotFound."""
        return self.path(digest).stat().st_size

    def put(self, data: bytes) -> str:
        """Keeps `data`; gives its digest."""
        digest = digest_of(data)
        if not self.has(digest):
            upload = self.new_upload()
            upload.write_bytes(data)
            self._place(upload, digest)
        return digest

    def adopt(self, file: Path, digest: str) -> None:
        """Moves a complete file into the store after reading it once.

        Raises ImageError where its content does not have that digest; the file then stays with the caller.
        """
        check_digest(digest)
        actual = digest_of_file(file)
        if actual != digest:
            raise ImageError(f"digest does not match: {digest} was announced, the content is {actual}")
        if file.stat().st_dev != self._blobs.stat().st_dev:
            upload = self.new_upload()
            shutil.copyfile(file, upload)
            self._place(upload, digest)
            file.unlink()
        else:
            self._place(file, digest)

    def delete(self, digest: str) -> None:
        """Removes a blob; harmless where it is not there. Whoever has it open reads on."""
        (self._blobs / check_digest(digest)).unlink(missing_ok=True)

    def new_upload(self) -> Path:
        """A new, empty file on the store's filesystem. Whoever does not `adopt` it in the end removes it."""
        if self._own_uploads is None:
            self._own_uploads = self._claim_uploads()
        descriptor, name = tempfile.mkstemp(dir=self._own_uploads)
        os.close(descriptor)
        return Path(name)

    def digests(self) -> Iterator[str]:
        """All digests, sorted."""
        return (f"sha256:{path.name}" for path in sorted(self._blobs.iterdir()))

    def _place(self, file: Path, digest: str) -> None:
        file.chmod(0o644)
        # A rename is atomic: of several writers of the same blob any may win, the content is the same.
        file.replace(self._blobs / check_digest(digest))

    def _claim_uploads(self) -> Path:
        while True:
            folder = self._uploads / uuid.uuid4().hex
            lock_path = folder.with_suffix(".lock")
            lock = os.open(lock_path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if lock_path.exists():
                break
            os.close(lock)  # another store swept it between its creation and our lock
        folder.mkdir()
        weakref.finalize(self, _release, lock, folder, os.getpid())
        return folder

    def _sweep(self) -> None:
        for lock_path in self._uploads.glob("*.lock"):
            try:
                lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue  # just removed, or another user's
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # its store lives
            else:
                _remove(lock_path.with_suffix(""))
            finally:
                os.close(lock)


def _release(lock: int, folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child shares the lock, but not the right to clean up
        _remove(folder)
        os.close(lock)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)
