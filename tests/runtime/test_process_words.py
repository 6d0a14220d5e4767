"""The process runtime's pure parts: lines, users, Docker's rules, control groups."""

import hashlib
from pathlib import Path

import pytest

from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec, ImageConfig, PulledImage
from emulation.runtime.process import leftovers
from emulation.runtime.runs import new_run
from emulation.runtime.sandbox.agent.passwd import UserNotFound, resolve
from emulation.runtime.sandbox.cgroups import Hierarchy, find
from emulation.runtime.sandbox.lines import LineSplitter
from emulation.runtime.sandbox.settings import arguments, capabilities, stop_signal, tmpfs

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\napp:x:1000:1001::/srv/app:/bin/sh\n7:x:8:8::/seven:/bin/sh\n"
)
GROUP = "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\nstaff:x:50:app\n"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("", (0, 0, (10,), "/root")),
        ("root", (0, 0, (10,), "/root")),
        ("app", (1000, 1001, (10, 50), "/srv/app")),
        ("1000", (1000, 1001, (10, 50), "/srv/app")),
        ("app:staff", (1000, 50, (), "/srv/app")),
        ("app:99", (1000, 99, (), "/srv/app")),
        ("555", (555, 0, (), "/")),
        ("555:app", (555, 1001, (), "/")),
        ("7", (8, 8, (), "/seven")),
    ],
)
def test_users_must_be_looked_up_as_docker_does(spec: str, found: tuple[int, int, tuple[int, ...], str]) -> None:
    """Names before numbers; supplementary groups unless a group is given."""
    assert tuple(resolve(spec, PASSWD, GROUP)) == found


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("99999999999", "unable to find user 99999999999: no matching entries in passwd file"),
    ],
)
def test_unknown_users_must_be_refused_in_dockers_words(spec: str, words: str) -> None:
    """Also where the image has no such files at all."""
    for passwd, group in ((PASSWD, GROUP), ("app:x:1:1::/:/", "")):
        with pytest.raises(UserNotFound) as error:
            resolve(spec, passwd, group)
        assert str(error.value) == words


@pytest.mark.parametrize(
    ("entry_point", "command", "meant"),
    [
        (None, None, "/init serve"),
        (None, ("test",), "/init test"),
        (("/sh",), None, "/sh"),
        (("/sh",), ("-c",), "/sh -c"),
        ((), ("/sh",), "/sh"),
        ((), None, ""),
    ],
)
def test_entry_point_and_command_must_be_joined_as_docker_does(
    entry_point: tuple[str, ...] | None, command: tuple[str, ...] | None, meant: str
) -> None:
    """An entry point drops the image's command, an empty one its entry point too; nothing at all cannot be run."""
    image = PulledImage("app", "sha256:0", ImageConfig(entry_point=("/init",), command=("serve",)))
    spec = ContainerSpec("app", image, entry_point=entry_point, command=command)
    if meant:
        assert " ".join(arguments(spec)) == meant
    else:
        with pytest.raises(ContainerStartError, match="No command specified"):
            arguments(spec)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 100])
def test_lines_must_be_split_the_same_however_they_come(step: int) -> None:
    """A line as long as the longest part is one part; carriage returns are the program's."""
    data = b"one\n\nfour\r\n12345678\n123456789\nabcdefghijklmnopqrst"
    splitter, found = LineSplitter(8), []
    for start in range(0, len(data), step):
        found += splitter.feed(data[start : start + step])
    found += splitter.finish()
    assert found == [
        (b"one", True),
        (b"", True),
        (b"four\r", True),
        (b"12345678", True),
        (b"12345678", False),
        (b"9", True),
        (b"abcdefgh", False),
        (b"ijklmnop", False),
        (b"qrst", True),
    ]


def test_capabilities_must_combine_as_on_docker() -> None:
    """Dropping all and adding one leaves that one."""
    assert capabilities(("NET_ADMIN",), ("ALL",)) == [12]
    assert capabilities(("ALL",), ()) == list(range(41))
    assert 0 not in capabilities((), ("cap_chown",))


@pytest.mark.parametrize(
    ("name", "number"), [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("SIGNONSENSE", 15), ("999", 15)]
)
def test_stop_signals_must_be_understood(name: str, number: int) -> None:
    """As images write them."""
    assert stop_signal(ImageConfig(stop_signal=name)) == number


def test_tmpfs_options_must_become_flags() -> None:
    """Docker's defaults: no programs, no devices, everybody may write."""
    assert tmpfs(("/a", "/b:size=1m,exec,mode=700,ro")) == [("/a", 14, "mode=1777"), ("/b", 7, "size=1m,mode=700")]


def test_only_control_groups_that_nobody_uses_must_be_removed(tmp_path: Path) -> None:
    """Those of a process that has ended, or of the folder that this runtime has; those of living ones are theirs."""
    folder, other = hashlib.sha256(b"/mine").hexdigest()[:12], hashlib.sha256(b"/other").hexdigest()[:12]
    alive = new_run()
    namespace, pid, started, unique = alive.split("-")
    dead = f"{namespace}-{pid}-{int(started) - 1}-{unique}"
    elsewhere = f"1-{pid}-{int(started) - 1}-{unique}"
    hierarchy = Hierarchy(1, (tmp_path,))
    for name in (f"{other}-{alive}", f"{other}-{dead}", f"{other}-{elsewhere}", f"{folder}-{elsewhere}"):
        (tmp_path / f"sunabox-process-{name}-1-task").mkdir()
    found = {group.folders[0].name for group in leftovers(hierarchy, Path("/mine"))}
    assert found == {f"sunabox-process-{other}-{dead}-1-task", f"sunabox-process-{folder}-{elsewhere}-1-task"}


def _version_2(root: Path, own: str, controllers: str) -> tuple[str, str]:
    folder = root / own
    folder.mkdir(parents=True)
    while True:
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.subtree_control").write_text(controllers)
        if folder == root:
            break
        folder = folder.parent
    return f"cgroup2 {root} cgroup2 rw 0 0\n", f"0::/{own}\n"


def test_version_2_must_be_used_where_groups_were_delegated(tmp_path: Path) -> None:
    """Root's groups are at the top; a user's in the group above its own, which has no processes of its own."""
    texts = _version_2(tmp_path, "user.slice/session.scope", "cpu memory")
    assert find(*texts, may_write=True) == Hierarchy(2, (tmp_path,))
    assert find(*texts, may_write=False) == Hierarchy(2, (tmp_path / "user.slice",))
    assert find("", "", may_write=True) is None


def test_version_2_limits_must_be_written_in_its_words(tmp_path: Path) -> None:
    """Bytes; microseconds of each period; kills are read from memory.events."""
    hierarchy = find(*_version_2(tmp_path, "own", "memory"), may_write=True)
    assert hierarchy is not None
    group = hierarchy.group("task")
    group.limit_memory(64 << 20)
    group.limit_cpus(0.25)
    assert (tmp_path / "task" / "memory.max").read_text() == str(64 << 20)
    assert (tmp_path / "task" / "memory.swap.max").read_text() == "0"
    assert (tmp_path / "task" / "cpu.max").read_text() == "25000 100000"
    assert group.oom_kills == 0
    (tmp_path / "task" / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert group.oom_kills == 2


def test_version_1_must_use_the_groups_that_this_process_is_in(tmp_path: Path) -> None:
    """Where the path of its group is not to be seen (in a container), the mount itself."""
    (tmp_path / "memory" / "own").mkdir(parents=True)
    (tmp_path / "cpu").mkdir()
    mounts = f"cgroup {tmp_path}/memory cgroup rw,memory 0 0\ncgroup {tmp_path}/cpu cgroup rw,cpu,cpuacct 0 0\n"
    membership = "4:memory:/own\n1:cpu,cpuacct:/hidden\n0::/\n"
    found = find(mounts, membership, may_write=True)
    assert found == Hierarchy(1, (tmp_path / "memory" / "own", tmp_path / "cpu"))
