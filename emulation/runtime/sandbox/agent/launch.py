"""From a fork of the agent to a container's program: namespaces, file system, user, limits, execve.

What goes wrong is reported over the status pipe, which is closed by execve: an end without a report means that the
program runs.
"""

import contextlib
import errno
import json
import os
import resource
import signal
import stat
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from . import passwd, root, seccomp, system

STDIN, STDOUT, STDERR = 0, 1, 2
_SPECIFICATION, _STATUS, _FIRST_STREAM, _FIRST_CGROUP = 0, 1, 2, 5
_HIGHEST_DESCRIPTOR = 1 << 30
_NO_EXECUTABLE_CODE = 255
_LIMITS = {
    name: number
    for number, name in enumerate(
        "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime".split()
    )
}
_DEFAULT_OPEN_FILES = 65535
"""Source: Amazon ECS, ContainerDefinition `ulimits`: the nofile limit on Fargate."""


class LaunchError(Exception):
    """What Docker says, and the exit code it gives."""

    def __init__(self, message: str, code: int = 128, kind: str = "setup") -> None:
        super().__init__(message)
        self.code, self.kind = code, kind


class Launch(NamedTuple):
    """What a launcher needs. The descriptors: settings, status, stdin, stdout, stderr, then cgroups and mounts."""

    settings: dict[str, Any]
    descriptors: list[int]
    containers: int
    inside: int
    has_sysfs: bool

    @property
    def status(self) -> int:
        return self.descriptors[_STATUS]

    @property
    def cgroups(self) -> list[int]:
        return self.descriptors[_FIRST_CGROUP : _FIRST_CGROUP + int(self.settings["cgroups"])]

    @property
    def trees(self) -> list[int]:
        return self.descriptors[_FIRST_CGROUP + int(self.settings["cgroups"]) :]


def guarded(work: Callable[[Launch], None], launch: Launch) -> NoReturn:
    """Runs `work` in a forked process, which ends here whatever happens: it must never become a second agent."""
    try:
        signal.set_wakeup_fd(-1)
        _close_all_but({*launch.descriptors, launch.containers, launch.inside})
        work(launch)
    except LaunchError as error:
        _report(launch, {"kind": error.kind, "error": str(error), "code": error.code})
    except passwd.UserNotFound as error:
        _report(launch, {"kind": "user", "error": str(error), "code": 128})
    except OSError as error:
        _report(launch, {"kind": "setup", "error": system.reason(error), "code": 128})
    except BaseException as error:
        _report(launch, {"kind": "setup", "error": repr(error), "code": 128})
    finally:
        os._exit(127)


def run(launch: Launch) -> None:
    """Starts a container."""
    settings = launch.settings
    _enter(launch)
    system.unshare(system.NEWNS | system.NEWPID | system.NEWUTS | system.NEWIPC)
    child = os.fork()
    if child:
        _report(launch, {"pid": child})
        os._exit(0)
    root.build(settings, launch.trees, launch.has_sysfs)
    user = _find_user(settings)
    if settings["init"]:
        program = os.fork()
        if program:
            _become_init(launch, user, program)
    _become(launch, user)


def execute(launch: Launch) -> None:
    """Runs a command in the container whose first process is `target`."""
    settings = launch.settings
    target = os.pidfd_open(settings["target"])
    _enter(launch)
    system.setns(target, system.NEWNS | system.NEWPID | system.NEWUTS | system.NEWIPC)
    os.close(target)
    child = os.fork()
    if child:
        _report(launch, {"pid": child})
        os._exit(0)
    _become(launch, _find_user(settings))


def try_out(launch: Launch) -> None:
    """Enters the cgroups and mounts an overlay as a container would, and reports success by not reporting."""
    _enter(launch)
    system.unshare(system.NEWNS)
    system.mount("none", "/", flags=system.MS_REC | system.MS_PRIVATE)
    if "lower" in launch.settings:
        root.mount_overlay(launch.settings)


def _report(launch: Launch, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(launch.status, json.dumps(message).encode() + b"\n")


def _close_all_but(kept: set[int]) -> None:
    first = 3
    for descriptor in sorted(kept):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, _HIGHEST_DESCRIPTOR)


def _enter(launch: Launch) -> None:
    for descriptor in launch.cgroups:
        os.write(descriptor, b"0")
    if launch.inside >= 0:
        system.setns(launch.inside, system.NEWNET)
    system.setns(launch.containers, system.NEWUSER)
    system.prctl(system.PR_SET_DUMPABLE, 1)


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _find_user(settings: dict[str, Any]) -> passwd.User:
    return passwd.resolve(settings["user"], _read("/etc/passwd"), _read("/etc/group"))


def _become(launch: Launch, user: passwd.User) -> NoReturn:
    """Turns this process into the container's program."""
    settings = launch.settings
    environment: dict[str, str] = {"HOME": user.home, **settings["environment"]}
    os.setsid()
    status = _place_descriptors(launch)
    try:
        _set_limits(settings["ulimits"])
        os.umask(0o022)
        directory = settings["cwd"] or "/"
        try:
            if settings.get("create_cwd"):
                os.makedirs(directory, exist_ok=True)
            os.chdir(directory)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise LaunchError(f'chdir to cwd ("{directory}") set in config.json failed: {reason}') from None
        for stream in (STDIN, STDOUT, STDERR):
            # So that a program may open /dev/stdout. Never a device, which is the host's.
            if settings["ids"] > 1 and stat.S_ISFIFO(os.fstat(stream).st_mode):
                os.fchown(stream, user.uid, user.gid)
        _drop_privileges(settings, user)
        path = find_executable(settings["argv"][0], environment.get("PATH", ""))
    except LaunchError as error:
        os.write(status, json.dumps({"kind": error.kind, "error": str(error), "code": error.code}).encode() + b"\n")
        os._exit(127)
    _reset_signals()
    try:
        os.execve(path, settings["argv"], environment)
    except OSError as error:
        if error.errno in (errno.E2BIG, errno.ENOMEM):
            report = {"kind": "exec", "error": f"exec {path}: {os.strerror(error.errno).lower()}", "code": 128}
            os.write(status, json.dumps(report).encode() + b"\n")
            os._exit(127)
        # As with Docker, the container has started by now: it says why it cannot go on, and exits.
        os.write(STDERR, f"exec {path}: {os.strerror(error.errno or 0).lower()}\n".encode())
        os._exit(_NO_EXECUTABLE_CODE)


def _place_descriptors(launch: Launch) -> int:
    """Standard input and outputs to their places. All else is closed, but the status pipe, which execve closes."""
    streams = launch.descriptors[_FIRST_STREAM:_FIRST_CGROUP]
    for place, descriptor in enumerate(streams):
        os.dup2(descriptor, place)
    _close_all_but({launch.status})
    os.set_inheritable(launch.status, False)
    return launch.status


def _set_limits(ulimits: Sequence[Sequence[Any]]) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _DEFAULT_OPEN_FILES if most == resource.RLIM_INFINITY else min(_DEFAULT_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most if any(u[0] == "nofile" for u in ulimits) else files))
    for name, soft, hard in ulimits:
        if name not in _LIMITS:
            raise LaunchError(f"invalid ulimit type: {name}")
        try:
            resource.setrlimit(_LIMITS[name], (soft, hard))
        except (OSError, ValueError) as error:
            raise LaunchError(f"error setting rlimits for ready process: {name}={soft}:{hard}: {error}") from None


def _drop_privileges(settings: dict[str, Any], user: passwd.User) -> None:
    """The user, its groups and capabilities. Whatever is executed later gains none."""
    capabilities = sum(1 << number for number in settings["capabilities"])
    if settings["ids"] == 1 and (user.uid, user.gid) != (0, 0):
        _show_as(user)
    for number in range(system.HIGHEST_CAPABILITY + 1):
        if not capabilities >> number & 1:
            with contextlib.suppress(OSError):  # a capability that this kernel does not know
                system.prctl(system.PR_CAPBSET_DROP, number)
    if settings["ids"] > 1:
        try:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        except OSError:
            raise LaunchError(f"setting user {user.uid}:{user.gid} failed: ids end at {settings['ids'] - 1}") from None
    effective = capabilities if user.uid == 0 else 0
    system.set_capabilities(effective, effective)
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    if settings["ids"] == 1:
        with contextlib.suppress(OSError):  # a kernel without filters: changing an owner fails
            seccomp.ignore_owners()


def _show_as(user: passwd.User) -> None:
    """Where only one id is mapped, one more user namespace shows it as the wanted one. All files look like its own."""
    system.unshare(system.NEWUSER)
    system.prctl(system.PR_SET_DUMPABLE, 1)
    for name, number in (("uid_map", user.uid), ("gid_map", user.gid)):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(f"{number} 0 1")


def _reset_signals() -> None:
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def find_executable(name: str, path: str) -> str:
    """The file that `name` means. The words are those of runc, which are Go's."""
    if "/" in name:
        _check_executable(name, name)
        return name
    denied = False
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        try:
            _check_executable(candidate, name)
        except LaunchError as error:
            denied = denied or error.code == 126
            continue
        return candidate
    if denied:
        raise LaunchError(f'exec: "{name}": permission denied', 126, "exec")
    raise LaunchError(f'exec: "{name}": executable file not found in $PATH', 127, "exec")


def _check_executable(path: str, name: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        raise LaunchError(f'exec: "{name}": permission denied', 126, "exec") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LaunchError(f'exec: "{name}": stat {path}: {reason}', 127, "exec") from None
    if stat.S_ISDIR(mode):
        raise LaunchError(f'exec: "{name}": is a directory', 126, "exec")
    if not os.access(path, os.X_OK):
        raise LaunchError(f'exec: "{name}": permission denied', 126, "exec")


def _become_init(launch: Launch, user: passwd.User, program: int) -> NoReturn:
    """Process 1 where the task definition asks for an init process: passes signals on and reaps what is left over."""
    settings = launch.settings
    signals = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    _close_all_but(set())
    null = os.open("/dev/null", os.O_RDWR)
    for place in (STDIN, STDOUT, STDERR):
        os.dup2(null, place)
    _close_all_but(set())
    os.chdir("/")
    _drop_privileges(settings, user)
    while True:
        received = signal.sigwait(signals)
        if received != signal.SIGCHLD:
            with contextlib.suppress(OSError):
                os.kill(program, received)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == program:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
