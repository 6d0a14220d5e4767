"""Flattens an image's layers into a folder, without ever touching anything outside it.

Source: OCI Image Format Specification, "Image Layer Filesystem Changeset" (whiteouts, opaque whiteouts, hard links).
"""

import errno
import fcntl
import logging
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from emulation.errors import ImageError
from emulation.images.layers import open_layer
from emulation.images.rootfs import Parts, Rootfs, parts_of, remove_entry, remove_tree, status
from emulation.images.source import Layer, ResolvedImage

log = logging.getLogger(__name__)

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_UNFINISHED = ".unpacking-"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1 << 18


def unpack(image: ResolvedImage, root: Path, *, uid_shift: int = 0) -> None:
    """Unpacks all layers, lowest first, into the new folder `root`, which appears when it is complete.

    As root, owners are those of the image plus `uid_shift`; for an ordinary user all belongs to the user. Devices are
    left out. Where another process unpacks into the same `root` at the same time, the first one wins and both succeed.

    Raises ImageError and leaves nothing behind where a layer is damaged, unsafe or of an unknown kind, where the disk
    is full, and where `root` exists.
    """
    # Emulation: devices and extended attributes (file capabilities) of an image are left out.
    if root.exists() and any(root.iterdir()):
        raise ImageError(f"{root} exists and is not empty: remove it first")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}{_UNFINISHED}", dir=root.parent))
    lock = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rootfs = Rootfs(unfinished)
        try:
            unpacking = _Unpacking(rootfs, uid_shift)
            for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
                unpacking.apply(layer, diff_id)
            unpacking.finish()
        finally:
            rootfs.close()
        try:
            unfinished.rename(root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    except OSError as error:
        raise ImageError(f"failed to unpack {image.reference}: {error.strerror or error}") from error
    finally:
        remove_tree(unfinished)
        os.close(lock)


def sweep(folder: Path) -> None:
    """Removes what killed processes left unfinished in `folder`; what others are unpacking now stays."""
    for unfinished in folder.glob(f".*{_UNFINISHED}*"):
        lock = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(unfinished)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


@dataclass(frozen=True, slots=True)
class _Attributes:
    mode: int
    uid: int
    gid: int
    mtime_ns: int


class _Unpacking:
    """One image on its way into a folder. Folders get their modes and times last, as the files in them change both."""

    def __init__(self, rootfs: Rootfs, uid_shift: int) -> None:
        self._rootfs = rootfs
        self._uid_shift = uid_shift
        self._keeps_owners = os.geteuid() == 0
        self._folders: dict[Parts, _Attributes] = {(): _Attributes(0o755, uid_shift, uid_shift, 0)}
        self._of_this_layer: set[Parts] = set()

    def apply(self, layer: Layer, diff_id: str) -> None:
        self._of_this_layer = {()}
        with open_layer(layer, diff_id) as stream:
            try:
                with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", encoding="utf-8") as tar:
                    while (member := tar.next()) is not None:
                        self._add(tar, member)
                        cast(Any, tar).members.clear()  # the list of all members may be larger than memory
            except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
                # An empty layer is a stream without a byte for tarfile, and a valid one for Docker.
                stream.drain()
                if not (isinstance(error, tarfile.ReadError) and str(error) == "empty file"):
                    raise ImageError(f"layer {layer.digest} is damaged: {error}") from error

    def finish(self) -> None:
        for parts, attributes in sorted(self._folders.items(), key=lambda item: (-len(item[0]), item[0])):
            with self._rootfs.opened(parts) as folder:
                if folder is not None:
                    self._set(folder, attributes)

    def _add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = parts_of(member.name)
        if not parts:
            if not member.isdir():
                raise ImageError(f"unsafe path {member.name!r}: it replaces the root folder")
            self._folders[()] = self._attributes(member)
            return
        *above, name = parts
        if name.startswith(_WHITEOUT):
            self._whiteout(tuple(above), name)
            return
        found = self._rootfs.directory(tuple(above), self._created_implicitly)
        assert found is not None  # it was created
        where, directory = found
        self._mark(path := (*where, name))
        if member.isdir():
            self._add_folder(member, path, directory)
        elif member.islnk():
            self._add_hard_link(member, path)
        else:
            self._remove(path, directory)
            found = self._rootfs.directory(where, None)
            assert found is not None  # only what is below it was removed
            self._add_other(tar, member, name, found[1])

    def _add_folder(self, member: tarfile.TarInfo, path: Parts, directory: int) -> None:
        existing = status(path[-1], directory)
        if existing is None or not stat.S_ISDIR(existing.st_mode):
            remove_entry(path[-1], directory)
            os.mkdir(path[-1], 0o700, dir_fd=directory)
            self._rootfs.forget()
        self._folders[path] = self._attributes(member)

    def _add_hard_link(self, member: tarfile.TarInfo, path: Parts) -> None:
        target = parts_of(member.linkname)
        found = self._rootfs.directory(target[:-1], None) if target else None
        if found is None:
            raise ImageError(f"hard link {member.name!r} to {member.linkname!r}, which is not in the image")
        where, directory = found[0], os.dup(found[1])
        try:
            existing = status(target[-1], directory)
            if existing is None or stat.S_ISDIR(existing.st_mode):
                raise ImageError(f"hard link {member.name!r} to {member.linkname!r}, which is no file of the image")
            if (*where, target[-1]) == path:
                return
            parent = self._rootfs.directory(path[:-1], None)
            assert parent is not None
            self._remove(path, parent[1])
            parent = self._rootfs.directory(path[:-1], None)
            assert parent is not None
            os.link(target[-1], path[-1], src_dir_fd=directory, dst_dir_fd=parent[1], follow_symlinks=False)
        except FileNotFoundError as error:
            raise ImageError(f"hard link {member.name!r} replaces what it links to") from error
        finally:
            os.close(directory)

    def _add_other(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, directory: int) -> None:
        attributes = self._attributes(member)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=directory)
            self._set_entry(name, directory, attributes)
        elif member.isreg():
            file = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
            with open(file, "wb") as stream:
                _copy(tar, member, stream)
                stream.flush()
                self._set(file, attributes)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=directory)
            self._set_entry(name, directory, attributes)
            os.chmod(name, attributes.mode, dir_fd=directory)
        elif member.ischr() or member.isblk():
            log.info("The image's device %r is left out.", member.name)
        else:
            raise ImageError(f"{member.name!r} in a layer is of the unknown type {member.type!r}")

    def _whiteout(self, above: Parts, name: str) -> None:
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise ImageError(f"unsafe path {'/'.join((*above, name))!r}: a whiteout of no file")
        if (found := self._rootfs.directory(above, None)) is None:
            return
        where, directory = found[0], os.dup(found[1])
        try:
            if name == _OPAQUE:
                self._hide(where, directory)
            elif not hidden.startswith(_WHITEOUT):  # those are notes that AUFS made for itself
                self._hide_one((*where, hidden), directory)
        finally:
            os.close(directory)

    def _hide(self, where: Parts, directory: int) -> None:
        for name in os.listdir(directory):
            self._hide_one((*where, name), directory)

    def _hide_one(self, path: Parts, directory: int) -> None:
        """Removes what lower layers have at `path`, and keeps what this layer has put there before."""
        if path not in self._of_this_layer:
            self._remove(path, directory)
            return
        entry = status(path[-1], directory)
        if entry is not None and stat.S_ISDIR(entry.st_mode):
            below = os.open(path[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                self._hide(path, below)
            finally:
                os.close(below)

    def _remove(self, path: Parts, directory: int) -> None:
        entry = status(path[-1], directory)
        if entry is None:
            return
        remove_entry(path[-1], directory)
        if stat.S_ISDIR(entry.st_mode):
            self._folders = {parts: kept for parts, kept in self._folders.items() if parts[: len(path)] != path}
        if not stat.S_ISREG(entry.st_mode):
            self._rootfs.forget()

    def _mark(self, path: Parts) -> None:
        while path not in self._of_this_layer:
            self._of_this_layer.add(path)
            path = path[:-1]

    def _created_implicitly(self, path: Parts) -> None:
        self._folders[path] = _Attributes(0o755, self._uid_shift, self._uid_shift, 0)
        self._mark(path)

    def _attributes(self, member: tarfile.TarInfo) -> _Attributes:
        return _Attributes(
            stat.S_IMODE(member.mode),
            member.uid + self._uid_shift,
            member.gid + self._uid_shift,
            int(member.mtime * 1_000_000_000),
        )

    def _set(self, descriptor: int, attributes: _Attributes) -> None:
        if self._keeps_owners:
            self._owning(lambda: os.fchown(descriptor, attributes.uid, attributes.gid))
        os.fchmod(descriptor, attributes.mode)  # after the owner: changing that drops the setuid bit
        os.utime(descriptor, ns=(attributes.mtime_ns, attributes.mtime_ns))

    def _set_entry(self, name: str, directory: int, attributes: _Attributes) -> None:
        """Owner and times of what cannot be opened: a symbolic link, a FIFO."""
        if self._keeps_owners:
            self._owning(
                lambda: os.chown(name, attributes.uid, attributes.gid, dir_fd=directory, follow_symlinks=False)
            )
        os.utime(name, ns=(attributes.mtime_ns, attributes.mtime_ns), dir_fd=directory, follow_symlinks=False)

    def _owning(self, change: Callable[[], None]) -> None:
        try:
            change()
        except PermissionError:
            log.warning("Root may not change owners here (CAP_CHOWN is missing): all files of images belong to root.")
            self._keeps_owners = False


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, stream: IO[bytes]) -> None:
    source = tar.fileobj
    assert source is not None  # the archive is open
    source.seek(member.offset_data)
    for offset, size in getattr(member, "sparse", None) or [(0, member.size)]:
        if offset < 0 or size < 0 or offset + size > member.size:
            raise ImageError(f"{member.name!r} in a layer is damaged: its sparse map exceeds its size")
        stream.seek(offset)
        while size:
            data = source.read(min(size, _COPY_BYTES))
            if not data:
                raise ImageError(f"{member.name!r} in a layer is truncated: {size} bytes are missing")
            stream.write(data)
            size -= len(data)
    stream.truncate(member.size)
