"""The process runtime: how a program finds itself inside its container."""

import asyncio
import os
import resource
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec, Exit, Line, Mount, Stream, Ulimit
from tests.runtime.stage import Printed, Stage, Theatre, inside

FOREVER = ("sleep", "1000")


def test_a_program_must_see_dockers_environment(play_process: Theatre) -> None:
    """PATH, HOSTNAME and HOME, then the image's variables, then the specification's."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        _, lines = await stage.shell(task, "env", environment={"LANG": "C", "GREETING": "hello = you"})
        variables = dict(line.split("=", 1) for line in lines)
        assert variables.pop("PATH").startswith("/usr/local/bin:")
        variables.pop("PWD")
        variables.pop("_", None)
        variables.pop("SHLVL", None)
        assert variables == {"HOSTNAME": "ip-10-0-1-5", "HOME": "/root", "LANG": "C", "GREETING": "hello = you"}

    play_process(story)


def test_an_entry_point_must_take_the_command_as_its_arguments(play_process: Theatre) -> None:
    """Without a command of its own, an entry point that is given drops the image's command."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        printed = Printed()
        container = await stage.run(task, "two words", entry_point=("echo", "one"), output=printed)
        await container.wait()
        assert printed.text() == ["one two words"]
        with pytest.raises(ContainerStartError) as error:
            await stage.run(task)
        assert str(error.value) == "CannotCreateContainerError: Error response from daemon: No command specified"
        assert error.value.exit_code is None

    play_process(story)


def test_a_working_directory_must_be_made_where_it_is_missing(play_process: Theatre) -> None:
    """As Docker does it; by default it is the image's."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        assert await stage.shell(task, "pwd") == (0, ["/app"])
        assert await stage.shell(task, "pwd; touch x", working_directory="/srv/new/one") == (0, ["/srv/new/one"])
        with pytest.raises(ContainerStartError, match="/etc/passwd.*file exists"):
            await stage.shell(task, "pwd", working_directory="/etc/passwd")

    play_process(story)


@pytest.mark.parametrize(
    ("user", "ids", "home"),
    [
        ("", "0 0", "/root"),
        ("app", "1000 1000", "/app"),
        ("1000", "1000 1000", "/app"),
        ("1234:nogroup", "1234 65534", "/"),
        ("app:0", "1000 0", "/app"),
    ],
)
def test_a_program_must_run_as_the_user_of_the_image_that_is_asked_for(
    play_process: Theatre, user: str, ids: str, home: str
) -> None:
    """A name is looked up in the image's /etc/passwd; an id need not be there. It may write to its own outputs."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        show = 'echo "$(id -u) $(id -g)" > /dev/stdout; echo $HOME >> /dev/stdout; grep CapEff /proc/self/status'
        code, lines = await stage.shell(task, show, user=user)
        capabilities = "00000000a80425fb" if ids.startswith("0 ") else "0000000000000000"
        assert (code, lines) == (0, [ids, home, f"CapEff:\t{capabilities}"])

    play_process(story)


def test_an_unknown_user_must_fail_in_dockers_words(play_process: Theatre) -> None:
    """The task goes on."""

    async def story(stage: Stage) -> None:
        with pytest.raises(ContainerStartError) as error:
            await stage.shell(await stage.task(), "true", user="nobody-knows")
        assert str(error.value) == (
            "CannotStartContainerError: Error response from daemon: "
            "unable to find user nobody-knows: no matching entries in passwd file"
        )

    play_process(story)


@pytest.mark.parametrize(
    ("program", "words", "code"),
    [
        ("/nosuch/program", 'exec: "/nosuch/program": stat /nosuch/program: no such file or directory', 127),
        ("/tmp", 'exec: "/tmp": is a directory', 126),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
    ],
)
def test_a_program_that_cannot_be_executed_must_be_named_with_the_reason(
    play_process: Theatre, program: str, words: str, code: int
) -> None:
    """The words are those of runc; in a running container too."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        with pytest.raises(ContainerStartError) as error:
            await stage.run(task, program)
        assert str(error.value).endswith(f"unable to start container process: {words}: unknown")
        assert error.value.exit_code == code
        container = await stage.run(task, *FOREVER)
        with pytest.raises(ContainerStartError) as error:
            await inside(container, program)
        assert str(error.value).startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
        assert error.value.exit_code == code

    play_process(story)


def test_a_program_of_an_unknown_format_must_exit_with_255_and_say_so(play_process: Theatre) -> None:
    """As on Docker the container has started by then: it is what "exec format error" in one's logs looks like."""

    async def story(stage: Stage) -> None:
        printed = Printed()
        text = "printf nonsense > /tmp/x; chmod +x /tmp/x; exec 2>&1; echo go"
        task = await stage.task()
        volume = (Mount("/tmp", volume="shared"),)
        await stage.shell(task, text, mounts=volume)
        container = await stage.run(task, "/tmp/x", mounts=volume, output=printed)
        assert await container.wait() == Exit(255)
        assert printed.text(Stream.STDERR) == ["exec /tmp/x: exec format error"]

    play_process(story)


def test_limits_must_be_those_that_were_asked_for(play_process: Theatre) -> None:
    """Without any, open files are what Fargate gives."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        _, found = await stage.shell(task, "ulimit -Sn; ulimit -Hn")
        assert found in (["65535"] * 2, [str(min(hard, 65535))] * 2)  # not every root may raise what the host has set
        limits = (Ulimit("nofile", 100, 200), Ulimit("core", 0, 0))
        assert await stage.shell(task, "ulimit -Sn; ulimit -Hn; ulimit -c", ulimits=limits) == (0, ["100", "200", "0"])
        with pytest.raises(ContainerStartError, match="invalid ulimit type: nosuch"):
            await stage.shell(task, "true", ulimits=(Ulimit("nosuch", 1, 1),))

    play_process(story)


def test_an_init_process_must_pass_signals_on_and_reap(play_process: Theatre) -> None:
    """With initProcessEnabled a program without a handler ends at SIGTERM, and orphans do not stay as zombies."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER, init=True)
        await inside(container, "sh", "-c", "(sleep 0.01 &) ; exit 0")
        _, lines = await inside(
            container, "sh", "-c", "sleep 0.3; cat /proc/[0-9]*/stat | grep -c ' Z '; cat /proc/2/comm"
        )
        assert lines == ["0", "sleep"]
        assert await container.stop(timedelta(seconds=30)) == Exit(143)

    play_process(story)


def test_a_read_only_root_must_refuse_writes_but_to_what_is_mounted(play_process: Theatre) -> None:
    """tmpfs mounts and volumes stay writable."""

    async def story(stage: Stage) -> None:
        text = "touch /x 2>/dev/null || echo no; touch /scratch/x /data/x && echo yes; df /scratch | tail -1"
        more = {"read_only_root": True, "tmpfs": ("/scratch:size=1m",), "mounts": (Mount("/data", volume="v"),)}
        code, lines = await stage.shell(await stage.task(), text, **more)
        assert (code, lines[:2]) == (0, ["no", "yes"])
        assert lines[2].split()[1] == "1024"

    play_process(story)


def test_capabilities_must_follow_the_specification(play_process: Theatre) -> None:
    """Docker's default set, with or without CAP_ before the name, and ALL."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        show = "grep CapBnd /proc/self/status | cut -f2"
        assert (await stage.shell(task, show, dropped_capabilities=("ALL",)))[1] == ["0" * 16]
        added = await stage.shell(task, show, added_capabilities=("CAP_SYS_PTRACE",), dropped_capabilities=("CHOWN",))
        assert int(added[1][0], 16) == (0xA80425FB | 1 << 19) & ~1
        with pytest.raises(ContainerStartError, match='invalid capability: "NOSUCH"'):
            await stage.shell(task, show, added_capabilities=("NOSUCH",))

    play_process(story)


def test_volumes_of_the_image_must_be_there_and_be_writable(play_process: Theatre) -> None:
    """Also where the root is read-only; what the task mounts at such a place goes first."""

    async def story(stage: Stage) -> None:
        image = await stage.image()
        image = replace(image, config=replace(image.config, volumes=("/data", "/etc/ssl", "/mounted/")))
        mine = (Mount("/mounted", volume="mine"),)
        text = "echo 1 >/data/x && echo 2 >/etc/ssl/x && echo 3 >/mounted/x && ls /etc/ssl | wc -l && cat /data/x"
        task = await stage.task()
        before = await stage.shell(task, "ls /etc/ssl | wc -l")
        written = await stage.shell(task, text, image=image, mounts=mine, read_only_root=True)
        assert written == (0, [str(int(before[1][0]) + 1), "1"])
        again = await stage.shell(task, "ls /data; cat /mounted/x", image=image, mounts=mine)
        assert again == (0, ["3"]), "a container's own volumes are nobody else's"

    play_process(story)


def test_a_volume_of_the_task_must_be_shared_and_begin_with_what_the_image_has(play_process: Theatre) -> None:
    """Other tasks see nothing of it."""

    async def story(stage: Stage) -> None:
        task, other = await stage.task(5), await stage.task(6)
        ssl = (Mount("/etc/ssl", volume="certificates"),)
        assert await stage.shell(task, "ls /etc/ssl; echo mine > /etc/ssl/note", mounts=ssl) == (0, ["certs"])
        read_only = (Mount("/other", volume="certificates", read_only=True),)
        text = "cat /other/note; (echo x > /other/note) 2>/dev/null || echo refused"
        assert await stage.shell(task, text, mounts=read_only) == (0, ["mine", "refused"])
        assert await stage.shell(other, "ls /other", mounts=read_only) == (0, [])

    play_process(story)


def test_a_folder_of_the_host_must_belong_to_the_containers_root(play_process: Theatre, tmp_path: Path) -> None:
    """What root writes there is the emulator's user's on the host; what is read-only stays as it is."""

    async def story(stage: Stage) -> None:
        (tmp_path / "given").write_text("hello\n")
        task = await stage.task()
        text = "cat /data/given; stat -c %u /data/given; echo answer > /data/made"
        assert await stage.shell(task, text, mounts=(Mount("/data", source=tmp_path),)) == (0, ["hello", "0"])
        assert (tmp_path / "made").read_text() == "answer\n"
        assert (tmp_path / "made").stat().st_uid == os.geteuid()
        read_only = (Mount("/data", source=tmp_path, read_only=True),)
        assert (await stage.shell(task, "rm /data/given 2>/dev/null", mounts=read_only))[0] == 1
        one_file = (Mount("/etc/given", source=tmp_path / "given"),)
        assert await stage.shell(task, "cat /etc/given", mounts=one_file) == (0, ["hello"])

    play_process(story)


def test_names_must_be_found_in_etc_hosts_of_each_container(play_process: Theatre) -> None:
    """extraHosts are a container's own; the network's names reach containers that run already."""

    async def story(stage: Stage) -> None:
        task = await stage.task()
        container = await stage.run(task, *FOREVER, extra_hosts={"db.internal": IPv4Address("10.0.9.9")})
        plumbing = stage.network.plumbing["eni-5"]
        await plumbing.set_names({"a-very-long-name.example": IPv4Address("10.0.2.2")})
        await plumbing.set_names({"db.example": IPv4Address("10.0.2.3")})
        _, lines = await inside(container, "cat", "/etc/hosts", "/etc/hostname")
        assert lines == [
            "127.0.0.1\tlocalhost",
            "10.0.1.5\tip-10-0-1-5",
            "10.0.2.3\tdb.example",
            "10.0.9.9\tdb.internal",
            "ip-10-0-1-5",
        ]
        _, lines = await stage.shell(task, "cat /etc/hosts")
        assert lines == ["127.0.0.1\tlocalhost", "10.0.1.5\tip-10-0-1-5", "10.0.2.3\tdb.example"]

    play_process(story)


def test_an_unknown_name_must_fail_at_once(play_process: Theatre) -> None:
    """No resolver answers inside of a task, and nobody waits for one."""

    async def story(stage: Stage) -> None:
        text = (
            "import socket\ntry: socket.getaddrinfo('nosuch.example', 80)\nexcept OSError as e: print(type(e).__name__)"
        )
        printed = Printed()
        container = await stage.run(await stage.task(), "python3", "-I", "-S", "-c", text, output=printed)
        async with asyncio.timeout(5):
            await container.wait()
        assert printed.text() == ["gaierror"]

    play_process(story)


def test_containers_of_a_task_must_share_localhost_but_not_their_files(play_process: Theatre) -> None:
    """As on Fargate. Two tasks may listen on the same port."""
    server = (
        "import http.server as h\n"
        "class H(h.BaseHTTPRequestHandler):\n"
        " def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(NAME)\n"
        " def log_message(s, *a): pass\n"
        "x = h.HTTPServer(('0.0.0.0', 80), H); print('up', flush=True); x.serve_forever()"
    )
    client = "import urllib.request as u; print(u.urlopen('http://127.0.0.1').read().decode())"

    async def story(stage: Stage) -> None:
        for number in (5, 6):
            task, printed = await stage.task(number), Printed()
            program = server.replace("NAME", f"b'{number}'")
            await stage.run(task, "python3", "-c", f"open('/tmp/x', 'w'); {program}", output=printed, user="app")
            await printed.until("up")
            assert await stage.shell(task, f'ls /tmp; python3 -c "{client}"') == (0, [str(number)])

    play_process(story)


def test_a_command_must_take_input_and_its_own_environment_user_and_folder(play_process: Theatre) -> None:
    """What is not given is the container's."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER, user="app", environment={"A": "1", "B": "2"})
        text = 'echo "$(id -u) $PWD $A $B"'
        assert await inside(container, "sh", "-c", text) == (0, ["1000 /app 1 2"])
        more = {"environment": {"B": "3"}, "user": "root", "working_directory": "/tmp"}
        assert await inside(container, "sh", "-c", text, **more) == (0, ["0 /tmp 1 3"])
        printed = Printed()
        execution = await container.execute(("wc", "-c"), printed)
        for _ in range(64):
            await execution.write(b"x" * 65536)
        await execution.close_input()
        assert await execution.wait() == 0
        assert printed.text() == [str(64 * 65536)]
        with pytest.raises(BrokenPipeError):
            await execution.write(b"x")

    play_process(story)


def test_a_daemon_that_keeps_the_output_open_must_not_hold_up_its_command(play_process: Theatre) -> None:
    """What the command itself printed is complete."""

    async def story(stage: Stage) -> None:
        container = await stage.run(await stage.task(), *FOREVER)
        async with asyncio.timeout(10):
            assert await inside(container, "sh", "-c", "sleep 999 & echo started") == (0, ["started"])

    play_process(story)


def test_a_program_that_prints_without_end_must_wait_for_its_reader(play_process: Theatre) -> None:
    """Back-pressure: a slow reader slows the program; the emulator does not grow."""

    async def story(stage: Stage) -> None:
        gate, seen = asyncio.Event(), 0

        async def output(line: Line) -> None:
            nonlocal seen
            seen += 1
            await gate.wait()

        task = await stage.task()
        spec = ContainerSpec("loud", await stage.image(), command=("sh", "-c", "while true; do echo line; done"))
        container = await task.start_container(spec, output)
        _, before = await inside(container, "sh", "-c", "sleep 0.3; cut -d' ' -f14 /proc/1/stat")
        _, after = await inside(container, "sh", "-c", "sleep 0.3; cut -d' ' -f14 /proc/1/stat")
        assert before == after  # it uses no processor time while nobody reads
        assert seen == 1
        gate.set()
        await container.signal(9)
        await container.wait()
        assert seen > 1000

    play_process(story)


def test_a_very_long_line_must_arrive_in_parts(play_process: Theatre) -> None:
    """Of 256 KiB, the last of them marked as complete; nothing is lost at the exit."""

    async def story(stage: Stage) -> None:
        printed = Printed()
        text = "import os, sys; sys.stdout.write('a' * 600000 + '\\n' + 'b' * 100000)"
        container = await stage.run(await stage.task(), "python3", "-I", "-S", "-c", text, output=printed)
        await container.wait()
        parts = [(line.data[:1], len(line.data), line.complete) for line in printed.lines]
        part = 256 << 10
        assert parts == [
            (b"a", part, False),
            (b"a", part, False),
            (b"a", 600000 - 2 * part, True),
            (b"b", 100000, True),
        ]

    play_process(story)


def test_a_program_must_inherit_nothing_but_its_standard_descriptors(play_process: Theatre) -> None:
    """No sockets of the agent, no folders of the host; neither for commands."""

    async def story(stage: Stage) -> None:
        text = (
            "import os\nfolder = '/proc/self/fd/'\n"
            "print([fd for fd in os.listdir(folder) if fd not in '012' and os.path.exists(folder + fd)])"
        )
        command = ("python3", "-I", "-S", "-c", text)
        printed = Printed()
        container = await stage.run(await stage.task(), *command, output=printed)
        await container.wait()
        assert printed.text() == ["[]"]
        sleeper = await stage.run(await stage.task(6), *FOREVER, init=True)
        assert await inside(sleeper, *command) == (0, ["[]"])
        _, lines = await inside(sleeper, "ls", "/proc/2/fd")
        assert lines == ["0", "1", "2"]

    play_process(story)


def test_a_limit_of_the_task_must_hold_for_all_its_containers(play_process: Theatre) -> None:
    """A container without a limit of its own is ended by the task's."""

    async def story(stage: Stage) -> None:
        task = await stage.task(memory_mib=64)
        hog = "data = []\nwhile True: data.append(bytearray(1 << 20))"
        container = await stage.run(task, "python3", "-I", "-S", "-c", hog)
        async with asyncio.timeout(20):
            assert await container.wait() == Exit(137, oom_killed=True)

    play_process(story)
