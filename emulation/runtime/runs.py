"""One life of a runtime, by a name that tells whether its process still lives.

A process is known by its PID namespace, its number there and the moment of its start, so that a number which was given
out again is not taken for it.
"""

import os
import re
import uuid
from pathlib import Path

_RUN = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)-[0-9a-f]{8}")


def new_run() -> str:
    """Of this process."""
    return f"{_namespace()}-{os.getpid()}-{_started(os.getpid())}-{uuid.uuid4().hex[:8]}"


def ended(run: str) -> bool:
    """Whether the process of a run is known to have ended. One of another PID namespace is never known to."""
    match = _RUN.fullmatch(run)
    if match is None or match[1] != _namespace():
        return False
    return _started(int(match[2])) != match[3]


def _namespace() -> str:
    return re.sub("[^0-9]", "", os.readlink("/proc/self/ns/pid"))


def _started(pid: int) -> str:
    """When a process started, in clock ticks since the boot; "" where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
