"""Serving in the foreground: from the first import to the last process stopped."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emulation import __version__

if TYPE_CHECKING:
    from emulation.cloud import Cloud

log = logging.getLogger("emulation")

_HURRY_SECONDS = 1.0
_INTERRUPTED = 130


def serve_until_stopped(
    *,
    host: str,
    port: int,
    runtime: str,
    speed: float,
    virtual_clock: bool,
    data_dir: Path | None,
    ready_fd: int | None = None,
) -> None:
    """Returns when Ctrl-C, SIGTERM or `sunabox down` has stopped everything. Raises SunaboxError where it cannot start.

    `ready_fd` is written to, and closed, when it serves.
    """
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    _log_to_stderr()
    # Most of a start is imports, during which the collector walks ever more objects of which none is garbage. What is
    # there when it serves will stay, so the collector never needs to look at it again.
    gc.disable()
    from emulation.cloud import Cloud, CloudOptions

    cloud = Cloud(
        CloudOptions(host=host, port=port, runtime=runtime, speed=speed, virtual_clock=virtual_clock, data_dir=data_dir)
    )
    asyncio.run(_Service(cloud, partial(_announce, cloud, ready_fd)).run())


class _Service:
    """A cloud between its start and its stop, and the signals that it gets meanwhile."""

    def __init__(self, cloud: "Cloud", announce: Callable[[], None]) -> None:
        self._cloud = cloud
        self._announce = announce
        self._stop_asked = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        self._cloud.on_shutdown = self._stop_asked.set
        try:
            if await self._started():
                gc.freeze()
                gc.enable()
                self._announce()
                await self._stop_asked.wait()
        finally:
            await self._stop()

    async def _started(self) -> bool:
        """False where a signal came before the start was over."""
        starting = asyncio.create_task(self._cloud.start(), name="start")
        asked = asyncio.create_task(self._stop_asked.wait(), name="stop asked")
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            return False
        starting.result()
        return not self._stop_asked.is_set()

    async def _stop(self) -> None:
        log.info("stopping")
        self._stopping = asyncio.create_task(self._cloud.stop(), name="stop")
        with suppress(asyncio.CancelledError):
            await self._stopping
        if self._stopping.cancelled():
            os._exit(_INTERRUPTED)
        log.info("stopped")

    def _on_signal(self, number: int) -> None:
        if not self._stop_asked.is_set():
            self._stop_asked.set()
        elif self._stopping is not None:
            log.warning("hurrying: what still runs is killed")
            asyncio.get_running_loop().call_later(_HURRY_SECONDS, os._exit, _INTERRUPTED)
            self._stopping.cancel()


def _announce(cloud: "Cloud", ready_fd: int | None) -> None:
    url = cloud.endpoint_url
    log.info("Sunabox %s serves at %s, containers run on %s", __version__, url, cloud.runtime.name)
    credentials = "AWS_ACCESS_KEY_ID=111122223333 AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1"
    # Whoever started it may have read enough and closed the other end; that is no reason to stop.
    with suppress(OSError):
        print(url, f"export AWS_ENDPOINT_URL={url} {credentials}", "Ready.", sep="\n", flush=True)
    if ready_fd is not None:
        with suppress(OSError):
            os.write(ready_fd, url.encode())
        os.close(ready_fd)


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    log.setLevel(logging.DEBUG if os.environ.get("SUNABOX_DEBUG") else logging.INFO)
