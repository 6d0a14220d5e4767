"""What every service stands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from emulation.clock import Timeline
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Bus
from emulation.ec2.groups import SecurityGroupTable
from emulation.network.network import Network
from emulation.runtime.base import Runtime


@dataclass(frozen=True)
class Ground:
    """`folder` is the emulator's own; `durable` says whether it outlives it. `library` is CloudOptions' own."""

    api: ApiThread
    clock: Timeline
    bus: Bus
    groups: SecurityGroupTable
    network: Network
    runtime: Runtime
    folder: Path
    durable: bool
    library: Path | None

    @property
    def servers_are_containers(self) -> bool:
        """Without Testcontainers, the docker runtime has the servers of the process runtime."""
        return self.runtime.name == "docker" and find_spec("testcontainers") is not None

    @property
    def labels(self) -> Mapping[str, str]:
        """Those of all that this emulator makes in the Docker daemon."""
        from emulation.runtime.docker import DockerRuntime

        assert isinstance(self.runtime, DockerRuntime), "it is asked for on docker only"
        return self.runtime.labels
