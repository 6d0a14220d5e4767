"""The process runtime: its beginning and its end, on machines that can do more or less."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from emulation.clock import SystemClock, VirtualClock, monotonic, real_sleep
from emulation.errors import ContainerStartError, RuntimeUnavailable
from emulation.images.library import Library
from emulation.runtime.base import ContainerSpec, Exit, Line
from emulation.runtime.process import ProcessRuntime
from emulation.runtime.sandbox import task as task_module
from emulation.runtime.sandbox.forkserver import AgentFailed, ForkServer
from emulation.runtime.sandbox.probe import IDENTICAL, SHIFTED, SINGLE, Findings, explain, probe
from tests.runtime.stage import FakeNetwork, Printed, Stage, Theatre, children, inside

FOREVER = ("sleep", "1000")
EMULATOR = """
import asyncio, sys
from pathlib import Path
from emulation.clock import SystemClock
from emulation.images.library import Library
from tests.runtime.stage import FakeNetwork, Stage, make_runtime
async def main():
    runtime = make_runtime("process", Library(Path(sys.argv[1])), FakeNetwork(), Path(sys.argv[2]), SystemClock())
    await runtime.start()
    stage = Stage(runtime, FakeNetwork(), "app:1")
    for number in (5, 6):
        task = await stage.task(number)
        await stage.run(task, "sh", "-c", "trap '' TERM HUP INT; (setsid sleep 7654321 &) ; sleep 7654321", user="app")
        container = await stage.run(task, "sleep", "7654321", init=True)
        await container.execute(("sh", "-c", "sleep 7654321 & wait"), lambda line: asyncio.sleep(0))
    print("ready", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def with_sleepers() -> list[int]:
    """Processes, anywhere on the machine, that the emulator above started in containers."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if b"7654321" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_emulator_that_is_killed_must_leave_no_process_and_the_next_must_clean_up(
    library: Library, tmp_path: Path, how: signal.Signals
) -> None:
    """Whatever the programs do with signals, user ids and sessions: the kernel ends them with their agent."""
    command = [sys.executable, "-c", EMULATOR, str(library.root), str(tmp_path)]
    emulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert emulator.stdout is not None
    try:
        assert emulator.stdout.readline() == b"ready\n"
        assert len(with_sleepers()) >= 8
        if how == signal.SIGKILL:
            emulator.kill()
        else:  # as a terminal does it for Ctrl-C: to all of the session
            os.killpg(emulator.pid, how)
        emulator.wait()
        asyncio.run(_until_none_is_left())
    finally:
        emulator.kill()
        emulator.stdout.close()
    Theatre("process", library, tmp_path)(lambda stage: stage.task())


async def _until_none_is_left() -> None:
    async with asyncio.timeout(5):
        while with_sleepers():
            await real_sleep(0.01)


def test_a_folder_must_be_used_by_one_emulator_at_a_time(
    play_process: Theatre, library: Library, runtime_folder: Path
) -> None:
    """The second one is told so."""

    async def story(stage: Stage) -> None:
        second = ProcessRuntime(clock=SystemClock(), images=library, network=FakeNetwork(), folder=runtime_folder)
        with pytest.raises(RuntimeUnavailable, match="is used by another Sunabox"):
            await second.start()

    play_process(story)


def test_a_runtime_that_is_not_running_must_say_so(library: Library, tmp_path: Path) -> None:
    """Before its start and after its end."""

    async def story() -> None:
        runtime = ProcessRuntime(clock=SystemClock(), images=library, network=FakeNetwork(), folder=tmp_path)
        with pytest.raises(RuntimeUnavailable, match="not running"):
            await runtime.pull("app:1", "1")
        await runtime.close()

    asyncio.run(story())


def test_fifty_tasks_at_once_must_run_within_ten_seconds(play_process: Theatre) -> None:
    """And one alone, with its image unpacked, within 150 ms in the median."""

    async def story(stage: Stage) -> None:
        image = await stage.image()
        alone = []
        for number in range(7):
            begun = monotonic()
            task = await stage.task(number)
            await stage.run(task, *FOREVER, image=image)
            alone.append(monotonic() - begun)
            await task.close()
        assert sorted(alone)[3] < 0.15

        async def one(number: int) -> None:
            await stage.run(await stage.task(number), *FOREVER, image=image)

        begun = monotonic()
        await asyncio.gather(*(one(number) for number in range(10, 60)))
        assert monotonic() - begun < 10

    play_process(story)


def test_a_stop_must_follow_the_clock_but_let_programs_react(library: Library, runtime_folder: Path) -> None:
    """stopTimeout passes on the emulator's clock; a jump of it does not cut off a program that is about to end."""
    clock = VirtualClock()

    async def story(stage: Stage) -> None:
        task, printed = await stage.task(), Printed()
        deaf = await stage.run(task, *FOREVER)
        stopping = asyncio.create_task(deaf.stop(timedelta(seconds=30)))
        await clock.advance(timedelta(seconds=29))
        assert not stopping.done()
        await clock.advance(timedelta(seconds=1))
        assert await stopping == Exit(137)
        handler = "trap 'sleep 0.1; exit 7' TERM; echo up; while true; do sleep 0.01; done"
        obedient = await stage.run(task, "sh", "-c", handler, output=printed)
        await printed.until("up")
        stopping = asyncio.create_task(obedient.stop(timedelta(seconds=30)))
        await clock.advance(timedelta(days=1))
        assert await stopping == Exit(7)

    Theatre("process", library, runtime_folder, clock)(story)


def test_a_runtime_that_closes_while_tasks_start_must_leave_nothing(library: Library, tmp_path: Path) -> None:
    """Whoever asked is told, or gets a task that is closed already."""

    async def story() -> None:
        network = FakeNetwork()
        runtime = ProcessRuntime(clock=SystemClock(), images=library, network=network, folder=tmp_path)
        await runtime.start()
        stage = Stage(runtime, network, "app:1")
        image = await stage.image()
        running = await stage.task(99)

        async def one(number: int) -> None:
            await stage.run(await stage.task(number), *FOREVER, image=image)

        starting = [asyncio.ensure_future(one(number)) for number in range(5)]
        starting += [asyncio.ensure_future(stage.run(running, *FOREVER, image=image)) for _ in range(5)]
        for _ in range(40):
            await real_sleep(0)
        await runtime.close()
        await asyncio.wait(starting)
        for job in starting:
            assert isinstance(job.exception(), ContainerStartError | RuntimeUnavailable | None)
        assert os.listdir(tmp_path / "tasks") == []
        assert network.plumbing == {}

    known = children()
    asyncio.run(story())
    assert children() == known


def test_a_task_whose_agent_is_killed_must_report_its_containers_as_killed(play_process: Theatre) -> None:
    """By the machine's own want of memory, for example; nobody waits for ever."""

    async def story(stage: Stage) -> None:
        known = children()
        task = await stage.task()
        container = await stage.run(task, *FOREVER)
        agent = min(children() - known)
        os.kill(agent, signal.SIGKILL)
        async with asyncio.timeout(5):
            assert await container.wait() == Exit(137)
        with pytest.raises(ContainerStartError):
            await stage.run(task, *FOREVER)
        with pytest.raises(ContainerStartError, match="not running"):
            await inside(container, "true")

    play_process(story)


def test_output_that_nobody_takes_must_not_keep_a_task_from_closing(
    play_process: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given a while, and then up."""
    monkeypatch.setattr(task_module, "_LAST_OUTPUT_SECONDS", 0.1)

    async def story(stage: Stage) -> None:
        async def never(line: Line) -> None:
            await asyncio.get_running_loop().create_future()

        task = await stage.task()
        spec = ContainerSpec("loud", await stage.image(), command=("sh", "-c", "echo x; sleep 1000"))
        container = await task.start_container(spec, never)
        async with asyncio.timeout(5):
            await task.close()
            assert await container.wait() == Exit(137)

    play_process(story)


def test_processors_must_be_limited_where_the_kernel_does_it(play_process: Theatre) -> None:
    """A tenth of a processor gets about a tenth of the time, measured inside."""
    if os.geteuid() != 0 or not Path("/sys/fs/cgroup/cpu").exists():
        pytest.skip("no CPU control group may be made here")
    busy = "import time; begin = time.time()\nwhile time.time() < begin + 2: pass\nprint(time.process_time() / 2 < 0.3)"

    async def story(stage: Stage) -> None:
        for task, limits in ((await stage.task(5), {"cpus": 0.1}), (await stage.task(6, cpus=0.1), {})):
            printed = Printed()
            container = await stage.run(task, "python3", "-I", "-S", "-c", busy, output=printed, **limits)
            await container.wait()
            assert printed.text() == ["True"]

    play_process(story)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root only")
def test_a_full_disk_must_fail_the_container_and_leave_nothing(library: Library, tmp_path: Path) -> None:
    """The reason is the container's; the task can be closed."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "none", str(folder)], check=False).returncode:
        pytest.skip("no file system may be mounted here")

    async def story(stage: Stage) -> None:
        task, image = await stage.task(), await stage.image()
        with (folder / "filler").open("wb") as filler, suppress(OSError):
            while True:
                filler.write(b"x" * (1 << 20))
                filler.flush()
        with pytest.raises(ContainerStartError, match="No space left on device"):
            await stage.run(task, *FOREVER, image=image)
        os.unlink(folder / "filler")
        await stage.run(task, *FOREVER, image=image)

    try:
        Theatre("process", library, folder)(story)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root's images belong to ids that nobody has")
def test_other_users_must_not_reach_the_files_of_images(library: Library, tmp_path: Path) -> None:
    """A program in an image that runs as its owner would run as the user."""

    async def story() -> None:
        runtime, _ = lesser(library, tmp_path / "runtime")
        await runtime.start()
        await runtime.close()
        assert (tmp_path / "runtime").stat().st_mode & 0o077 == 0

    asyncio.run(story())


def lesser(library: Library, folder: Path, **changes: object) -> tuple[ProcessRuntime, FakeNetwork]:
    """A runtime on a machine that is found to lack something."""

    async def find(forkserver: ForkServer, path: Path) -> Findings:
        return replace(await probe(forkserver, path), **changes)  # type: ignore[arg-type]

    network = FakeNetwork()
    return ProcessRuntime(clock=SystemClock(), images=library, network=network, folder=folder, probe=find), network


def test_without_overlays_containers_must_run_on_copies(library: Library, tmp_path: Path) -> None:
    """Slower, with the same files, owners and modes."""

    async def story() -> None:
        runtime, network = lesser(library, tmp_path, overlay="no such device")
        await runtime.start()
        try:
            stage = Stage(runtime, network, "app:1")
            task = await stage.task()
            text = "stat -c '%u %g %a' / /tmp /etc/passwd; python3 -c 'print(1)'; rm /etc/os-release; readlink /bin"
            expected = (0, ["0 0 755", "0 0 1777", "0 0 644", "1", "usr/bin"])
            assert await stage.shell(task, text) == expected
            assert await stage.shell(task, text) == expected
        finally:
            await runtime.close()
        assert os.listdir(tmp_path / "tasks") == []

    asyncio.run(story())


def test_without_control_groups_memory_must_be_watched(library: Library, tmp_path: Path) -> None:
    """A breach ends the container with 137, flagged as ECS expects; who keeps to the limit lives."""

    async def story() -> None:
        runtime, network = lesser(library, tmp_path, hierarchy=None)
        await runtime.start()
        try:
            stage = Stage(runtime, network, "app:1")
            task = await stage.task()
            hog = "import time\nx = bytearray(SIZE << 20); print('up', flush=True); time.sleep(100)"
            printed = Printed()
            command = ("python3", "-I", "-S", "-c")
            small = await stage.run(task, *command, hog.replace("SIZE", "20"), memory_mib=64, output=printed)
            await printed.until("up")
            big = await stage.run(task, *command, hog.replace("SIZE", "100"), memory_mib=64)
            async with asyncio.timeout(10):
                assert await big.wait() == Exit(137, oom_killed=True)
            assert await inside(small, "true") == (0, [])
        finally:
            await runtime.close()

    asyncio.run(story())


def test_without_network_namespaces_ports_must_be_allotted(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The program finds its port in PORT, the network reaches it as the declared one, the log says the cost."""

    async def story() -> None:
        runtime, network = lesser(library, tmp_path, network="veth: Operation not permitted")
        with caplog.at_level(logging.WARNING):
            await runtime.start()
        assert "Tasks share this machine's network" in caplog.text
        assert "PORT" in caplog.text
        try:
            stage = Stage(runtime, network, "app:1")
            task, printed = await stage.task(), Printed()
            server = (
                "import os, socket; s = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
                "print('up', flush=True)\n"
                "while True: c, _ = s.accept(); c.sendall(b'hello'); c.close()"
            )
            await stage.run(task, "python3", "-I", "-S", "-c", server, output=printed)
            await printed.until("up")
            with await network.plumbing["eni-5"].dial(7777, IPv4Address("10.0.0.20")) as sock:
                assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"hello"
        finally:
            await runtime.close()

    asyncio.run(story())


def test_with_one_id_only_every_user_of_an_image_must_run(library: Library, tmp_path: Path) -> None:
    """An ordinary user's containers: whoever the image asks for is that one id, which looks like it."""
    if os.geteuid() == 0:
        tmp_path.chmod(0o755)

    async def story() -> None:
        runtime, network = lesser(library, tmp_path, ids=SINGLE)
        await runtime.start()
        try:
            stage = Stage(runtime, network, "app:1")
            task = await stage.task()
            text = 'echo "$(id -u) $(id -g)" > /dev/stdout; stat -c "%u" /app; touch /app/mine; echo $HOME'
            text += "; chown nobody:nogroup /app/mine && chown -R 123 /tmp"
            assert await stage.shell(task, text) == (0, ["0 0", "0", "/root"])
            assert await stage.shell(task, text, user="app") == (0, ["1000 1000", "1000", "/app"])
            container = await stage.run(task, *FOREVER, user="app")
            assert await inside(container, "id", "-u") == (0, ["1000"])
            assert await inside(container, "id", "-u", user="root") == (0, ["0"])
        finally:
            await runtime.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("sysctls", "advice"),
    [
        ({"user/max_user_namespaces": "0"}, "sudo sysctl user.max_user_namespaces=15000"),
        ({"kernel/unprivileged_userns_clone": "0"}, "sudo sysctl kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({}, "--security-opt seccomp=unconfined"),
    ],
)
def test_a_machine_without_namespaces_must_be_told_what_to_do(
    library: Library, tmp_path: Path, sysctls: dict[str, str], advice: str
) -> None:
    """The start fails with the missing thing, the kernel's reason and the remedy; nothing is left running."""

    async def story() -> None:
        async def find(forkserver: ForkServer, folder: Path) -> Findings:
            return Findings(namespaces="user namespace: Operation not permitted")

        runtime = ProcessRuntime(
            clock=SystemClock(),
            images=library,
            network=FakeNetwork(),
            folder=tmp_path,
            probe=find,
            sysctl=lambda name: sysctls.get(name, ""),
        )
        with pytest.raises(RuntimeUnavailable) as error:
            await runtime.start()
        assert "user namespace: Operation not permitted" in str(error.value)
        assert advice in str(error.value)

    asyncio.run(story())


def test_what_works_must_not_be_warned_of() -> None:
    """And each thing that does not has a warning of its own."""
    hierarchy = object()
    whole = Findings(ids=SHIFTED, hierarchy=hierarchy)  # type: ignore[arg-type]
    assert explain(whole, lambda _: "") == explain(whole)
    assert explain(whole).warnings == ()
    for change in ({"ids": IDENTICAL}, {"network": "veth: no"}, {"overlay": "no"}, {"hierarchy": None}):
        assert len(explain(replace(whole, **change)).warnings) == 1  # type: ignore[arg-type]


def test_a_kernel_that_refuses_user_namespaces_must_be_found_out(tmp_path: Path) -> None:
    """Really refused, by a limit of a namespace of its own."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "from emulation.runtime.process import ProcessRuntime\nfrom emulation.clock import SystemClock\n"
        "from emulation.errors import ContainerStartError, RuntimeUnavailable\n"
        "runtime = ProcessRuntime(clock=SystemClock(), images=None, network=None, folder=Path(sys.argv[1]))\n"
        "try: asyncio.run(runtime.start())\n"
        "except RuntimeUnavailable as error: print(error)\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "user namespace: unshare: No space left on device" in said.stdout, said
    assert "sudo sysctl user.max_user_namespaces=15000" in said.stdout


def test_a_kernel_that_refuses_network_namespaces_must_be_worked_around(library: Library, tmp_path: Path) -> None:
    """Really refused, by a limit of a namespace of its own: the task runs on the network that is there."""
    program = (
        "import asyncio, logging, sys; from pathlib import Path\n"
        "Path('/proc/sys/user/max_net_namespaces').write_text('0')\n"
        "from emulation.images.library import Library\nfrom tests.runtime.stage import Theatre\n"
        "logging.basicConfig(stream=sys.stdout)\n"
        "async def story(stage):\n"
        "    print(await stage.shell(await stage.task(), 'test $PORT != 7777 && echo $PORT_7777 | grep -c $PORT'))\n"
        "Theatre('process', Library(Path(sys.argv[1])), Path(sys.argv[2]))(story)\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program, str(library.root), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "network namespace: unshare: No space left on device; sysctl user.max_net_namespaces is 0" in said.stdout, (
        said
    )
    assert "(0, ['1'])" in said.stdout, said


def test_a_step_that_fails_must_be_named(tmp_path: Path) -> None:
    """An address that is none stops the agent at its veth; the agent is gone then."""

    async def story() -> None:
        forkserver = ForkServer(tmp_path)
        try:
            with pytest.raises(AgentFailed) as error:
                await forkserver.spawn({"eni": "nonsense", "gateway": "10.0.0.1", "mtu": 1500}, SINGLE)
            assert error.value.step == "veth"
        finally:
            await forkserver.close()

    asyncio.run(story())
