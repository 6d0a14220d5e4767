"""A cloud with nothing in it but the control API: it starts at once, and fails or dawdles as the environment says.

STANDIN_START_SECONDS, STANDIN_STOP_SECONDS: how long that takes. STANDIN_FAILURE: starting raises RuntimeUnavailable
(with that text), or any other exception where it begins with "bug:".
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click

from emulation.clock import SystemClock, Timeline, VirtualClock, real_sleep
from emulation.errors import RuntimeUnavailable
from emulation.gateway.control import ControlApp
from emulation.gateway.server import Server


@dataclass(frozen=True)
class CloudOptions:
    host: str = "127.0.0.1"
    port: int = 4566
    runtime: str = "auto"
    speed: float = 1.0
    virtual_clock: bool = False
    data_dir: Path | None = None


class Cloud:
    def __init__(self, options: CloudOptions) -> None:
        self._options = options
        self._server = Server(options.host, options.port)
        self.on_shutdown: Callable[[], None] | None = None
        self.clock: Timeline = VirtualClock() if options.virtual_clock else SystemClock(options.speed)
        self.runtime = SimpleNamespace(name=options.runtime)
        self.endpoint_url = ""

    def status(self) -> dict[str, object]:
        return {"data_dir": str(self._options.data_dir), "tasks": []}

    async def start(self) -> None:
        host, port = self._server.bind()
        self.endpoint_url = f"http://{host}:{port}"
        click.echo("starting")
        await real_sleep(float(os.environ.get("STANDIN_START_SECONDS", "0")))
        if failure := os.environ.get("STANDIN_FAILURE"):
            raise ValueError(failure) if failure.startswith("bug:") else RuntimeUnavailable(failure)
        await self._server.start(ControlApp(self))  # type: ignore[arg-type]

    async def stop(self) -> None:
        await self._server.stop()
        await real_sleep(float(os.environ.get("STANDIN_STOP_SECONDS", "0")))
        click.echo("cloud stopped")
