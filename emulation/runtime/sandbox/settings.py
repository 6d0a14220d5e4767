"""What the agent is told of a container: Docker's rules for commands, environment, capabilities, limits. Pure.

Source: Docker Engine API, ContainerCreate; Dockerfile reference, "Understand how CMD and ENTRYPOINT interact"; Amazon
ECS, ContainerDefinition and LinuxParameters.
"""

import posixpath
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from emulation.errors import ContainerStartError
from emulation.runtime.base import ContainerSpec, ImageConfig, Mount

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CAPABILITIES = {
    name: number
    for number, name in enumerate(
        (
            "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
            " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT"
            " SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE"
            " AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
            " PERFMON BPF CHECKPOINT_RESTORE"
        ).split()
    )
}
_DEFAULT_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD"
    " AUDIT_WRITE SETFCAP"
).split()
_TMPFS_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
_TMPFS_CLEARED = {"rw": 1, "suid": 2, "dev": 4, "exec": 8}


def arguments(spec: ContainerSpec) -> tuple[str, ...]:
    """The program and its arguments. Raises ContainerStartError where neither the image nor the spec has a command."""
    config = spec.image.config
    if spec.entry_point is not None:
        argv = spec.entry_point + (spec.command or ())
    else:
        argv = config.entry_point + (spec.command or config.command)
    if not argv:
        raise ContainerStartError("CannotCreateContainerError: Error response from daemon: No command specified")
    return argv


def environment(spec: ContainerSpec, hostname: str) -> dict[str, str]:
    return {"PATH": PATH, "HOSTNAME": hostname, **spec.image.config.environment, **spec.environment}


def capabilities(added: Iterable[str], dropped: Iterable[str]) -> list[int]:
    """The numbers of Docker's default set, changed as asked. Names with or without CAP_, or ALL."""
    plus, minus = _numbers(added), _numbers(dropped)
    everything = set(_CAPABILITIES.values())
    kept = everything if plus == everything else {_CAPABILITIES[name] for name in _DEFAULT_CAPABILITIES}
    if minus == everything:  # Docker: dropping ALL and adding some leaves these
        return sorted(plus if plus != everything else ())
    return sorted((kept | plus) - minus)


def _numbers(names: Iterable[str]) -> set[int]:
    found: set[int] = set()
    for name in names:
        plain = name.upper().removeprefix("CAP_")
        if plain == "ALL":
            return set(_CAPABILITIES.values())
        if plain not in _CAPABILITIES:
            raise ContainerStartError(
                f'CannotCreateContainerError: Error response from daemon: invalid capability: "{name}"'
            )
        found.add(_CAPABILITIES[plain])
    return found


def image_volumes(spec: ContainerSpec, number: int) -> tuple[Mount, ...]:
    """A volume of its own for each VOLUME of the image that the task mounts nothing at, as Docker gives it."""
    taken = {posixpath.normpath(mount.target) for mount in spec.mounts}
    taken |= {posixpath.normpath(entry.partition(":")[0]) for entry in spec.tmpfs}
    places = [place for place in spec.image.config.volumes if posixpath.normpath(place) not in taken]
    return tuple(Mount(place, volume=f"c{number}.{index}") for index, place in enumerate(places))


def tmpfs(mounts: Iterable[str]) -> list[tuple[str, int, str]]:
    """Target, mount flags and options of each `path` or `path:option,option`."""
    found = []
    for entry in mounts:
        target, _, text = entry.partition(":")
        options = [option for option in text.split(",") if option]
        flags = 2 | 4 | 8
        for option in options:
            flags = flags & ~_TMPFS_CLEARED.get(option, 0) | _TMPFS_FLAGS.get(option, 0)
        data = [option for option in options if "=" in option]
        if not any(option.startswith("mode=") for option in data):
            data.append("mode=1777")
        found.append((target, flags, ",".join(data)))
    return found


def stop_signal(config: ImageConfig) -> int:
    """The number of the image's stop signal: SIGTERM, TERM, 15 or SIGRTMIN+3. SIGTERM where there is no such signal."""
    name = config.stop_signal.upper()
    if name.isdigit():
        return int(name) if int(name) in signal.valid_signals() else int(signal.SIGTERM)
    base, _, offset = name.removeprefix("SIG").partition("+")
    number = signal.Signals.__members__.get(f"SIG{base}", signal.SIGTERM)
    return int(number) + int(offset) if offset.isdigit() else int(number)


def hosts_file(hostname: str, address: str, names: Mapping[str, object]) -> bytes:
    """The lines that Docker and ECS write, then `names`."""
    lines = ["127.0.0.1\tlocalhost", *([f"{address}\t{hostname}"] if address else [])]
    lines += [f"{ip}\t{name}" for name, ip in sorted(names.items())]
    return ("\n".join(lines) + "\n").encode()


def start_error(report: Mapping[str, Any]) -> ContainerStartError:
    """What ECS shows for what a launcher reported."""
    daemon = "CannotStartContainerError: Error response from daemon: "
    if report["kind"] == "user":
        return ContainerStartError(daemon + report["error"], report["code"])
    return ContainerStartError(
        f"{daemon}failed to create task for container: failed to create shim task: OCI runtime create failed: "
        f"runc create failed: unable to start container process: {report['error']}: unknown",
        report["code"],
    )


def exec_error(report: Mapping[str, Any]) -> ContainerStartError:
    """What Docker says of a command that could not be started in a running container."""
    if report["kind"] == "user":
        return ContainerStartError(report["error"], 126)
    return ContainerStartError(
        f"OCI runtime exec failed: exec failed: unable to start container process: {report['error']}: unknown",
        126 if report["code"] == 128 else report["code"],
    )
