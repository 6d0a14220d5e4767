"""The one thread on which AWS API calls are handled.

moto's records are not safe to share between threads, so all that reads or writes them runs here, one call after the
other: the gateway's requests, and the observing and recording halves of the reconcile loops. The event loop stays free
for health checks, containers and clients meanwhile. Nothing that waits (for a container, a Lambda function, a stack)
may run here.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ApiThread:
    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aws-api")
        self._thread: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Binds the running event loop, to which `post` hands over."""
        self._loop = asyncio.get_running_loop()
        self._thread = await self.call(threading.get_ident)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` on the API thread, after all that was asked before, and gives what it returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    def post(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """From the API thread to the event loop: `function` is called there soon. Dropped once the loop is closed."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(partial(function, *args, **kwargs))

    @property
    def here(self) -> bool:
        """Whether the caller runs on the API thread; moto's records may be touched only then."""
        return threading.get_ident() == self._thread

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
