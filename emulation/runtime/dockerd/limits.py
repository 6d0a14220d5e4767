"""A task's own limits, which hold for its containers together: a control group above the daemon's groups for them."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulation.runtime.dockerd.ownership import GROUP
from emulation.runtime.runs import ended
from emulation.runtime.sandbox.cgroups import Group, Hierarchy

log = logging.getLogger(__name__)

_MOUNTED = Path("/sys/fs/cgroup")


def hierarchy(info: Mapping[str, Any]) -> Hierarchy | None:
    """Where the daemon makes its groups; None where these may not be below one of ours (systemd manages them).

    `info` is what `docker info` shows.
    """
    # Emulation: where systemd manages the daemon's groups, the task's limits hold for each container by itself.
    if info.get("CgroupDriver") != "cgroupfs":
        return None
    if str(info.get("CgroupVersion", "1")) == "2":
        folders: tuple[Path, ...] = (_MOUNTED,)
        return Hierarchy(2, folders) if os.access(_MOUNTED / "cgroup.subtree_control", os.W_OK) else None
    # The daemon makes the group in each controller that there is: all are named here, so that they are removed again.
    first = [_MOUNTED / name for name in ("memory", "cpu")]
    folders = tuple(first + sorted(path for path in _MOUNTED.iterdir() if _is_controller(path) and path not in first))
    return Hierarchy(1, folders) if all(os.access(folder, os.W_OK) for folder in folders) else None


def _is_controller(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists()


def make_group(where: Hierarchy | None, name: str, memory_bytes: int) -> Group | None:
    """A task's group, with its memory limit (0 for none); its containers are given `/name` as their parent.

    The processor's limit follows when a container runs: what the daemon does to start one would be slowed by it.
    """
    if where is None:
        return None
    try:
        group = where.group(name)
        if memory_bytes:
            group.limit_memory(memory_bytes)
    except OSError as error:
        log.warning("The limits of a task as a whole cannot be set (%s): they hold for each container by itself", error)
        return None
    return group


def leftovers(where: Hierarchy | None) -> list[Group]:
    """The groups of emulators that were killed."""
    if where is None:
        return []
    found = where.leftovers(GROUP)
    return [group for group in found if ended(group.folders[0].name.removeprefix(GROUP).rpartition("-")[0])]
