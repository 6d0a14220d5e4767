"""Images of Python applications, made from the running interpreter: no Docker, no registry, nothing downloaded.

Three layers: the interpreter with its standard library and a small Linux, the installed distributions that the
application requires, and the application. The same input gives the same digests, so pushing an unchanged one is quick.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

from emulation.errors import ImageError
from emulation.images.blobs import digest_of
from emulation.images.bytecode import add_bytecode
from emulation.images.distributions import add_commands, distributions_tree, required_distributions
from emulation.images.interpreter import SITE_PACKAGES, base_layer
from emulation.images.layer_writer import LayerTree, WrittenLayer
from emulation.images.library import Library
from emulation.images.manifest import OCI_CONFIG, OCI_MANIFEST, Descriptor, host_platform
from emulation.images.reference import ImageReference
from emulation.images.source import ResolvedImage

_LEFT_OUT = {"__pycache__", "build", "dist", "node_modules", "venv"}
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Project:
    """What an application's folder says about it."""

    name: str
    version: str
    requirements: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]
    commands: Mapping[str, str]


def build_python_app(
    app: Path,
    *,
    library: Library,
    names: Sequence[str] = (),
    requirements: Sequence[str] = (),
    extras: Sequence[str] = (),
    entry_point: Sequence[str] = (),
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    ports: Sequence[int] = (),
    working_directory: str = "/app",
    user: str = "",
) -> ResolvedImage:
    """Makes an image of the application in the folder `app`, which is /app in it, and adds it to `library`.

    What the application requires is read from its pyproject.toml (with the optional dependencies `extras`), else from
    its requirements.txt; `requirements` come on top. All of it must be installed where this runs. Its packages can be
    imported, and its [project.scripts] are in the PATH. `names` are references such as `app:1`; without any the image
    is `<name of the project>:latest`. `ports` are TCP ports that it says it listens on; `user` is a name (root, app,
    nobody) or a number.

    Raises ImageError that says what is missing and how to install it.
    """
    app = app.resolve()
    if not app.is_dir():
        raise ImageError(f"{app} is no folder: give the folder of a Python application")
    for name in names:
        ImageReference.parse(name)  # a wrong name is said at once, not after the work
    project = read_project(app)
    if unknown := sorted(set(extras) - set(project.extras)):
        raise ImageError(f"{project.name} has no optional dependencies {', '.join(unknown)}: see its pyproject.toml")
    wanted = [*project.requirements, *requirements, *(text for extra in extras for text in project.extras[extra])]
    distributions = required_distributions(wanted, own_name=project.name, own_extras=project.extras)
    layers = [base_layer(library.blobs, library.root / "cache")]
    if distributions:
        layers.append(distributions_tree(distributions).write(library.blobs))
    layers.append(_app_tree(app, project).write(library.blobs))
    run: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in {"PATH": PATH, "LANG": "C.UTF-8", **(environment or {})}.items()],
        "WorkingDir": working_directory,
    }
    optional = {
        "Entrypoint": list(entry_point),
        "Cmd": list(command),
        "User": user,
        "ExposedPorts": {f"{port}/tcp": {} for port in sorted(ports)},
    }
    run |= {key: value for key, value in optional.items() if value}
    digest = write_image(library, run, layers)
    added = library.add(digest, names or [f"{_image_name(project.name)}:latest"])
    return library.read(added[0].name)


def read_project(app: Path) -> Project:
    """Raises ImageError where its pyproject.toml cannot be read."""
    try:
        table = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except FileNotFoundError:
        table = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{app / 'pyproject.toml'} cannot be read: {error}") from error
    requirements = table.get("dependencies")
    listed = app / "requirements.txt"
    if requirements is None and listed.is_file():
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in listed.read_text(encoding="utf-8").splitlines())
        requirements = [line for line in lines if line and not line.startswith("-")]
    return Project(
        table.get("name", app.name),
        table.get("version", "0"),
        tuple(requirements or ()),
        {extra: tuple(texts) for extra, texts in table.get("optional-dependencies", {}).items()},
        dict(table.get("scripts", {})),
    )


def _app_tree(app: Path, project: Project) -> LayerTree:
    tree = LayerTree()
    tree.folder("app")
    for folder, folders, names in os.walk(app):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        for name in names:
            file = Path(folder, name)
            if not name.startswith(".") and not name.endswith(".pyc") and file.is_file():
                tree.file(f"app/{file.relative_to(app)}", file)
    source = "/app/src" if (app / "src").is_dir() else "/app"
    distribution = re.sub(r"[-_.]+", "_", project.name)
    tree.file(f"{SITE_PACKAGES}/{distribution}.pth", f"{source}\n".encode())
    metadata = f"Metadata-Version: 2.1\nName: {project.name}\nVersion: {project.version}\n"
    scripts = "".join(f"{name} = {target}\n" for name, target in sorted(project.commands.items()))
    information = f"{SITE_PACKAGES}/{distribution}-{project.version}.dist-info"
    tree.file(f"{information}/METADATA", metadata.encode())
    tree.file(f"{information}/entry_points.txt", f"[console_scripts]\n{scripts}".encode())
    add_commands(
        tree, EntryPoints(EntryPoint(name, target, "console_scripts") for name, target in project.commands.items())
    )
    add_bytecode(tree)
    return tree


def _is_left_out(name: str) -> bool:
    return name in _LEFT_OUT or name.startswith(".") or name.endswith(".egg-info")


def write_image(
    library: Library, run: Mapping[str, Any], layers: Sequence[WrittenLayer], made_by: str = "sunabox image build"
) -> str:
    """Writes an image of layers that the library has, and gives its digest. `run` is the configuration's `config`."""
    platform = host_platform()
    config = _json(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "created": "1970-01-01T00:00:00Z",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": made_by} for _ in layers],
        }
    )
    library.blobs.put(config)
    return library.blobs.put(
        _json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": Descriptor(OCI_CONFIG, digest_of(config), len(config)).to_json(),
                "layers": [layer.descriptor.to_json() for layer in layers],
            }
        )
    )


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _image_name(project: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "app"
