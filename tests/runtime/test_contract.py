"""What every runtime promises (emulation/runtime/base.py), on each of them."""

import asyncio
from datetime import timedelta

import pytest

from emulation.clock import monotonic
from emulation.errors import ContainerStartError
from emulation.runtime.base import Exit, ImageConfig, Line, PulledImage, Stream
from emulation.runtime.memory import Script
from tests.runtime.stage import Printed, Stage, Theatre, inside

FOREVER = ("sleep", "1000")
SOON = timedelta(milliseconds=20)


def test_a_container_that_ends_must_report_its_exit_code(play: Theatre) -> None:
    """The code is the program's; it may be asked for by many and again."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        container = await stage.run(task, "sh", "-c", "exit 3", script=Script(run_for=SOON, exit_with=3))
        assert await asyncio.gather(container.wait(), container.wait()) == [Exit(3), Exit(3)]
        assert await container.wait() == Exit(3)
        assert await container.stop(timedelta(seconds=5)) == Exit(3)

    play(story)


def test_a_container_that_is_killed_must_exit_with_137(play: Theatre) -> None:
    """128 + the number of the signal, as on Docker."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER)
        await container.signal(9)
        assert await container.wait() == Exit(137)

    play(story)


def test_a_program_that_reacts_to_sigterm_must_end_before_the_timeout(play: Theatre) -> None:
    """Its own exit code counts."""

    async def story(stage: Stage) -> None:
        printed = Printed()
        program = "trap 'exit 143' TERM; echo up; while true; do sleep 0.01; done"
        script = Script(prints=("up",), stopped_with=143)
        container = await stage.run(await stage.task(), "sh", "-c", program, script=script, output=printed)
        await printed.until("up")
        assert await container.stop(timedelta(seconds=30)) == Exit(143)

    play(story)


def test_a_program_that_ignores_sigterm_must_be_killed_after_the_timeout(play: Theatre) -> None:
    """Process 1 without a handler ignores SIGTERM, as on Docker; stopTimeout then ends it with 137."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER, script=Script(ignores_stop=True))
        begun = monotonic()
        assert await container.stop(timedelta(seconds=0.7)) == Exit(137)
        assert 0.7 <= monotonic() - begun < 3

    play(story)


def test_lines_must_arrive_in_order_on_their_streams(play: Theatre) -> None:
    """All are delivered when wait() returns, also a last line without an end."""

    async def story(stage: Stage) -> None:
        printed = Printed()
        script = Script(run_for=SOON, prints=("one", Line(Stream.STDERR, b"bad"), "two", "three"))
        program = "echo one; echo bad >&2; echo two; printf three"
        container = await stage.run(await stage.task(), "sh", "-c", program, script=script, output=printed)
        await container.wait()
        assert printed.text() == ["one", "two", "three"]
        assert printed.text(Stream.STDERR) == ["bad"]

    play(story)


def test_a_line_must_arrive_while_the_program_runs(play: Theatre) -> None:
    """Nothing is held back until the exit."""

    async def story(stage: Stage) -> None:
        printed = Printed()
        script = Script(prints=("ready",))
        container = await stage.run(
            await stage.task(), "sh", "-c", "echo ready; sleep 1000", script=script, output=printed
        )
        await printed.until("ready")
        await container.signal(9)
        await container.wait()

    play(story)


def test_a_container_that_exceeds_its_memory_must_be_flagged(play: Theatre) -> None:
    """ECS shows it as OutOfMemoryError, with exit code 137."""

    async def story(stage: Stage) -> None:
        hog = "data = []\nwhile True: data.append(bytearray(1 << 20))"
        container = await stage.run(
            await stage.task(), "python3", "-I", "-S", "-c", hog, memory_mib=64, script=Script(out_of_memory=True)
        )
        async with asyncio.timeout(20):
            assert await container.wait() == Exit(137, oom_killed=True)

    play(story)


def test_a_command_must_run_inside_a_running_container(play: Theatre) -> None:
    """With its own output and exit code; the container goes on."""

    async def story(stage: Stage) -> None:
        command = ("sh", "-c", "echo hello; exit 4")
        script = Script(commands={command: Script(prints=("hello",), exit_with=4)})
        container = await stage.run(await stage.task(), *FOREVER, script=script)
        assert await inside(container, *command) == (4, ["hello"])
        assert (await inside(container, "true"))[0] == 0
        await container.signal(9)
        await container.wait()
        with pytest.raises(ContainerStartError, match="is not running"):
            await inside(container, "true")

    play(story)


def test_a_command_must_end_when_it_is_killed_or_its_container_exits(play: Theatre) -> None:
    """Neither leaves anybody waiting."""

    async def story(stage: Stage) -> None:
        command = ("sleep", "999")
        script = Script(commands={command: Script(run_for=timedelta(hours=1))})
        container = await stage.run(await stage.task(), *FOREVER, script=script)
        killed = await container.execute(command, Printed())
        left = await container.execute(command, Printed())
        await killed.kill()
        assert await killed.wait() == 137
        await container.signal(9)
        await container.wait()
        assert await left.wait() == 137

    play(story)


def test_a_program_that_does_not_exist_must_fail_in_the_words_of_ecs(play: Theatre) -> None:
    """With Docker's exit code 127, and the task goes on."""
    words = (
        "CannotStartContainerError: Error response from daemon: failed to create task for container: failed to create "
        "shim task: OCI runtime create failed: runc create failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH: unknown'
    )

    async def story(stage: Stage) -> None:
        task = await stage.task()
        with pytest.raises(ContainerStartError) as error:
            await stage.run(task, "nosuch", script=Script(fails_to_start=words, fails_with=127))
        assert str(error.value) == words
        assert error.value.exit_code == 127
        container = await stage.run(task, "true", script=Script(run_for=SOON))
        assert await container.wait() == Exit(0)

    play(story)


def test_closing_a_task_must_end_its_containers(play: Theatre) -> None:
    """Whoever waits for one is told; closing twice is harmless; nothing can be started afterwards."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        container = await stage.run(task, *FOREVER)
        waiting = asyncio.create_task(container.wait())
        await asyncio.gather(task.close(), task.close())
        assert await waiting == Exit(137)
        await task.close()
        with pytest.raises(ContainerStartError):
            await stage.run(task, *FOREVER)

    play(story)


def test_a_container_must_keep_its_specification_and_have_a_name_of_its_own(play: Theatre) -> None:
    """runtimeId in DescribeTasks differs for each container."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        one, other = [await stage.run(task, *FOREVER, name=name) for name in ("one", "other")]
        assert (one.spec.name, other.spec.name, task.spec.task_id) == ("one", "other", "task5")
        assert one.runtime_id != other.runtime_id

    play(story)


def test_the_reference_and_digest_of_a_pulled_image_must_be_known(play: Theatre) -> None:
    """DescribeTasks shows imageDigest."""

    async def story(stage: Stage) -> None:
        image = await stage.image()
        assert isinstance(image, PulledImage) and isinstance(image.config, ImageConfig)
        assert image.digest.startswith("sha256:") and len(image.digest) == 71

    play(story)
