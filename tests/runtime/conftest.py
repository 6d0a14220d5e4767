"""Fixtures of the runtimes' tests: an image, built once, and a stage for each kind of runtime."""

import fcntl
import os
from pathlib import Path

import pytest

from emulation.images.library import Library
from tests.runtime.stage import Theatre, build_image


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """An image with Python and a small Linux, built once, whatever the number of workers.

    The suite's second run, as an ordinary user, gets the first one's.
    """
    if built := os.environ.get("RUNTIME_TEST_LIBRARY"):
        return Library(Path(built))
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "runtime-image"
    with open(shared / "runtime-image.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            build_image(folder)
    return Library(folder / "library")


@pytest.fixture(scope="session")
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the session, so that the image is unpacked once."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(params=["memory", "process", pytest.param("docker", marks=pytest.mark.docker)])
def play(request: pytest.FixtureRequest) -> Theatre:
    """Plays a story on each runtime."""
    if request.param == "memory":
        return Theatre("memory", None, Path())
    if request.param == "docker":
        theatre: Theatre = request.getfixturevalue("play_docker")
        return theatre
    return Theatre("process", request.getfixturevalue("library"), request.getfixturevalue("runtime_folder"))


@pytest.fixture(scope="session")
def docker_url() -> str:
    """The address of a Docker daemon with which the docker runtime works here."""
    from emulation.runtime.dockerd import address

    url = address.daemon_url()
    if obstacle := address.obstacle(url):
        pytest.skip(obstacle)
    if not address.answers(url):
        pytest.skip(f"no Docker daemon answers at {url}")
    return url


@pytest.fixture(scope="session")
def docker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docker")


@pytest.fixture
def play_docker(docker_url: str, library: Library, docker_folder: Path) -> Theatre:
    """Plays a story on the docker runtime only."""
    return Theatre("docker", library, docker_folder)


@pytest.fixture
def play_process(library: Library, runtime_folder: Path) -> Theatre:
    """Plays a story on the process runtime only."""
    return Theatre("process", library, runtime_folder)
