"""The memory runtime: scripts on a clock that is turned."""

import asyncio
from datetime import timedelta

import pytest

from emulation.clock import VirtualClock
from emulation.errors import ContainerStartError, ImageNotFound
from emulation.runtime.base import ContainerSpec, Exit, TaskSpec
from emulation.runtime.memory import MemoryContainer, MemoryRuntime, MemoryTask, Script
from tests.runtime.stage import Printed

MINUTE = timedelta(minutes=1)


async def start(runtime: MemoryRuntime, reference: str, task: MemoryTask | None = None) -> MemoryContainer:
    task = task or await runtime.create_task(TaskSpec("task", "host"))
    return await task.start_container(ContainerSpec("c", await runtime.pull(reference, "1")), Printed())


def test_delays_must_be_those_of_the_clock() -> None:
    """A container that starts after a minute and runs for an hour needs no real time."""

    async def story() -> None:
        clock = VirtualClock()
        runtime = MemoryRuntime(clock)
        runtime.scripts["job"] = Script(start_after=MINUTE, run_for=timedelta(hours=1), exit_with=3)
        begun = clock.now()
        starting = asyncio.create_task(start(runtime, "job"))
        await clock.advance(MINUTE)
        container = await starting
        assert clock.now() == begun + MINUTE
        waiting = asyncio.create_task(container.wait())
        await clock.advance(timedelta(minutes=59))
        assert not waiting.done()
        await clock.advance(MINUTE)
        assert waiting.done() and await waiting == Exit(3)

    asyncio.run(story())


def test_a_container_that_hangs_must_be_killed_when_the_clock_says_so() -> None:
    """Not earlier than stopTimeout."""

    async def story() -> None:
        clock = VirtualClock()
        runtime = MemoryRuntime(clock)
        runtime.scripts["hangs"] = Script(ignores_stop=True)
        container = await start(runtime, "hangs")
        stopping = asyncio.create_task(container.stop(timedelta(seconds=30)))
        await clock.advance(timedelta(seconds=29))
        assert not stopping.done()
        await clock.advance(timedelta(seconds=1))
        assert await stopping == Exit(137)

    asyncio.run(story())


def test_a_script_may_depend_on_the_container() -> None:
    """For example, only the second attempt of a job succeeds; and what fails to start says why."""

    async def story() -> None:
        runtime = MemoryRuntime(VirtualClock())
        runtime.scripts["app"] = lambda spec: (
            Script(fails_to_start="CannotStart", fails_with=127) if spec.command else Script()
        )
        await start(runtime, "app")
        task = await runtime.create_task(TaskSpec("task", "host"))
        spec = ContainerSpec("c", await runtime.pull("app", "1"), command=("x",))
        with pytest.raises(ContainerStartError, match="CannotStart") as error:
            await task.start_container(spec, Printed())
        assert error.value.exit_code == 127
        runtime.missing.add("gone")
        with pytest.raises(ImageNotFound):
            await runtime.pull("gone", "1")

    asyncio.run(story())
