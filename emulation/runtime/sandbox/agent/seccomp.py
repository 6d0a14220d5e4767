"""A system call filter for containers that have one id only: changing an owner succeeds, and changes nothing.

There, every file belongs to the one id whatever it is shown as, so `chown app /data` in an image's entry point can only
fail (EINVAL) or be taken for done. Setting a process's own id is not answered so: a program would believe it was
somebody else. Source: seccomp(2), linux/seccomp.h, linux/audit.h.
"""

import ctypes
import os
import struct

from . import system

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _SUCCEED = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with the errno 0
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4

# Audit's name of the architecture, and its numbers of chown, fchown, lchown, fchownat, setgroups, if it has them.
_CALLS = {
    "x86_64": (0xC000003E, (92, 93, 94, 260, 116)),
    "aarch64": (0xC00000B7, (54, 55, 159)),
}


def program(machine: str) -> bytes:
    """The filter for an architecture; empty where we do not know its numbers."""
    if machine not in _CALLS:
        return b""
    architecture, calls = _CALLS[machine]
    lines = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_IF_EQUAL, 0, len(calls) + 1, architecture), (_LOAD, 0, 0, _NUMBER_AT)]
    lines += [(_IF_EQUAL, len(calls) - place, 0, number) for place, number in enumerate(calls)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _SUCCEED)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def ignore_owners() -> None:
    """For this process and all that come of it. Needs no_new_privs. OSError where the kernel has no filters."""
    instructions = program(os.uname().machine)
    if instructions:
        buffer = ctypes.create_string_buffer(instructions)
        header = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(buffer))
        system.call(
            "prctl", _PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), header, ctypes.c_ulong(0), ctypes.c_ulong(0)
        )
