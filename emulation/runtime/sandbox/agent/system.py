"""System calls that the standard library does not have, and the kernel's numbers for them."""

import ctypes
import os
import struct

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 24, 36, 38
HIGHEST_CAPABILITY = 40

# System calls newer than 5.0 have the same number on all architectures.
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
MOUNT_ATTR_IDMAP = 0x00100000

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> int:
    """Calls a function of the C library; OSError names it."""
    result = int(getattr(libc, name)(*args))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def reason(error: OSError) -> str:
    """An error's words, without Python's own."""
    words = error.strerror or str(error)
    return f"{error.filename}: {words}" if error.filename else words


def unshare(flags: int) -> None:
    call("unshare", flags)


def setns(descriptor: int, kinds: int) -> None:
    """Enters one namespace, or with a pidfd several of a process."""
    call("setns", descriptor, kinds)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    try:
        call(
            "mount",
            source.encode(),
            os.fsencode(target),
            kind.encode() or None,
            ctypes.c_ulong(flags),
            data.encode() or None,
        )
    except OSError as error:
        raise OSError(error.errno, f"mount {kind or source} at {target}: {os.strerror(error.errno or 0)}") from None


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    call("umount2", os.fsencode(target), flags)


def pivot_root(new: str, old: str) -> None:
    call("pivot_root", os.fsencode(new), os.fsencode(old))


def prctl(option: int, value: int) -> None:
    call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def set_capabilities(effective: int, permitted: int) -> None:
    """Both as bit masks; the inheritable set is emptied, as Docker does it."""
    low = 0xFFFFFFFF
    sets = struct.pack("=6I", effective & low, permitted & low, 0, effective >> 32, permitted >> 32, 0)
    call("capset", struct.pack("=Ii", 0x20080522, 0), sets)


def set_hostname(name: str) -> None:
    data = os.fsencode(name)
    call("sethostname", data, ctypes.c_size_t(len(data)))


def open_tree(path: str) -> int:
    """A detached copy of the mounts at `path`, as a descriptor. Needs CAP_SYS_ADMIN where `path` is mounted."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
    return call("syscall", SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)


def map_ids(tree: int, user_namespace: int) -> None:
    """Files of a detached mount appear with the ids that `user_namespace` maps theirs to."""
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    size = ctypes.c_size_t(len(attributes))
    call("syscall", SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, attributes, size)


def attach_tree(tree: int, target: str) -> None:
    call("syscall", SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
