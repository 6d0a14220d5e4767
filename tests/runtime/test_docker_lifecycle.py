"""The docker runtime: what it leaves behind, what it clears away, and what a daemon that goes does to it."""

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest

from emulation.clock import SystemClock, VirtualClock, monotonic, real_sleep
from emulation.errors import ContainerStartError, ImageError, ImageNotFound, RuntimeUnavailable
from emulation.images.library import Library
from emulation.images.manifest import host_platform
from emulation.runtime.base import Exit, Mount
from emulation.runtime.choice import start_runtime
from emulation.runtime.docker import DockerRuntime
from emulation.runtime.dockerd import address, limits, pause
from emulation.runtime.dockerd.ownership import Owner, ended
from tests.runtime.stage import ACCOUNT, FakeNetwork, Printed, Stage, Theatre, inside

FOREVER = ("sleep", "1000")
EMULATOR = """
import asyncio, sys
from pathlib import Path
from emulation.clock import SystemClock
from emulation.images.library import Library
from emulation.runtime.base import Mount
from tests.runtime.stage import FakeNetwork, Stage, make_runtime
async def main():
    runtime = make_runtime("docker", Library(Path(sys.argv[1])), FakeNetwork(), Path(sys.argv[2]), SystemClock())
    await runtime.start()
    stage = Stage(runtime, FakeNetwork(), "app:1")
    task = await stage.task(5, memory_mib=256, cpus=0.5)
    await stage.run(task, "sleep", "1000", mounts=(Mount("/data", None, "data"),))
    print("ready", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def docker(url: str, *arguments: str, data: bytes | None = None) -> str:
    environment = {**os.environ, "DOCKER_HOST": url}
    done = subprocess.run(["docker", *arguments], env=environment, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def made(url: str, *pids: int) -> dict[str, list[str]]:
    """All that these processes have in the daemon, by Sunabox's names; this one where none is given."""
    found: dict[str, list[str]] = {"containers": [], "volumes": [], "images": [], "groups": []}
    for pid in pids or (os.getpid(),):
        labelled = f"label=sunabox.pid={pid}"
        found["containers"] += docker(url, "ps", "--all", "--quiet", "--filter", labelled).split()
        found["volumes"] += docker(url, "volume", "ls", "--quiet", "--filter", labelled).split()
        found["images"] += docker(
            url, "images", "--format", "{{.Repository}}:{{.Tag}}", f"sunabox-run/*-{pid}-*"
        ).split()
        found["groups"] += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/sunabox-docker-*-{pid}-*")]
    return found


NOTHING: dict[str, list[str]] = {"containers": [], "volumes": [], "images": [], "groups": []}


@pytest.mark.docker
def test_only_what_a_killed_emulator_left_must_be_removed_by_the_next_start(
    docker_url: str, library: Library, tmp_path: Path
) -> None:
    """Containers, volumes, images and control groups; a live emulator's and other people's stay untouched."""
    stranger = docker(docker_url, "volume", "create", "--label", "somebody=else")
    emulators = []
    try:
        for name in ("killed", "alive"):
            command = [sys.executable, "-c", EMULATOR, str(library.root), str(tmp_path / name)]
            emulator = subprocess.Popen(command, stdout=subprocess.PIPE)
            emulators.append(emulator)
            assert emulator.stdout is not None
            assert emulator.stdout.readline() == b"ready\n"
        pids = [emulator.pid for emulator in emulators]
        before = made(docker_url, *pids)
        assert (len(before["containers"]), len(before["volumes"])) == (4, 2)
        emulators[0].kill()
        emulators[0].wait()
        Theatre("docker", library, tmp_path / "next")(lambda stage: stage.task())
        after = made(docker_url, *pids)
        assert (len(after["containers"]), len(after["volumes"])) == (2, 1)
        assert set(after["containers"]) < set(before["containers"])
        assert len(after["groups"]) * 2 == len(before["groups"])
        assert (len(before["images"]), len(after["images"])) == (4, 2)
        emulators[1].kill()
        emulators[1].wait()
        Theatre("docker", library, tmp_path / "next")(lambda stage: stage.task())
        assert made(docker_url, *pids) == NOTHING
        assert stranger in docker(docker_url, "volume", "ls", "--quiet")
    finally:
        for emulator in emulators:
            emulator.kill()
            emulator.wait()
            assert emulator.stdout is not None
            emulator.stdout.close()
        docker(docker_url, "volume", "rm", stranger)


@pytest.mark.docker
def test_a_task_must_leave_nothing_in_the_daemon(play_docker: Theatre, docker_url: str) -> None:
    """Also where it is closed while a container starts in it."""

    async def story(stage: Stage) -> None:
        task = await stage.task(memory_mib=256, cpus=0.5)
        await stage.run(task, *FOREVER, mounts=(Mount("/data", None, "data"),))
        starting = asyncio.create_task(stage.run(task, *FOREVER))
        await real_sleep(0.05)
        await task.close()
        with pytest.raises(ContainerStartError):
            await starting
        assert {**made(docker_url), "images": []} == NOTHING

    play_docker(story)
    assert made(docker_url) == NOTHING


@pytest.mark.docker
def test_two_tasks_may_have_the_same_address(play_docker: Theatre) -> None:
    """In two accounts, whose VPCs have the same range: each task's address is its own network's only."""

    async def story(stage: Stage) -> None:
        for number in (1, 2):
            task = await stage.task(5)
            stage.network.plumbing.clear()
            container = await stage.run(task, *FOREVER)
            code, lines = await inside(container, "cat", "/proc/net/fib_trie")
            assert code == 0 and any("10.0.1.5" in line for line in lines), number

    play_docker(story)


@pytest.mark.docker
def test_a_stop_must_follow_the_clock(docker_url: str, library: Library, docker_folder: Path) -> None:
    """stopTimeout passes on the emulator's clock, not on the daemon's."""
    clock = VirtualClock()

    async def story(stage: Stage) -> None:
        deaf = await stage.run(await stage.task(), *FOREVER)
        stopping = asyncio.create_task(deaf.stop(timedelta(seconds=30)))
        await clock.advance(timedelta(seconds=29))
        assert not stopping.done()
        await clock.advance(timedelta(seconds=1))
        assert await stopping == Exit(137)

    Theatre("docker", library, docker_folder, clock)(story)


# Images


def archive(architecture: str, name: str) -> bytes:
    """An image with nothing in it."""
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": []}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.docker
def test_an_image_that_the_daemon_has_must_run_and_one_for_another_machine_be_refused(
    play_docker: Theatre, docker_url: str
) -> None:
    """What neither the emulator nor the daemon has is said to be missing. The daemon's own image stays."""
    here = host_platform().architecture
    other = "arm64" if here == "amd64" else "amd64"
    for architecture in (here, other):
        docker(docker_url, "load", data=archive(architecture, f"sunabox-test-{architecture}:1"))

    async def story(stage: Stage) -> None:
        image = await stage.runtime.pull(f"sunabox-test-{here}:1", ACCOUNT)
        assert image.config.command == ("/x",) and image.digest.startswith("sha256:")
        with pytest.raises(ContainerStartError, match='exec: "/x"'):
            await stage.run(await stage.task(), image=image)
        words = f"image Manifest does not contain descriptor matching platform 'linux/{here}'"
        with pytest.raises(ImageError, match=words):
            await stage.runtime.pull(f"sunabox-test-{other}:1", ACCOUNT)
        with pytest.raises(ImageNotFound, match="nosuch:1"):
            await stage.runtime.pull("nosuch:1", ACCOUNT)
        registry = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/sunabox-test-{here}:1"
        with pytest.raises(ImageNotFound):
            await stage.runtime.pull(registry, ACCOUNT)

    try:
        play_docker(story)
    finally:
        docker(docker_url, "rmi", f"sunabox-test-{here}:1", f"sunabox-test-{other}:1")


# A daemon that goes


class Door:
    """A socket in front of the daemon's, which can be shut and opened: with that the daemon is gone, and comes back."""

    def __init__(self, url: str, folder: Path) -> None:
        self._daemon, self.path = address.socket_path(url), folder / "docker.sock"
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._pass, self.path)

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for passing in self._passing:
            passing.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._daemon)
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._passing.discard(task)
            for one in (back, writer):
                one.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.mark.docker
def test_a_daemon_that_goes_and_comes_back_must_be_outlived(docker_url: str, library: Library, tmp_path: Path) -> None:
    """Containers that ended meanwhile are noticed, those that live print on, and what cannot be done says why."""

    async def story() -> None:
        door, network = Door(docker_url, tmp_path), FakeNetwork()
        await door.open()
        url = f"unix://{door.path}"
        runtime = DockerRuntime(
            clock=SystemClock(), images=library, network=network, folder=tmp_path / "runtime", url=url
        )
        await runtime.start()
        try:
            stage = Stage(runtime, network, "app:1")
            task, image = await stage.task(), await stage.image()
            printed = Printed()
            ticking = "echo up; while true; do sleep 0.1; echo tick; done"
            living = await stage.run(task, "sh", "-c", ticking, output=printed, image=image)
            dying = await stage.run(task, *FOREVER, image=image)
            await printed.until("up")
            waiting = asyncio.create_task(dying.wait())
            await door.shut()
            gone = "Cannot connect to the Docker daemon"
            with pytest.raises(ContainerStartError, match=f"CannotStartContainerError: {gone}"):
                await stage.run(task, *FOREVER, image=image)
            with pytest.raises(ContainerStartError, match=gone):
                await inside(living, "true")
            with pytest.raises(RuntimeUnavailable, match=gone):
                await stage.task(6)
            with pytest.raises(ImageError, match=gone):
                await runtime.pull("app:1", ACCOUNT)
            await dying.signal(9)
            await real_sleep(0.3)
            assert not waiting.done()
            printed.lines.clear()
            await door.open()
            async with asyncio.timeout(20):
                assert await waiting == Exit(137)
                await printed.until("tick")
                assert await inside(living, "true") == (0, [])
                await task.close()
                again = await stage.run(await stage.task(7), *FOREVER)
                assert await inside(again, "true") == (0, [])
        finally:
            await runtime.close()
            await door.shut()
        assert made(docker_url) == NOTHING

    asyncio.run(story())


# Without any daemon


def test_a_daemon_elsewhere_must_be_refused_with_what_to_do() -> None:
    """So must another system, and an ordinary user."""
    for url in ("tcp://10.0.0.1:2375", "ssh://somebody@somewhere", "npipe:////./pipe/docker_engine"):
        assert "needs a daemon on this machine" in address.obstacle(url, "linux", 0)
    assert "Run Sunabox as root" in address.obstacle(address.DEFAULT, "linux", 1000)
    assert "needs Linux" in address.obstacle(address.DEFAULT, "darwin", 0)
    assert address.obstacle(address.DEFAULT, "linux", 0) == ""
    assert address.daemon_url({"DOCKER_HOST": "unix:///x"}) == "unix:///x"
    assert address.daemon_url({}) == "unix:///var/run/docker.sock"


def test_without_a_daemon_auto_must_mean_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And docker is refused in words."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    begun = monotonic()
    assert not address.usable()
    assert monotonic() - begun < 0.1

    async def story(name: str) -> str:
        library, network = Library(tmp_path / "images"), FakeNetwork()
        runtime = await start_runtime(
            name, clock=SystemClock(), images=library, network=network, folder=tmp_path / "runtime"
        )
        await runtime.close()
        return runtime.name

    assert asyncio.run(story("auto")) == "process"
    assert asyncio.run(story("memory")) == "memory"
    with pytest.raises(RuntimeUnavailable, match="docker"):
        asyncio.run(story("docker"))


def test_an_owner_must_be_known_to_live_or_to_have_ended(tmp_path: Path) -> None:
    """Of another PID namespace nobody can tell, so nothing of it is taken away; of the own folder it is sure."""
    owner, other = Owner(tmp_path), Owner(tmp_path / "other")
    namespace, pid, started, number = owner.run.split("-")
    assert not ended(owner.run)
    assert ended(f"{namespace}-{pid}-{int(started) + 1}-{number}")
    assert not ended(f"1-{pid}-{int(started) + 1}-{number}")
    assert not ended("nonsense")
    assert not owner.inherits(owner.labels)
    assert not owner.inherits(other.labels)
    assert owner.inherits(Owner(tmp_path).labels)
    assert not owner.inherits({"somebody": "else"})


def test_the_pause_program_must_leave_the_network_and_sleep(tmp_path: Path) -> None:
    """An executable of a few bytes, for both architectures; this machine's is run."""
    assert [pause.program(name)[:4] for name in ("amd64", "arm64")] == [b"\x7fELF"] * 2
    with pytest.raises(RuntimeUnavailable, match="amd64, arm64"):
        pause.program("m68k")
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    file = tmp_path / "pause"
    file.write_bytes(pause.program(host_platform().architecture))
    file.chmod(0o755)
    process = subprocess.Popen([file])
    try:
        until = monotonic() + 5
        while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert process.poll() is None and monotonic() < until
    finally:
        process.kill()
        process.wait()


def test_task_limits_need_groups_that_the_daemon_makes_itself() -> None:
    """Where systemd manages them, they hold for each container."""
    assert limits.hierarchy({"CgroupDriver": "systemd", "CgroupVersion": "2"}) is None
    assert limits.make_group(None, "x", 1) is None
