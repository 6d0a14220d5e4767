"""A blob store holds what its digests say, whoever writes and whoever is killed meanwhile."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emulation.errors import ImageError, ImageNotFound
from emulation.images.blobs import BlobStore
from tests.images.samples import sha256


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "sha512:" + "0" * 64,
               "sha256:" + "0" * 63 + "/", "sha256:" + "0" * 64 + "\n", "0" * 64],
)  # fmt: skip
def test_a_malformed_digest_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    """Every method refuses a digest that is not 64 lower-case hex digits."""
    store = BlobStore(tmp_path)
    for method in (store.path, store.has, store.size, store.delete):
        with pytest.raises(ImageError, match="invalid digest"):
            method(digest)


def test_a_blob_is_kept_until_it_is_deleted(tmp_path: Path) -> None:
    """put, has, size, path, digests and delete agree, also for another store on the same folder."""
    digest = BlobStore(tmp_path).put(b"content")
    store = BlobStore(tmp_path)
    assert (digest, store.has(digest), store.size(digest)) == (sha256(b"content"), True, 7)
    assert store.path(digest).read_bytes() == b"content" and list(store.digests()) == [digest]
    store.delete(digest)
    store.delete(digest)
    with pytest.raises(ImageNotFound):
        store.path(digest)


def test_a_file_that_lies_about_its_digest_is_not_adopted(tmp_path: Path) -> None:
    """The content is hashed before it is placed; the file stays with whoever brought it."""
    store = BlobStore(tmp_path)
    upload = store.new_upload()
    upload.write_bytes(b"other")
    with pytest.raises(ImageError, match="digest does not match"):
        store.adopt(upload, sha256(b"content"))
    assert upload.read_bytes() == b"other" and not list(store.digests())


def test_writers_of_the_same_blob_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Many threads with stores of their own write one blob; it is complete, and nothing else is left."""
    data = os.urandom(1 << 20)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: BlobStore(tmp_path).put(data), range(32)))
    assert digests == {sha256(data)} and BlobStore(tmp_path).path(sha256(data)).read_bytes() == data
    assert not list((tmp_path / "uploads").iterdir())


def test_uploads_of_a_killed_process_are_swept_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    """Opening a store removes only what nobody can complete any more."""
    living = BlobStore(tmp_path).new_upload  # keeps its store alive
    upload = living()
    program = (
        "import sys, pathlib; from emulation.images.blobs import BlobStore; "
        "s = BlobStore(pathlib.Path(sys.argv[1])); print(s.new_upload(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        orphan = Path(process.stdout.readline().strip())
        BlobStore(tmp_path)
        assert orphan.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    BlobStore(tmp_path)
    assert upload.exists() and not orphan.exists() and not orphan.parent.exists()
