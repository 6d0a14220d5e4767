"""The pause container's program and its image: a network namespace that lives as long as the container does.

The program is three system calls, written out here because no file of the host can be relied on in an empty image:
unshare(CLONE_NEWNET), then pause() for ever. It costs 4 KiB of memory, and starts faster than a container for which the
daemon itself makes a namespace, since that has the daemon run itself again as a hook.

Source: System V ABI, "Object Files"; syscalls(2), syscall(2).
"""

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Iterator

from emulation.errors import RuntimeUnavailable
from emulation.images.manifest import host_platform

PROGRAM = "/pause"

_BASE = 0x400000
_CODE_AT = 64 + 56
"""After the ELF header and one program header."""

_CODE = {
    # mov edi, 0x40000000; mov eax, 272 (unshare); syscall; again: mov eax, 34 (pause); syscall; jmp again
    "amd64": (62, bytes.fromhex("bf00000040 b810010000 0f05 b822000000 0f05 ebf7")),
    # mov x0, 0x40000000; mov x8, 97 (unshare); svc 0; again: mov x0, 0; mov x1, 0; mov x2, 0; mov x3, 0;
    # mov x8, 73 (ppoll); svc 0; b again
    "arm64": (
        183,
        bytes.fromhex("0000a8d2 280c80d2 010000d4 000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"),
    ),
}


def program(architecture: str) -> bytes:
    """An ELF executable. Raises RuntimeUnavailable for an architecture that is not known here."""
    if architecture not in _CODE:
        raise RuntimeUnavailable(
            f"The docker runtime knows the architectures {', '.join(_CODE)}; this machine is {architecture}. "
            "Use --runtime process."
        )
    machine, code = _CODE[architecture]
    size = _CODE_AT + len(code)
    header = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _CODE_AT, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def archive(name: str) -> Iterator[bytes]:
    """The image as `docker load` takes it, with that name. Always the same one."""
    platform = host_platform()
    layer = _tar({PROGRAM.lstrip("/"): program(platform.architecture)}, 0o755)
    config = json.dumps(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Entrypoint": [PROGRAM]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    yield _tar(files, 0o644)


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
