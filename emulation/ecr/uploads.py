"""Layers on their way in: files that grow, and become blobs when their digest proves right, or vanish.

The registry writes from worker threads, the AWS API from the API thread; each upload has one writer at a time.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emulation.clock import monotonic
from emulation.ecr.errors import EcrError, LayerDigestMismatch, UploadNotFound
from emulation.errors import ImageError
from emulation.images.blobs import BlobStore
from emulation.images.reference import EcrName

_FORGOTTEN_SECONDS = 6 * 3600.0


class UploadBusy(EcrError):
    registry_code = "BLOB_UPLOAD_INVALID"
    registry_status = 409

    def __init__(self) -> None:
        super().__init__("Another request is writing to this upload. Wait for it, or start an upload of your own.")


@dataclass(slots=True)
class Upload:
    """`size` is how many bytes have arrived. `parts` are the sizes of the parts, where the AWS API wrote them."""

    id: str
    name: EcrName
    path: Path
    size: int = 0
    parts: list[int] = field(default_factory=list)
    touched: float = field(default_factory=monotonic)
    writing: threading.Lock = field(default_factory=threading.Lock)

    def write(self, data: bytes | bytearray) -> None:
        """Appends. Raises OSError where the disk is full."""
        # Not "ab": that would make the file again after somebody dropped the upload.
        with self.path.open("r+b") as file:
            file.seek(self.size)
            file.write(data)
        self.size += len(data)


class Uploads:
    """All uploads under way."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def start(self, name: EcrName) -> Upload:
        self._drop_forgotten()
        upload = Upload(str(uuid.uuid4()), name, self._blobs.new_upload())
        with self._lock:
            self._uploads[upload.id] = upload
        return upload

    def get(self, name: EcrName, upload_id: str) -> Upload:
        """Raises UploadNotFound, also for an upload to another repository."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.name != name:
            raise UploadNotFound(name, upload_id)
        return upload

    @contextmanager
    def written(self, name: EcrName, upload_id: str) -> Iterator[Upload]:
        """The upload, for the only writer of the moment. Raises UploadNotFound, or UploadBusy."""
        upload = self.get(name, upload_id)
        if not upload.writing.acquire(blocking=False):
            raise UploadBusy
        try:
            upload.touched = monotonic()
            yield upload
        finally:
            upload.writing.release()

    def finish(self, upload: Upload, digest: str) -> None:
        """Makes it a blob; it is no upload any more then, or where it lied.

        Raises LayerDigestMismatch, UploadNotFound where it was dropped meanwhile, OSError.
        """
        try:
            self._blobs.adopt(upload.path, digest)
        except ImageError as error:
            raise LayerDigestMismatch(str(error)) from error
        except FileNotFoundError:
            raise UploadNotFound(upload.name, upload.id) from None
        finally:
            self.drop(upload)

    def drop(self, upload: Upload) -> None:
        """Removes every trace of it. Harmless when it is gone."""
        with self._lock:
            self._uploads.pop(upload.id, None)
        upload.path.unlink(missing_ok=True)

    def drop_all(self, name: EcrName) -> None:
        """Those into a repository that is no more."""
        for upload in [upload for upload in list(self._uploads.values()) if upload.name == name]:
            self.drop(upload)

    def _drop_forgotten(self) -> None:
        for upload in list(self._uploads.values()):
            if monotonic() - upload.touched > _FORGOTTEN_SECONDS and not upload.writing.locked():
                self.drop(upload)
