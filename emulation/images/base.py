"""Images that others start from, made of what is on this machine: no registry, nothing downloaded.

All stand on the layer of the running interpreter, which also has the small Linux that their entry points need. The same
machine gives the same digests.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulation.images.build import PATH, write_image
from emulation.images.interpreter import GROUP, PASSWD, VERSION, base_layer, base_libraries
from emulation.images.layer_writer import LayerTree
from emulation.images.library import Library
from emulation.images.reference import ImageReference
from emulation.images.shared_libraries import add_libraries, is_elf, needed_libraries
from emulation.images.source import ResolvedImage

LABEL = "sunabox.base"
"""An image's label that says which of the images here it is."""
VERSION_LABEL = "sunabox.version"
"""The label with the version of the server in it."""
RECIPE_LABEL = "sunabox.recipe"
"""The label that tells images of one version of our own programs from those of another."""
_ENTRY_POINTS = Path(__file__).parent / "entrypoints"


@dataclass(frozen=True)
class Recipe:
    """An image's content above the interpreter's layer, and how it runs. `run` is its configuration's `config`."""

    name: str
    version: str
    trees: Sequence[LayerTree] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)


def build_base(name: str, library: Library, names: Sequence[str] = ()) -> ResolvedImage:
    """Makes the image `name`, one of BASES, and adds it to `library` under `names`, else as sunabox/NAME:VERSION.

    Raises ImageError that says what is missing on this machine.
    """
    for reference in names:
        ImageReference.parse(reference)  # a wrong name is said at once, not after the work
    recipe = BASES[name]()
    layers = [base_layer(library.blobs, library.root / "cache")]
    layers += [tree.write(library.blobs) for tree in recipe.trees]
    environment = {"PATH": PATH, "LANG": "C.UTF-8", **recipe.environment}
    run = {
        "Env": [f"{key}={value}" for key, value in environment.items()],
        "Labels": {LABEL: recipe.name, VERSION_LABEL: recipe.version, RECIPE_LABEL: recipe_digest()},
        **recipe.run,
    }
    digest = write_image(library, run, layers, f"sunabox image base {name}")
    added = library.add(digest, names or [default_name(name, recipe.version)])
    return library.read(added[0].name)


def default_name(name: str, version: str) -> str:
    return f"sunabox/{name}:{version}"


def recipe_digest() -> str:
    """Changes when one of our own programs in the images does."""
    files = sorted(_ENTRY_POINTS.iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()[:16]


def entry_point(tree: LayerTree, path: str, file: str) -> None:
    """Adds one of our own programs to an image."""
    tree.file(path, (_ENTRY_POINTS / file).read_bytes(), 0o755)


def add_account(tree: LayerTree, name: str, number: int, home: str) -> None:
    """A user, and the group of that name."""
    tree.file("etc/passwd", f"{PASSWD}{name}:x:{number}:{number}::{home}:/bin/sh\n".encode())
    tree.file("etc/group", f"{GROUP}{name}:x:{number}:\n".encode())
    entry_point(tree, "usr/local/bin/as-user", "as_user.py")


def add_needed_libraries(tree: LayerTree) -> None:
    """The shared libraries of all programs in a tree, but for those of the interpreter's layer and the tree's own."""
    programs = [file for file in tree.host_files() if is_elf(file)]
    folder, present = base_libraries()
    add_libraries(tree, folder, needed_libraries(programs), present | {file.resolve() for file in programs})


def _python() -> Recipe:
    return Recipe("python", VERSION.removeprefix("python"), run={"Cmd": ["python3"]})


def _postgres() -> Recipe:
    from emulation.images.base_servers import postgres

    return postgres()


def _redis() -> Recipe:
    from emulation.images.base_servers import redis

    return redis()


def _emulator() -> Recipe:
    from emulation.images.base_emulator import emulator

    return emulator()


BASES: Mapping[str, Callable[[], Recipe]] = {
    "python": _python,
    "postgres": _postgres,
    "redis": _redis,
    "emulator": _emulator,
}
