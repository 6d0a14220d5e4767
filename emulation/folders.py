"""The emulator's own folder: held by one process at a time, and no temporary one outlives its process for long.

A process that is killed cannot remove its temporary folder; the next start does. A folder is in use as long as some
process holds the lock on its lock file, which the kernel drops however that process ends.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from emulation.errors import SunaboxError

_PREFIX = "sunabox-"
_LOCK = "lock"


class DataFolder:
    """`path` is the folder. Made with `claim`."""

    def __init__(self, path: Path, lock: int, temporary: bool) -> None:
        self.path, self._lock, self._temporary = path, lock, temporary

    def release(self) -> None:
        """Gives the folder to others; a temporary one is removed."""
        if self._temporary:
            remove_tree(self.path)
        os.close(self._lock)


def claim(data_dir: Path | None) -> DataFolder:
    """The user's folder, or, where that is None, a temporary one. Raises SunaboxError where it cannot be had."""
    if data_dir is None:
        sweep(Path(tempfile.gettempdir()))
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    else:
        path = data_dir.absolute()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise SunaboxError(f"Cannot keep data in {path}: {problem.strerror}. Pass another --data-dir.") from problem
    lock = _lock(path)
    if lock is None:
        raise SunaboxError(
            f"{path} is in use by another Sunabox. Stop it (`sunabox down`), or pass another --data-dir."
        )
    return DataFolder(path, lock, temporary=data_dir is None)


def sweep(parent: Path) -> None:
    """Removes the temporary folders in `parent` whose process is gone."""
    for path in parent.glob(f"{_PREFIX}*"):
        if not (path / _LOCK).is_file() or path.is_symlink() or path.stat().st_uid != os.geteuid():
            continue
        lock = _lock(path)
        if lock is not None:
            remove_tree(path)
            os.close(lock)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None where another process holds it."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        raise SunaboxError(f"Cannot write to {path}: {problem.strerror}. Pass another --data-dir.") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def remove_tree(path: Path) -> None:
    """Removes a folder also where what is in it may not be entered or changed by its owner (unpacked images)."""
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            if not inner.is_symlink():
                os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
