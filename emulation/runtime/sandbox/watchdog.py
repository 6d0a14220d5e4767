"""The memory limit where the kernel's is not to be had: what a program uses is measured ten times a second.

Emulation: a program that allocates fast exceeds its limit for a moment before it is killed.
"""

from pathlib import Path

from emulation.clock import real_sleep

_INTERVAL_SECONDS = 0.1


async def exceeds(pid: int, limit_bytes: int) -> None:
    """Returns when the process `pid` (as the host sees it) and its descendants use more than that."""
    while memory_used(pid, limit_bytes) <= limit_bytes:
        await real_sleep(_INTERVAL_SECONDS)


def memory_used(pid: int, enough: int) -> int:
    """Bytes. Resident memory is read first: cheap, but shared pages count twice. Then, if needed, the truth."""
    family = descendants(pid)
    resident = sum(_resident(one) for one in family)
    return resident if resident <= enough else sum(_proportional(one) for one in family)


def descendants(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        for task in _tasks(one):
            todo += [int(child) for child in _read(task / "children").split()]
    return found


def host_pid(parent: int, inner: int) -> int:
    """What the host calls the child that `parent` (a host pid) knows as `inner`; -1 when it has gone."""
    for task in _tasks(parent):
        for child in _read(task / "children").split():
            for line in _read(Path(f"/proc/{child}/status")).splitlines():
                if line.startswith("NSpid:") and str(inner) in line.split()[2:3]:
                    return int(child)
    return -1


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _resident(pid: int) -> int:
    kib = 0
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            kib += int(line.split()[1])
    return kib * 1024


def _proportional(pid: int) -> int:
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    values = [int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    return sum(values) * 1024 if values else _resident(pid)
