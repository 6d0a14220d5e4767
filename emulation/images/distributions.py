"""The middle layer of a Python image: the installed distributions that an application needs, found in the running
environment, so that nothing is downloaded.

Source: Python Packaging User Guide, "Recording installed projects" and "Dependency specifiers".
"""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, EntryPoints, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from emulation.errors import ImageError
from emulation.images.bytecode import add_bytecode
from emulation.images.interpreter import SITE_PACKAGES, base_libraries
from emulation.images.layer_writer import LayerTree
from emulation.images.shared_libraries import add_libraries, is_elf, needed_libraries

# How and from where a distribution was installed: other on every machine, and of no use in an image.
_LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}


def required_distributions(
    requirements: Iterable[str], *, own_name: str = "", own_extras: Mapping[str, Iterable[str]] | None = None
) -> tuple[Distribution, ...]:
    """The installed distributions that fulfil `requirements`, and theirs, sorted by name.

    `own_name` and `own_extras` are those of the application, which may require itself with an extra. Raises ImageError
    that names what is missing or has another version, and what to install.
    """
    found: dict[str, Distribution] = {}
    todo = [(text, "the application", "") for text in sorted(requirements, reverse=True)]
    seen: set[tuple[str, str]] = set()
    while todo:
        text, wanted_by, extra = todo.pop()
        requirement = _parse(text, wanted_by)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or (text, extra) in seen:
            continue
        seen.add((text, extra))
        name = canonicalize_name(requirement.name)
        if own_name and name == canonicalize_name(own_name):
            todo += [
                (wanted, own_name, own)
                for own in sorted(requirement.extras)
                for wanted in sorted((own_extras or {}).get(own, ()), reverse=True)
            ]
            continue
        installed = _installed(requirement, wanted_by)
        found[name] = installed
        for wanted in sorted(installed.requires or (), reverse=True):
            todo += [(wanted, name, own) for own in ("", *sorted(requirement.extras))]
    return tuple(found[name] for name in sorted(found))


def distributions_tree(distributions: Iterable[Distribution]) -> LayerTree:
    """The files of distributions where the image's interpreter finds them, with their commands in /usr/local/bin.

    Raises ImageError where the environment does not know which files belong to one.
    """
    tree = LayerTree()
    tree.folder(SITE_PACKAGES)
    for one in distributions:
        _add_files(tree, one)
        add_commands(tree, one.entry_points)
    if extensions := [file for file in tree.host_files() if is_elf(file)]:
        folder, present = base_libraries()
        own = {file.resolve() for file in extensions}
        add_libraries(tree, folder, needed_libraries(extensions), present | own)
    add_bytecode(tree)
    return tree


def add_commands(tree: LayerTree, entry_points: EntryPoints) -> None:
    """Adds a program to /usr/local/bin for every console script."""
    for script in entry_points.select(group="console_scripts"):
        function = script.attr or "main"
        lines = (
            "#!/usr/local/bin/python3",
            "import sys",
            f"from {script.module} import {function.partition('.')[0]}",
            f"sys.exit({function}())",
        )
        if PurePosixPath(script.name).name == script.name:
            tree.file(f"usr/local/bin/{script.name}", ("\n".join(lines) + "\n").encode(), 0o755)


def _parse(text: str, wanted_by: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ImageError(f"{text!r}, which {wanted_by} requires, is no requirement: {error}") from error


def _installed(requirement: Requirement, wanted_by: str) -> Distribution:
    plain = Requirement(str(requirement))
    plain.marker = None
    try:
        installed = distribution(requirement.name)
    except PackageNotFoundError:
        raise ImageError(
            f"{requirement.name} is not installed, and {wanted_by} requires it: pip install '{plain}'"
        ) from None
    if requirement.specifier and not requirement.specifier.contains(installed.version, prereleases=True):
        raise ImageError(
            f"{requirement.name} {installed.version} is installed, but {wanted_by} requires '{plain}': "
            f"pip install '{plain}'"
        )
    return installed


def _add_files(tree: LayerTree, one: Distribution) -> None:
    name = one.metadata["Name"]
    if one.files is None or _is_editable(one):
        reason = "in editable mode" if one.files is not None else "without a list of its files"
        raise ImageError(f"{name} is installed {reason}, so it cannot be copied: pip install --force-reinstall {name}")
    for entry in one.files:
        # Files elsewhere are commands, which are made anew, and data such as manual pages.
        if entry.is_absolute() or ".." in entry.parts or entry.suffix == ".pyc" or entry.name in _LEFT_OUT:
            continue
        file = Path(str(one.locate_file(entry)))
        if not file.is_file():
            raise ImageError(f"{file} is missing: pip install --force-reinstall {name}")
        tree.file(f"{SITE_PACKAGES}/{PurePosixPath(entry)}", file)


def _is_editable(one: Distribution) -> bool:
    origin = json.loads(one.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))
