"""A cloud inside a test process: in a thread with an event loop of its own, so that tests may block."""

import asyncio
import threading

from emulation.cloud import Cloud, CloudOptions
from emulation.errors import SunaboxError

_LONGEST_START_SECONDS = 60
_LONGEST_STOP_SECONDS = 60


class CloudThread:
    """One running cloud. `start` raises what `Cloud.start` raises."""

    def __init__(self, options: CloudOptions) -> None:
        self._options = options
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None
        # A daemon, because a cloud that does not stop must not keep a test run from ending.
        self._thread = threading.Thread(target=self._run, name="sunabox", daemon=True)
        self.endpoint_url = ""
        self.cloud: Cloud | None = None
        """Lives in the thread: from elsewhere only what is safe to read, such as a memory runtime's scripts."""

    def start(self) -> None:
        self._thread.start()
        if not self._started.wait(_LONGEST_START_SECONDS):
            raise SunaboxError(
                f"The cloud did not start within {_LONGEST_START_SECONDS} s; its log says how far it got."
            )
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stops everything in it. Raises what stopping it raised, and SunaboxError where it does not end."""
        if self._loop is not None and self._stop_asked is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_asked.set)
        self._thread.join(_LONGEST_STOP_SECONDS)
        if self._thread.is_alive():
            raise SunaboxError(
                f"The cloud did not stop within {_LONGEST_STOP_SECONDS} s; its log says what it waits for."
            )
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop_asked = asyncio.Event()
        self.cloud = cloud = Cloud(self._options)
        try:
            await cloud.start()
            self.endpoint_url = cloud.endpoint_url
            self._started.set()
            await self._stop_asked.wait()
        finally:
            await cloud.stop()
