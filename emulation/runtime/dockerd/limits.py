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
    folders = (_MOUNTED / "memory", _MOUNTED / "cpu")
    return Hierarchy(1, folders) if all(os.access(folder, os.W_OK) for folder in folders) else None


def make_group(where: Hierarchy | None, name: str, memory_bytes: int | None, cpus: float | None) -> Group | None:
    """A task's group, where it has limits; its containers are given `/name` as their parent."""
    if where is None or (not memory_bytes and not cpus):
        return None
    try:
        group = where.group(name)
        if memory_bytes:
            group.limit_memory(memory_bytes)
        if cpus:
            group.limit_cpus(cpus)
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
