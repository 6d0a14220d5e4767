"""Whose a container, a volume, an image or a control group is, and whether that emulator still lives."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from emulation.runtime.runs import ended, new_run

RUN, FOLDER, PID, TASK, CONTAINER = (
    "sunabox.run",
    "sunabox.data-folder",
    "sunabox.pid",
    "sunabox.task",
    "sunabox.container",
)
REPOSITORY = "sunabox-run/"
GROUP = "sunabox-docker-"


@dataclass(frozen=True, slots=True)
class Owner:
    """One runtime of one process. `folder` is its own, which it holds a lock on."""

    folder: Path
    run: str = field(default_factory=new_run)

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
