"""The docker runtime: what its containers have in common with the process runtime's, by the same stories."""

import asyncio
from datetime import timedelta

import pytest

from emulation.clock import real_sleep
from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec, Exit, Line, Ulimit
from tests.runtime import test_process_plumbing, test_process_programs
from tests.runtime.stage import Printed, Stage, Theatre, inside

pytestmark = pytest.mark.docker

OF_THE_DAEMON = {
    "test_a_working_directory_must_be_made_where_it_is_missing": "the words for a file in its place",
    "test_a_program_that_cannot_be_executed_must_be_named_with_the_reason": "the words for a folder, and for exec",
    "test_a_program_of_an_unknown_format_must_exit_with_255_and_say_so": "old versions of runc exit with 1",
    "test_limits_must_be_those_that_were_asked_for": "the words; how many files may be open by default",
    "test_an_init_process_must_pass_signals_on_and_reap": "which numbers the processes of a container get",
    "test_a_program_must_inherit_nothing_but_its_standard_descriptors": "which numbers the processes get",
    "test_a_program_that_prints_without_end_must_wait_for_its_reader": "it holds a megabyte before the program waits",
}
"""Stories of the process runtime in which a daemon's version shows, and what of it. Below are the same without that."""

for _module in (test_process_programs, test_process_plumbing):
    globals().update(
        {name: test for name, test in vars(_module).items() if name.startswith("test_") and name not in OF_THE_DAEMON}
    )


@pytest.fixture
def play_process(play_docker: Theatre) -> Theatre:
    return play_docker


def test_a_working_directory_that_is_missing_must_be_made(play_docker: Theatre) -> None:
    """By default it is the image's."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        assert await stage.shell(task, "pwd") == (0, ["/app"])
        assert await stage.shell(task, "pwd; touch x", working_directory="/srv/new/one") == (0, ["/srv/new/one"])

    play_docker(story)


def test_a_program_that_cannot_be_found_must_be_named(play_docker: Theatre) -> None:
    """When the container starts and in a running one, with Docker's exit codes."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        for program, code in (("/nosuch", 127), ("/etc/passwd", 126)):
            with pytest.raises(
                ContainerStartError, match=f'unable to start container process: exec: "{program}"'
            ) as error:
                await stage.run(task, program)
            assert error.value.exit_code == code
        container = await stage.run(task, "sleep", "1000")
        with pytest.raises(ContainerStartError, match="OCI runtime exec failed.*nosuch") as error:
            await inside(container, "nosuch")
        assert error.value.exit_code in (126, 127)

    play_docker(story)


def test_ulimits_must_be_those_that_were_asked_for(play_docker: Theatre) -> None:
    """One that does not exist is refused."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        limits = (Ulimit("nofile", 100, 200), Ulimit("core", 0, 0))
        assert await stage.shell(task, "ulimit -Sn; ulimit -Hn; ulimit -c", ulimits=limits) == (0, ["100", "200", "0"])
        with pytest.raises(ContainerStartError, match="(?i)nosuch"):
            await stage.shell(task, "true", ulimits=(Ulimit("nosuch", 1, 1),))

    play_docker(story)


def test_with_an_init_process_a_program_without_a_handler_must_end_at_sigterm(play_docker: Theatre) -> None:
    """As process 1 it would ignore the signal."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), "sleep", "1000", init=True)
        await real_sleep(0.2)  # tini sets its handlers
        assert await container.stop(timedelta(seconds=20)) == Exit(143)

    play_docker(story)


def test_a_program_must_wait_for_a_reader_that_is_slow(play_docker: Theatre) -> None:
    """It stops once the daemon's buffer is full. A task whose output nobody takes can be closed all the same."""

    async def story(stage: Stage) -> None:
        never = asyncio.Event()

        async def output(_: Line) -> None:
            await never.wait()

        task = await stage.task()
        loud = "while True: print('x' * 4095, flush=True)"
        command = ("python3", "-I", "-S", "-c", loud)
        container = await task.start_container(ContainerSpec("loud", await stage.image(), command=command), output)
        await real_sleep(1)  # the daemon's buffer fills
        _, before = await inside(container, "sh", "-c", "sleep 0.3; cut -d' ' -f14,15 /proc/1/stat")
        _, after = await inside(container, "sh", "-c", "sleep 0.3; cut -d' ' -f14,15 /proc/1/stat")
        assert before == after  # it uses no processor time while nobody reads

    play_docker(story)


def test_the_hosts_name_and_network_must_be_a_tasks_that_has_no_interface(play_docker: Theatre) -> None:
    """Its own names stay its own."""

    async def story(stage: Stage) -> None:
        printed = Printed()
        task = await stage.task(interface=None)
        container = await stage.run(task, "sh", "-c", "uname -n; ls /sys/class/net", output=printed)
        await container.wait()
        assert printed.text()[0] == "ip-10-0-1-5"
        assert "docker0" in printed.text() or "eth0" in printed.text()

    play_docker(story)
