"""Whose a container, a volume, an image or a control group is, and whether that emulator still lives.

A process is known by its PID namespace, its number there and the moment of its start, so that a number which was given
out again is not taken for it.
"""

import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

RUN, FOLDER, PID, TASK, CONTAINER = (
    "sunabox.run",
    "sunabox.data-folder",
    "sunabox.pid",
    "sunabox.task",
    "sunabox.container",
)
REPOSITORY = "sunabox-run/"
GROUP = "sunabox-docker-"
_RUN = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Owner:
    """One runtime of one process. `folder` is its own, which it holds a lock on."""

    folder: Path
    run: str = field(default_factory=lambda: _new_run())

    @property
    def labels(self) -> dict[str, str]:
        return {RUN: self.run, PID: str(os.getpid()), FOLDER: str(self.folder)}

    @property
    def repository(self) -> str:
        """The name under which the daemon knows the images that this runtime loaded into it."""
        return f"{REPOSITORY}{self.run}"

    @property
    def group_prefix(self) -> str:
        return f"{GROUP}{self.run}-"

    def inherits(self, labels: dict[str, str]) -> bool:
        """Whether what carries these labels was left behind: by a process that died, or in the folder that is ours."""
        run = labels.get(RUN)
        if run is None or run == self.run:
            return False
        return labels.get(FOLDER) == str(self.folder) or ended(run)


def _new_run() -> str:
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
