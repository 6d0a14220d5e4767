"""The API thread: one call after the other, on one thread that is not the event loop's."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from emulation.core.api_thread import ApiThread


def run(main: Callable[[ApiThread], Coroutine[Any, Any, None]]) -> None:
    async def with_thread() -> None:
        api = ApiThread()
        await api.start()
        try:
            await main(api)
        finally:
            api.close()

    asyncio.run(with_thread())


def test_calls_run_one_after_the_other_on_one_thread() -> None:
    """moto's records are never touched by two at once, and calls keep their order."""

    async def main(api: ApiThread) -> None:
        order: list[int] = []
        threads: set[int] = set()
        at_once = threading.Lock()

        def touch(number: int) -> int:
            assert at_once.acquire(blocking=False)
            threads.add(threading.get_ident())
            order.append(number)
            at_once.release()
            return number

        assert await asyncio.gather(*(api.call(touch, number) for number in range(200))) == list(range(200))
        assert order == list(range(200))
        assert len(threads) == 1
        assert threads != {threading.get_ident()}

    run(main)


def test_a_call_gives_what_it_raises() -> None:
    """An error comes back to who called, and the thread lives on."""

    async def main(api: ApiThread) -> None:
        with pytest.raises(ZeroDivisionError):
            await api.call(lambda: 1 // 0)
        assert await api.call(int, "12", base=8) == 10

    run(main)


def test_the_event_loop_is_free_while_a_call_runs() -> None:
    """Health checks go on while moto thinks."""

    async def main(api: ApiThread) -> None:
        free = threading.Event()
        call = asyncio.ensure_future(api.call(free.wait, 5))
        await asyncio.get_running_loop().run_in_executor(None, free.set)
        assert await call

    run(main)


def test_the_api_thread_knows_itself() -> None:
    """Who is about to touch records can ask whether it may."""

    async def main(api: ApiThread) -> None:
        assert not api.here
        assert await api.call(lambda: api.here)

    run(main)


def test_posts_reach_the_event_loop_in_order() -> None:
    """What a call posts happens on the loop's thread, before the call's own result is seen."""

    async def main(api: ApiThread) -> None:
        seen: list[tuple[int, int]] = []

        def record() -> None:
            for number in range(3):
                api.post(lambda number: seen.append((number, threading.get_ident())), number)

        await api.call(record)
        assert seen == [(number, threading.get_ident()) for number in range(3)]

    run(main)


def test_a_post_after_the_end_is_dropped() -> None:
    """A late call that ends after the loop is closed does not fail."""
    api = ApiThread()
    asyncio.run(api.start())
    api.post(pytest.fail, "was called")
    api.close()


def test_closing_waits_for_the_running_call_only() -> None:
    """What was not begun is not done any more."""

    async def main() -> None:
        api = ApiThread()
        await api.start()
        begun, go_on = threading.Event(), threading.Event()
        done: list[str] = []

        def running() -> None:
            begun.set()
            go_on.wait(5)
            done.append("running")

        first = asyncio.ensure_future(api.call(running))
        second = asyncio.ensure_future(api.call(done.append, "waiting"))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, 5)
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        await asyncio.get_running_loop().run_in_executor(None, api.close)
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert done == ["running"]

    asyncio.run(main())
