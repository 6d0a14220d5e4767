"""A folder that is filled by strangers' instructions, of which none can reach outside.

Every file is reached from the folder's own descriptor, one component at a time, never through a symbolic link that the
kernel would follow. Links on the way to a file are resolved here as a program would see them whose root is this folder:
an absolute target begins at the folder, and ".." ends there. That is what containerd does, and so Fargate.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from emulation.errors import ImageError

Parts = tuple[str, ...]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
_DEEPEST = 256


def parts_of(name: str) -> Parts:
    """A name in a tar as components below the root. Raises ImageError where it would leave the root, or is unusable."""
    parts: list[str] = []
    for part in PurePosixPath("/", name).parts[1:]:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise ImageError(f"unsafe path {name!r}: it leaves the image")
    if "\0" in name:
        raise ImageError(f"unsafe path {name!r}: it contains a NUL")
    return tuple(parts)


class Rootfs:
    """An open folder. Parts that methods take or give are components below it, without links unless said otherwise."""

    def __init__(self, root: Path) -> None:
        self._fd = os.open(root, _DIRECTORY)
        self._cached: tuple[Parts, Parts, int] | None = None

    def close(self) -> None:
        self.forget()
        os.close(self._fd)

    def forget(self) -> None:
        """To be called when a folder or a link was removed: what was resolved before may be somewhere else now."""
        if self._cached is not None:
            os.close(self._cached[2])
            self._cached = None

    def directory(self, parts: Parts, created: Callable[[Parts], None] | None) -> tuple[Parts, int] | None:
        """Where a folder really is, links resolved, and its descriptor, valid until the next call.

        What is missing is created (mode 0700) and `created` told of it; without `created` None is returned instead.
        """
        if self._cached is None or self._cached[0] != parts:
            self.forget()
            found = self._walk(parts, created)
            if found is None:
                return None
            self._cached = (parts, *found)
        return self._cached[1], self._cached[2]

    @contextmanager
    def opened(self, parts: Parts) -> Iterator[int | None]:
        """A folder's descriptor; None where no folder is there any more."""
        try:
            found = self._walk(parts, None)
        except ImageError:
            found = None
        try:
            yield found[1] if found and found[0] == parts else None
        finally:
            if found:
                os.close(found[1])

    def _walk(self, parts: Parts, created: Callable[[Parts], None] | None) -> tuple[Parts, int] | None:
        todo = list(reversed(parts))
        done: list[str] = []
        links = 0
        fd = os.dup(self._fd)
        try:
            while todo:
                part = todo.pop()
                if part == "..":
                    if done:
                        done.pop()
                    os.close(fd)
                    fd = -1
                    fd = self._reopen(done)
                    continue
                entry = status(part, fd)
                if entry is not None and stat.S_ISLNK(entry.st_mode):
                    links += 1
                    if links > _MOST_LINKS:
                        raise ImageError(f"unsafe path {'/'.join(parts)!r}: too many levels of symbolic links")
                    target = os.readlink(part, dir_fd=fd)
                    todo += reversed([step for step in target.split("/") if step not in ("", ".")])
                    if target.startswith("/"):
                        done.clear()
                        os.close(fd)
                        fd = -1
                        fd = os.dup(self._fd)
                    continue
                if entry is None or not stat.S_ISDIR(entry.st_mode):
                    if created is None:
                        os.close(fd)
                        return None
                    if entry is not None:
                        os.unlink(part, dir_fd=fd)  # a later layer has a folder where an earlier one had a file
                    os.mkdir(part, 0o700, dir_fd=fd)
                    created((*done, part))
                done.append(part)
                if len(done) > _DEEPEST:
                    raise ImageError(f"unsafe path: more than {_DEEPEST} folders deep")
                deeper = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = deeper
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        return tuple(done), fd

    def _reopen(self, done: list[str]) -> int:
        fd = os.dup(self._fd)
        for part in done:
            try:
                deeper = os.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = deeper
        return fd


def status(name: str, directory: int) -> os.stat_result | None:
    """What is there under a name, links not followed; None for nothing."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove_entry(name: str, directory: int) -> None:
    """Removes whatever is there under a name, with all below it."""
    entry = status(name, directory)
    if entry is None:
        return
    if stat.S_ISDIR(entry.st_mode):
        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


def remove_tree(root: Path) -> None:
    """Removes an unpacked image, also the folders in it that their owner may not write. Harmless where it is not."""
    folders = [root] if root.is_dir() and not root.is_symlink() else []
    while folders:
        folder = folders.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            folders += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    if root.exists():
        shutil.rmtree(root)
