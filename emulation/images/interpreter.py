"""The lowest layer of a Python image: the running interpreter, its standard library, and what a small Linux needs.

The interpreter moves to /usr/local, wherever it is on this machine (pyenv, uv, a virtual environment's base), so that
images hold no path of the machine they were built on. It finds its library from where its program is.
"""

import hashlib
import json
import os
import shutil
import ssl
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from emulation.errors import ImageError
from emulation.images.blobs import BlobStore
from emulation.images.bytecode import add_bytecode
from emulation.images.layer_writer import LayerTree, WrittenLayer
from emulation.images.manifest import OCI_LAYER_GZIP, Descriptor
from emulation.images.shared_libraries import add_libraries, is_elf, library_folder, needed_libraries

_FORMAT = 1
"""To be raised with every change of what the layer contains: it is part of the cache's key."""

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
STANDARD_LIBRARY = f"usr/local/{sys.platlibdir}/{VERSION}"
SITE_PACKAGES = f"{STANDARD_LIBRARY}/site-packages"
EXECUTABLE = f"usr/local/bin/{VERSION}"

_LEFT_OUT_FOLDERS = {
    "__pycache__", "dist-packages", "ensurepip", "idlelib", "site-packages", "test", "tests", "tkinter", "turtledemo",
}  # fmt: skip
_LEFT_OUT_MODULES = ("_tkinter.", "_test", "_ctypes_test.", "xxlimited", "xxsubtype")
_PROGRAMS = (
    "awk", "basename", "bash", "cat", "chmod", "chown", "cp", "cut", "date", "df", "dirname", "du", "echo",
    "env", "expr", "false", "find", "grep", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mktemp",
    "mv", "nproc", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq", "sh", "sleep", "sort",
    "stat", "sync", "tail", "tee", "test", "timeout", "touch", "tr", "true", "uname", "uniq", "wc", "which",
    "whoami", "xargs",
)  # fmt: skip
# Loaded by name while a program runs, so no list of needed libraries has them.
_LOADED_LATER = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1")
_CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_FOLDERS = {
    "app": 0o755, "dev": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
    "usr/sbin": 0o755, "var/log": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/app:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
)
GROUP = "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n"
_FILES = {
    "etc/passwd": PASSWD,
    "etc/group": GROUP,
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/resolv.conf": "",
    "etc/os-release": 'ID=sunabox\nNAME="Sunabox"\nPRETTY_NAME="Sunabox Python image"\n',
}


def base_layer(blobs: BlobStore, cache: Path) -> WrittenLayer:
    """The layer, made once for an interpreter and then kept: `cache` remembers its digests, `blobs` has it.

    Raises ImageError where the interpreter cannot be moved into an image.
    """
    remembered = cache / f"base-{_identity()}.json"
    try:
        known = json.loads(remembered.read_text(encoding="utf-8"))
        if blobs.has(known["digest"]):
            return WrittenLayer(Descriptor(OCI_LAYER_GZIP, known["digest"], known["size"]), known["diff_id"])
    except (OSError, ValueError, KeyError):
        pass  # not made yet, or damaged
    layer = _tree().write(blobs)
    cache.mkdir(parents=True, exist_ok=True)
    upload = blobs.new_upload()
    upload.write_text(
        json.dumps({"digest": layer.descriptor.digest, "size": layer.descriptor.size, "diff_id": layer.diff_id}),
        encoding="utf-8",
    )
    upload.replace(remembered)
    return layer


def base_libraries() -> tuple[str, frozenset[Path]]:
    """The folder for libraries in the image, and the real paths of those that the base layer has."""
    libraries = _libraries()
    return library_folder(libraries), frozenset(library.resolve() for library in libraries)


def _tree() -> LayerTree:
    tree = LayerTree()
    for path, mode in _FOLDERS.items():
        tree.folder(path, mode)
    for path in ("bin", "sbin", "lib", "lib64"):
        tree.folder(f"usr/{path}")
        tree.link(path, f"usr/{path}")
    for path, text in _FILES.items():
        tree.file(path, text.encode())
    for name, program in _programs().items():
        tree.file(f"usr/bin/{name}", program, 0o755)
    _add_interpreter(tree)
    _add_certificates(tree)
    add_bytecode(tree)
    add_libraries(tree, library_folder(libraries := _libraries()), libraries)
    return tree


def _libraries() -> tuple[Path, ...]:
    libraries = needed_libraries(_programs_and_extensions())
    beside = next(library.parent for library in libraries if library.name.startswith(("libc.", "ld-musl")))
    return (*libraries, *(beside / name for name in _LOADED_LATER if (beside / name).is_file()))


def _add_interpreter(tree: LayerTree) -> None:
    tree.file(EXECUTABLE, _executable(), 0o755)
    for name in ("python", "python3"):
        tree.link(f"usr/local/bin/{name}", VERSION)
    for path, file in _standard_library():
        tree.file(path, file)
    tree.folder(SITE_PACKAGES)
    if "posix_local" in sysconfig.get_scheme_names():
        # Debian's interpreters look for packages in dist-packages only.
        tree.file(
            f"{STANDARD_LIBRARY}/sitecustomize.py", f"import site\nsite.addsitedir('/{SITE_PACKAGES}')\n".encode()
        )


def _add_certificates(tree: LayerTree) -> None:
    places = ssl.get_default_verify_paths()
    botocore = find_spec("botocore")
    shipped = str(Path(botocore.origin).parent / "cacert.pem") if botocore and botocore.origin else ""
    for bundle in (places.cafile, *_CA_BUNDLES, shipped):
        if bundle and Path(bundle).is_file():
            tree.file(_CA_BUNDLE, Path(bundle).read_bytes())
            break
    expected = places.openssl_cafile.lstrip("/")  # OpenSSL's own place was fixed when it was compiled
    if expected and expected != _CA_BUNDLE:
        tree.link(expected, f"/{_CA_BUNDLE}")


def _executable() -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.base_prefix, "bin", f"python{version}"), Path(sys.executable)]
    for candidate in candidates:
        if candidate.is_file() and is_elf(candidate):
            return candidate.resolve()
    raise ImageError(f"no interpreter is found in {sys.base_prefix}: run Sunabox with a regular CPython for Linux")


def _standard_library() -> list[tuple[str, Path]]:
    source = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    files = []
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if name not in _LEFT_OUT_FOLDERS and not name.startswith("config-")]
        for name in names:
            if name.startswith(_LEFT_OUT_MODULES) or name.endswith((".pyc", ".a")) or name == "sitecustomize.py":
                continue
            file = Path(folder, name)
            if file.is_file():
                files.append((f"{STANDARD_LIBRARY}/{file.relative_to(source)}", file))
    if not files:
        raise ImageError(f"{source} has no standard library: run Sunabox with a regular CPython for Linux")
    return files


def _programs() -> dict[str, Path]:
    found = {name: shutil.which(name, path="/usr/bin:/bin") for name in _PROGRAMS}
    return {name: Path(path).resolve() for name, path in found.items() if path is not None}


def _programs_and_extensions() -> list[Path]:
    extensions = [file for _, file in _standard_library() if ".so" in file.name]
    return [file for file in (_executable(), *_programs().values(), *extensions) if is_elf(file)]


def _identity() -> str:
    """Changes when the interpreter, its standard library, the C library or one of the programs does."""
    files = [_executable(), *_programs().values(), *(file for _, file in _standard_library())]
    files += [Path(bundle) for bundle in _CA_BUNDLES if Path(bundle).is_file()]
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((_FORMAT, sys.version, stamps)).encode()).hexdigest()[:32]
