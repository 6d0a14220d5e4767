"""The process runtime: what a program in a container must not see, reach or change."""

import os
from pathlib import Path

from emulation.runtime.base import Mount
from tests.runtime.stage import Stage, Theatre, children, inside

FOREVER = ("sleep", "1000")


def test_the_kernels_settings_must_be_covered(play_process: Theatre) -> None:
    """Neither written nor uncovered, also with every capability that a task definition can add."""

    async def story(stage: Stage) -> None:
        text = (
            "(cat /proc/sys/kernel/panic > /proc/sys/kernel/panic) 2>&1;"
            "cat /proc/keys /proc/kcore 2>/dev/null | wc -c; ls -d /sys/firmware/* /sys/class/net/* 2>/dev/null;"
            "mkdir /sys/x 2>&1; true"
        )
        expected = [
            "sh: 1: cannot create /proc/sys/kernel/panic: Read-only file system",
            "0",
            "/sys/class/net/eth0",
            "/sys/class/net/lo",
            "mkdir: cannot create directory '/sys/x': Read-only file system",
        ]
        task = await stage.task()
        assert (await stage.shell(task, text))[1] == expected
        assert await stage.shell(task, text, added_capabilities=("ALL",)) == (0, expected)

    play_process(story)


def test_a_container_with_every_capability_must_still_not_change_the_host(play_process: Theatre) -> None:
    """It may unmount the cover over /proc/sys then, but has no power over what is below."""

    async def story(stage: Stage) -> None:
        before = Path("/proc/sys/kernel/panic").read_text()
        program = (
            "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.umount2(b'/proc/sys', 2)\n"
            "try:\n open('/proc/sys/kernel/panic', 'w').write('7')\n"
            "except OSError as e: print(errno.errorcode[e.errno])\n"
            "try:\n import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
            "except OSError as e: print(errno.errorcode[e.errno])\n"
        )
        task = await stage.task()
        code, lines = await stage.shell(task, f'python3 -c "{program}"', added_capabilities=("ALL",))
        assert code == 0 and lines[0] in ("EACCES", "EROFS") and lines[1] == "EPERM"
        assert Path("/proc/sys/kernel/panic").read_text() == before

    play_process(story)


def test_processes_of_the_host_and_of_other_containers_must_be_invisible(play_process: Theatre) -> None:
    """Each container has process numbers of its own."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        await stage.run(task, *FOREVER)
        container = await stage.run(task, *FOREVER)
        assert await inside(container, "sh", "-c", "echo /proc/[0-9]*; cat /proc/1/comm") == (
            0,
            ["/proc/1 /proc/2", "sleep"],
        )

    play_process(story)


def test_a_containers_root_must_be_nobody_on_the_host(play_process: Theatre) -> None:
    """As root, its user ids belong to no one; an ordinary user's containers are that user."""

    async def story(stage: Stage) -> None:
        known = children()
        await stage.run(await stage.task(), *FOREVER)
        for pid in children() - known:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            owner = int(fields["Uid"].split()[0])
            assert owner >= 0x60000000 if os.geteuid() == 0 else owner == os.geteuid()
            assert fields["Name"].strip() != "sleep" or fields["NoNewPrivs"].strip() == "1"

    play_process(story)


def test_a_link_in_a_volume_must_not_lead_a_mount_out_of_the_container(play_process: Theatre, tmp_path: Path) -> None:
    """Targets are looked up inside the container's own root, where the link means something else."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        volume, name = Mount("/data", volume="v"), tmp_path.name
        await stage.shell(task, "ln -s /tmp /data/link; ln -s ../../../../../tmp /data/far", mounts=(volume,))
        for link in ("link", "far"):
            inner = Mount(f"/data/{link}/{name}", volume="other")
            text = f"touch /tmp/{name}/written; ls /data/{link}/{name}"
            assert await stage.shell(task, text, mounts=(volume, inner)) == (0, ["written"])
        assert not os.path.exists(f"/tmp/{name}")

    play_process(story)


def test_files_of_the_host_must_be_out_of_reach(play_process: Theatre, tmp_path: Path) -> None:
    """Not by name, not by a link, not through another root's leftovers; and devices cannot be made."""

    async def story(stage: Stage) -> None:
        (tmp_path / "secret").write_text("secret")
        text = (
            f"cat {tmp_path}/secret /proc/1/root{tmp_path}/secret /proc/1/cwd/../..{tmp_path}/secret 2>/dev/null;"
            "ls -A / | grep '^[.]';"
            "python3 -c \"import os; os.mknod('/tmp/disk', 0o60600, os.makedev(254, 0))\" 2>&1 | tail -1"
        )
        _, lines = await stage.shell(await stage.task(), text)
        assert lines == ["PermissionError: [Errno 1] Operation not permitted"]

    play_process(story)


def test_an_image_must_stay_as_it_was_unpacked(play_process: Theatre) -> None:
    """What a container changes is its own, and goes with its task."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        await stage.shell(task, "echo changed > /etc/os-release; rm -r /usr/bin/id; mkdir /new; chmod 000 /new")
        assert await stage.shell(
            task, "grep -c Sunabox /etc/os-release; test -x /usr/bin/id; ls -d /new 2>/dev/null"
        ) == (2, ["2"])

    play_process(story)
