"""Folders of the process runtime: unpacked images, and each container's layer of its own.

<folder>/lock                      held by the emulator that uses the folder
<folder>/images/<digest>-<ids>/    unpacked images, kept for the next time
<folder>/tasks/<task>/…            what a task writes; goes with it
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path

from emulation.errors import ImageNotFound, RuntimeUnavailable
from emulation.images.source import ImageSource
from emulation.images.unpack import unpack
from emulation.runtime.base import PulledImage
from emulation.runtime.sandbox.forkserver import Ids

_MAY_PASS, _OWN = 0o711, 0o700
"""A container's root is somebody else to the host: it may walk through, and see nothing."""


class Folder:
    """The runtime's folder, locked as long as it is used."""

    def __init__(self, path: Path) -> None:
        self.path, self.images, self.tasks = path, path / "images", path / "tasks"
        self._lock = -1

    def open(self) -> None:
        """Makes it and removes what a killed emulator left. Raises RuntimeUnavailable where another one uses it."""
        for path in (self.path, self.images, self.tasks):
            path.mkdir(parents=True, exist_ok=True)
            # An ordinary user's images hold files with set-user-ID bits that are the user's own: not for others to run.
            path.chmod(_MAY_PASS if os.geteuid() == 0 else _OWN)
        self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RuntimeUnavailable(
                f"{self.path} is used by another Sunabox. Stop it, or give this one another --data-dir."
            ) from None
        for leftover in self.tasks.iterdir():
            remove_tree(leftover)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Images:
    """Pulls images: resolves them at their source and unpacks each once, with the ids that containers will have."""

    def __init__(self, source: ImageSource, folder: Path, ids: Ids) -> None:
        self._source, self._folder, self._ids = source, folder, ids
        self._unpacking: dict[str, asyncio.Lock] = {}

    async def pull(self, reference: str, account: str) -> PulledImage:
        image = await self._source.resolve(reference, account)
        pulled = PulledImage(image.reference, image.digest, image.image_config)
        root = self._place(image.digest)
        async with self._unpacking.setdefault(image.digest, asyncio.Lock()):
            if not root.exists():
                await asyncio.to_thread(unpack, image, root, uid_shift=0 if self._ids.single else self._ids.first)
        return pulled

    def root(self, image: PulledImage) -> Path:
        """The folder in which a pulled image was unpacked."""
        root = self._place(image.digest)
        if not root.exists():
            raise ImageNotFound(f"{image.reference} was not pulled")
        return root

    def _place(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}-{self._ids.first}"


def make_folder(path: Path, ids: Ids, mode: int = 0o755) -> Path:
    """A folder that belongs to the container's root."""
    path.mkdir()
    path.chmod(mode)
    give(path, ids)
    return path


def make_file(path: Path, ids: Ids, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o644)
    give(path, ids)
    return path


def give(path: Path, ids: Ids) -> None:
    if not ids.single:
        os.chown(path, ids.first, ids.first)


def rewrite(path: Path, content: bytes) -> None:
    """In place, so that bind mounts of the file see it, and without a moment in which it is empty."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def copy_tree(source: Path, target: Path) -> None:
    """Where no overlay can be mounted: a copy with owners and modes. A container could change what hard links name."""
    for path, folders, files in os.walk(source):
        inner = target / os.path.relpath(path, source)
        if not inner.exists():
            inner.mkdir()
        for name in (*folders, *files):
            original, copy = os.path.join(path, name), inner / name
            status = os.lstat(original)
            if stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(original), copy)
            elif stat.S_ISDIR(status.st_mode):
                copy.mkdir()
            elif stat.S_ISREG(status.st_mode):
                shutil.copyfile(original, copy)
            else:
                continue
            _copy_attributes(status, copy)
    _copy_attributes(os.stat(source), target)


def _copy_attributes(status: os.stat_result, copy: Path) -> None:
    os.chown(copy, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        copy.chmod(stat.S_IMODE(status.st_mode))


def remove_tree(folder: Path) -> None:
    """Removes it whatever the modes of the folders in it are: overlayfs and containers leave some that forbid it."""
    for path, folders, _ in os.walk(folder):
        for name in folders:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
