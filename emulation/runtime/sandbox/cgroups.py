"""Memory and CPU limits by control groups, version 2 or 1, where this user may make one.

Source: Linux kernel, Control Group v2; Control Groups version 1 (memory, cpu); systemd, "Control Group APIs and
Delegation".
"""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from emulation.clock import real_sleep

_PERIOD_MICROSECONDS = 100_000
_CONTROLLERS = ("memory", "cpu")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups are made: one folder in version 2, one for each controller in version 1."""

    version: int
    folders: tuple[Path, ...]

    def group(self, name: str, parent: "Group | None" = None) -> "Group":
        """Makes a group. Raises OSError."""
        above = parent.folders if parent else self.folders
        group = Group(self.version, tuple(folder / name for folder in above))
        for folder in group.folders:
            folder.mkdir(exist_ok=True)
        if self.version == 2 and parent is not None:
            _pass_controllers_on(parent.folders[0])
        return group

    def leftovers(self, prefix: str) -> list["Group"]:
        """Groups whose name begins with `prefix`, which an emulator that was killed left behind."""
        names = {path.name for folder in self.folders for path in folder.glob(f"{prefix}*")}
        return [Group(self.version, tuple(folder / name for folder in self.folders)) for name in sorted(names)]


@dataclass(frozen=True, slots=True)
class Group:
    """A control group; in version 1 one folder for each controller. Memory's is the first."""

    version: int
    folders: tuple[Path, ...]

    def limit_memory(self, count: int) -> None:
        if self.version == 2:
            _write(self.folders[0] / "memory.max", count)
            with contextlib.suppress(OSError):  # no swap in this kernel
                _write(self.folders[0] / "memory.swap.max", 0)
            return
        _write(self.folders[0] / "memory.limit_in_bytes", count)
        with contextlib.suppress(OSError):
            _write(self.folders[0] / "memory.memsw.limit_in_bytes", count)

    def limit_cpus(self, cpus: float) -> None:
        """Best effort: not every kernel has the controller, and not every user may use it."""
        quota = max(int(cpus * _PERIOD_MICROSECONDS), 1000)
        with contextlib.suppress(OSError, IndexError):
            if self.version == 2:
                _write(self.folders[0] / "cpu.max", f"{quota} {_PERIOD_MICROSECONDS}")
            else:
                _write(self.folders[1] / "cpu.cfs_period_us", _PERIOD_MICROSECONDS)
                _write(self.folders[1] / "cpu.cfs_quota_us", quota)

    def open(self) -> list[int]:
        """Descriptors by which a process joins the group: it writes "0". What counts is who opened them."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders]

    @property
    def oom_kills(self) -> int:
        """How many of its processes the kernel killed for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in (self.folders[0] / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    async def remove(self) -> None:
        """Kills what is still in it (nothing, unless an emulator was killed), and removes it with all groups in it."""
        for _ in range(100):
            if not any(self._remove_now(folder) for folder in self.folders):
                return
            await real_sleep(0.01)

    def _remove_now(self, folder: Path) -> bool:
        """Whether it is still there."""
        for path in sorted((path.parent for path in folder.rglob("cgroup.procs")), reverse=True):
            with contextlib.suppress(OSError, ValueError):
                for pid in (path / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                path.rmdir()
        return folder.exists()


def find(mounts: str, membership: str, may_write: bool) -> Hierarchy | None:
    """The hierarchy to use, from the texts of /proc/self/mounts and /proc/self/cgroup. None: no limits by the kernel.

    `may_write` is whether this process is root, who may use groups of its own beside everybody else's in version 2.
    """
    unified, by_controller = _mounted(mounts)
    own = dict(_membership(membership))
    if all(name in by_controller for name in _CONTROLLERS[:1]):
        folders = [_deepest(by_controller[name], own.get(name, "/")) for name in _CONTROLLERS if name in by_controller]
        return Hierarchy(1, tuple(folders)) if all(os.access(folder, os.W_OK) for folder in folders) else None
    if unified is None:
        return None
    if may_write and _has_memory(unified):
        return Hierarchy(2, (unified,))
    folder = _deepest(unified, own.get("", "/"))
    while folder != unified:
        # Processes move only below a group that is theirs; a group with processes cannot pass controllers on.
        folder = folder.parent
        if os.access(folder / "cgroup.procs", os.W_OK) and os.access(folder, os.W_OK) and _has_memory(folder):
            return Hierarchy(2, (folder,))
    return None


def _mounted(mounts: str) -> tuple[Path | None, dict[str, Path]]:
    unified: Path | None = None
    by_controller: dict[str, Path] = {}
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup2":
            unified = Path(target)
        elif kind == "cgroup":
            by_controller.update({name: Path(target) for name in options.split(",") if name in _CONTROLLERS})
    return unified, by_controller


def _membership(text: str) -> list[tuple[str, str]]:
    found = []
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        found += [(name, path) for name in names.split(",")]
    return found


def _deepest(mounted: Path, own: str) -> Path:
    """This process's group, or the mount itself where a container's view of its path does not fit."""
    folder = mounted / own.lstrip("/")
    return folder if folder.is_dir() else mounted


def _has_memory(folder: Path) -> bool:
    try:
        if "memory" in (folder / "cgroup.subtree_control").read_text().split():
            _pass_controllers_on(folder)
            return True
        _write(folder / "cgroup.subtree_control", "+memory")
    except OSError:
        return False
    _pass_controllers_on(folder)
    return True


def _pass_controllers_on(folder: Path) -> None:
    for name in _CONTROLLERS:
        with contextlib.suppress(OSError):  # no CPU controller was delegated to this user: then no CPU limit
            _write(folder / "cgroup.subtree_control", f"+{name}")


def _write(path: Path, value: object) -> None:
    path.write_text(str(value))
