"""The image of Sunabox itself: this package, and what it requires to drive a Docker daemon."""

import json
from importlib.metadata import Distribution, EntryPoints, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from emulation.errors import ImageError
from emulation.images.base import Recipe, add_needed_libraries
from emulation.images.build import read_project
from emulation.images.bytecode import add_bytecode
from emulation.images.distributions import add_commands, distributions_tree, required_distributions
from emulation.images.interpreter import SITE_PACKAGES
from emulation.images.layer_writer import LayerTree

_NAME = "sunabox"
_EXTRAS = ("docker",)
_PORT = 4566


def emulator() -> Recipe:
    """Raises ImageError where something that the emulator requires is not installed."""
    installed = _installed()
    checkout = _checkout(installed)
    if checkout is None:
        wanted = [f"{_NAME}[{','.join(_EXTRAS)}]"]
        requirements = required_distributions(wanted)
    else:
        project = read_project(checkout)
        wanted = [*project.requirements, *(text for extra in _EXTRAS for text in project.extras.get(extra, ()))]
        requirements = required_distributions(wanted, own_name=_NAME, own_extras=project.extras)
    others = [one for one in requirements if one.metadata["Name"] != _NAME]
    trees = [distributions_tree(others), _own_tree(installed)]
    return Recipe(
        "emulator",
        installed.version,
        trees,
        {"PYTHONUNBUFFERED": "1"},
        {
            # In a network of its own, only what listens on all addresses can be published.
            "Entrypoint": [_NAME, "up", "--host", "0.0.0.0"],
            "ExposedPorts": {f"{_PORT}/tcp": {}},
            "StopSignal": "SIGTERM",
        },
    )


def _own_tree(installed: Distribution) -> LayerTree:
    tree = LayerTree()
    package = Path(__file__).parent.parent
    for file in sorted(package.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            tree.file(f"{SITE_PACKAGES}/{package.name}/{file.relative_to(package)}", file)
    information = f"{SITE_PACKAGES}/{_NAME}-{installed.version}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        tree.file(f"{information}/{name}", (installed.read_text(name) or "").encode())
    add_commands(tree, EntryPoints(point for point in installed.entry_points if point.name == _NAME))
    if any(file.suffix == ".so" for file in tree.host_files()):
        add_needed_libraries(tree)
    add_bytecode(tree)
    return tree


def _installed() -> Distribution:
    try:
        return distribution(_NAME)
    except PackageNotFoundError:
        raise ImageError(f"{_NAME} is not installed, so its requirements are not known: pip install .") from None


def _checkout(installed: Distribution) -> Path | None:
    """The folder from which it is installed in editable mode, whose own pyproject.toml is newer than its metadata."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))
