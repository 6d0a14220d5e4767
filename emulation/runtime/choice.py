"""Which runtime runs the containers: the one that was asked for, or the best that this machine can do."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emulation.clock import Clock
from emulation.errors import RuntimeUnavailable
from emulation.images.source import ImageSource
from emulation.runtime.base import Runtime
from emulation.runtime.dockerd import address

if TYPE_CHECKING:
    from emulation.runtime.sandbox.task import NetworkPort

log = logging.getLogger(__name__)

NAMES = ("auto", "process", "docker", "memory")


async def start_runtime(name: str, *, clock: Clock, images: ImageSource, network: NetworkPort, folder: Path) -> Runtime:
    """A started runtime, `name` being one of NAMES. Raises RuntimeUnavailable.

    `auto` is docker where a daemon answers that it can be used with, else process.
    """
    # Emulation: `auto` never means `memory`, which runs nothing: that has to be asked for.
    if name == "memory":
        from emulation.runtime.memory import MemoryRuntime

        return MemoryRuntime(clock)
    if name == "docker" or (name == "auto" and address.usable()):
        from emulation.runtime.docker import DockerRuntime

        docker = DockerRuntime(clock=clock, images=images, network=network, folder=folder)
        try:
            await docker.start()
        except RuntimeUnavailable as problem:
            if name == "docker":
                raise
            log.warning("Containers run as processes, although a Docker daemon answers. %s", problem)
        else:
            return docker
    if sys.platform != "linux":
        raise RuntimeUnavailable(
            f"The process runtime needs Linux; this is {sys.platform}. Pass --runtime memory for the API alone."
        )
    from emulation.runtime.process import ProcessRuntime

    process = ProcessRuntime(clock=clock, images=images, network=network, folder=folder)
    await process.start()
    return process
