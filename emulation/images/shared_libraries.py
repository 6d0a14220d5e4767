"""Shared libraries that programs and extension modules need, and where an image keeps them.

All go into one folder, that of the C library: its loader always looks there, whatever path the host found them by.
"""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path

from emulation.errors import ImageError
from emulation.images.layer_writer import LayerTree

log = logging.getLogger(__name__)

_ELF = b"\x7fELF"
_FOUND = re.compile(r"^\s*(?:\S+ => )?(/.+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_MISSING = re.compile(r"^\s*(\S+) => not found$", re.MULTILINE)
_LOADER = re.compile(r"ld-(?:linux|musl).*\.so\.\d+|ld64\.so\.\d+")
_C_LIBRARY = re.compile(r"libc\.so\.6|libc\.musl-.*\.so\.1|ld-musl-.*\.so\.1")
_AT_ONCE = 200


def is_elf(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(4) == _ELF
    except OSError:
        return False


def needed_libraries(files: Iterable[Path]) -> tuple[Path, ...]:
    """What the dynamic loader would load for these ELF files, as it names it. Raises ImageError without `ldd`."""
    ldd = shutil.which("ldd")
    if ldd is None:
        raise ImageError("building an image needs `ldd`, which comes with the C library (Debian: apt install libc-bin)")
    names = sorted(str(file) for file in files)
    found: set[str] = set()
    for start in range(0, len(names), _AT_ONCE):
        # A statically linked program makes ldd fail for it alone; that is no error.
        answer = subprocess.run(
            [ldd, *names[start : start + _AT_ONCE]],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
        found.update(_FOUND.findall(answer))
        for name in sorted(set(_MISSING.findall(answer))):
            log.warning("The library %s is not on this machine; what needs it will not work in the image.", name)
    return tuple(Path(name) for name in sorted(found))


def library_folder(libraries: Iterable[Path]) -> str:
    """The folder of the C library, as a path in an image (usr/lib/x86_64-linux-gnu)."""
    for library in libraries:
        if _C_LIBRARY.fullmatch(library.name):
            return in_usr(os.path.realpath(library.parent).lstrip("/"))
    raise ImageError("the interpreter uses no C library that Sunabox knows (glibc or musl): use another interpreter")


def add_libraries(tree: LayerTree, folder: str, libraries: Iterable[Path], present: Collection[Path] = ()) -> None:
    """Adds libraries to a tree, but not those of `present` (real paths), which are in the image already."""
    for library in libraries:
        real = library.resolve()
        if real in present:
            continue
        # The loader's path is written into every program; all else is found by its name.
        path = in_usr(str(library).lstrip("/")) if _LOADER.fullmatch(library.name) else f"{folder}/{library.name}"
        tree.file(path, real, 0o755)


def in_usr(path: str) -> str:
    """A path in an image, where bin, sbin, lib and lib64 are links into usr."""
    first, _, _ = path.partition("/")
    return f"usr/{path}" if first in ("bin", "sbin", "lib", "lib64") else path
