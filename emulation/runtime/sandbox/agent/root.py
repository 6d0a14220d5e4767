"""A container's file system: the image under a layer of its own, /proc, /sys, /dev, mounts, the files Docker provides.

It is built in the container's own mount namespace by the container's own root. All targets are opened after the change
of root, so that a symbolic link of the image cannot lead out of it.
"""

import contextlib
import os
import stat
import uuid
from typing import Any

from . import system
from .system import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""Both as Docker has them. Source: moby, oci/defaults.go."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC
_KEPT_FLAGS = ((os.ST_NOSUID, MS_NOSUID), (os.ST_NODEV, MS_NODEV), (os.ST_NOEXEC, MS_NOEXEC))
_KEPT_TIMES = (
    (os.ST_NOATIME, system.MS_NOATIME),
    (os.ST_NODIRATIME, system.MS_NODIRATIME),
    (os.ST_RELATIME, system.MS_RELATIME),
)


def build(settings: dict[str, Any], trees: list[int], has_sysfs: bool) -> None:
    """Makes the container's file system this process's root. `trees` are detached mounts for settings["mounts"]."""
    system.mount("none", "/", flags=MS_REC | MS_PRIVATE)
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _sources(settings)}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in DEVICES}
    sysfs = os.open("/sys", os.O_PATH | os.O_CLOEXEC) if has_sysfs else -1
    if "lower" in settings:
        mount_overlay(settings)
    else:
        system.mount(settings["root"], settings["root"], flags=MS_BIND)
    os.chdir(settings["root"])
    old = "." + uuid.uuid4().hex
    os.mkdir(old, 0o700)
    system.pivot_root(".", old)
    os.chdir("/")
    _mount_kernel(sysfs)
    _mount_devices(devices, many_ids=settings["ids"] > 1)
    for target, flags, options in settings["tmpfs"]:
        os.makedirs(target, exist_ok=True)
        system.mount("tmpfs", target, "tmpfs", flags, options)
    for mounted in settings["mounts"]:
        _mount(mounted, sources, trees)
    for source, target in settings["files"]:
        _touch(target)
        _bind(sources[source], target)
    system.unmount("/" + old)
    os.rmdir("/" + old)
    system.set_hostname(settings["hostname"])
    if settings["read_only"]:
        _make_read_only("/")


def mount_overlay(settings: dict[str, Any]) -> None:
    """`volatile` spares the disk a sync at the end: what a container wrote does not outlive it."""
    layers = f"lowerdir={settings['lower']},upperdir={settings['upper']},workdir={settings['work']}"
    system.mount("overlay", settings["root"], "overlay", 0, f"{layers},userxattr,volatile")


def _sources(settings: dict[str, Any]) -> set[str]:
    return {source for source, _ in settings["files"]} | {m["source"] for m in settings["mounts"] if m["source"]}


def _bind(source: int, target: str, flags: int = MS_REC) -> None:
    system.mount(f"/proc/self/fd/{source}", target, flags=MS_BIND | flags)
    os.close(source)


def _make_read_only(target: str) -> None:
    """Flags that the mount has must be given again: a user namespace may not take them away."""
    present = os.statvfs(target).f_flag
    kept = sum(flag for bit, flag in (*_KEPT_FLAGS, *_KEPT_TIMES) if present & bit)
    system.mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def _touch(target: str) -> None:
    if not os.path.exists(target):
        if os.path.islink(target):  # to nowhere, as some images have /etc/resolv.conf
            os.unlink(target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w"):
            pass


def _mount_kernel(sysfs: int) -> None:
    for folder in ("/proc", "/sys", "/dev", "/etc"):
        os.makedirs(folder, exist_ok=True)
    os.makedirs("/tmp", 0o1777, exist_ok=True)
    system.mount("proc", "/proc", "proc", _SAFE)
    if sysfs >= 0:
        _bind(sysfs, "/sys")
    for path in READ_ONLY:
        if os.path.exists(path):
            system.mount(path, path, flags=MS_BIND | MS_REC)
            system.mount("none", path, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | _SAFE)


def _mount_devices(devices: dict[str, int], many_ids: bool) -> None:
    system.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k")
    for name, source in devices.items():
        _touch(f"/dev/{name}")
        _bind(source, f"/dev/{name}", 0)
    group = ",gid=5" if many_ids else ""
    for name, kind, options in (
        ("pts", "devpts", f"newinstance,ptmxmode=0666,mode=0620{group}"),
        ("shm", "tmpfs", "mode=1777,size=65536k"),
        ("mqueue", "mqueue", ""),
    ):
        os.mkdir(f"/dev/{name}")
        # A kernel without System V or POSIX queues runs containers all the same.
        with contextlib.suppress(OSError) if name == "mqueue" else contextlib.nullcontext():
            system.mount(kind, f"/dev/{name}", kind, MS_NOSUID | MS_NOEXEC, options)
    for link, target in _LINKS:
        os.symlink(target, f"/dev/{link}")
    for path in MASKED:
        _mask(path)


def _mask(path: str) -> None:
    try:
        folder = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return
    if folder:
        system.mount("tmpfs", path, "tmpfs", MS_RDONLY | _SAFE, "size=0")
    else:
        system.mount("/dev/null", path, flags=MS_BIND)


def _mount(mounted: dict[str, Any], sources: dict[str, int], trees: list[int]) -> None:
    """A folder or file of the host, by path or as a detached mount, or a volume of the task."""
    target: str = mounted["target"]
    tree = trees[mounted["tree"]] if mounted["tree"] >= 0 else -1
    source = tree if tree >= 0 else sources[mounted["source"]]
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(target, exist_ok=True)
        if mounted["fresh"]:
            _copy_into(target, source)
    else:
        _touch(target)
    if tree >= 0:
        system.attach_tree(tree, target)
    else:
        # A descriptor of a volume that two mounts share stays open for the second.
        _bind(os.dup(source), target)
    if mounted["read_only"]:
        _make_read_only(target)


def _copy_into(folder: str, volume: int) -> None:
    """A new volume begins with what the image has at its place, as on Docker."""
    place = f"/proc/self/fd/{volume}"
    _copy_attributes(folder, place)
    for path, folders, files in os.walk(folder):
        inner = os.path.join(place, os.path.relpath(path, folder))
        for name in (*folders, *files):
            _copy(os.path.join(path, name), os.path.join(inner, name))


def _copy(source: str, target: str) -> None:
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(mode):
        os.mkdir(target)
        _copy_attributes(source, target)
    elif stat.S_ISREG(mode):
        with open(source, "rb") as reader, open(target, "xb") as writer:
            while data := reader.read(1 << 20):
                writer.write(data)
        _copy_attributes(source, target)


def _copy_attributes(source: str, target: str) -> None:
    status = os.stat(source)
    with contextlib.suppress(OSError):  # with one id there is only one owner
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
