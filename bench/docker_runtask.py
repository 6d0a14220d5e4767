"""Tasks on the docker runtime beside bare `docker run -d` of the same image, in turns. Needs a daemon, and root."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.figures import Figure, spread
from bench.servers import sunabox
from bench.tasks import Tasks
from emulation.images import archive
from emulation.images.build import build_python_app
from emulation.images.library import Library
from emulation.runtime.dockerd import address

_ONE_BY_ONE = 6
_TARGET = 1.15
_PAUSE_SECONDS = 0.02
_REST_SECONDS = 0.3
"""After each, so that what removes the last one does not slow the next."""
_IMAGE = "sunabox-bench:1"
_PROGRAM = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"


def measure(rounds: int) -> Iterator[Figure]:
    if not address.usable():
        url = address.daemon_url()
        print(f"left out: {address.obstacle(url) or f'no Docker daemon answers at {url}'}")
        return
    with TemporaryDirectory(prefix="sunabox-bench-") as folder:
        library, app, saved = Library(Path(folder) / "images"), Path(folder) / "app", Path(folder) / "image.tar"
        app.mkdir()
        (app / "pyproject.toml").write_text('[project]\nname = "idle"\nversion = "1"\n')
        build_python_app(app, library=library, names=[_IMAGE], command=["python", "-c", _PROGRAM])
        archive.save(library, [_IMAGE], saved)
        _docker("load", "--quiet", "--input", str(saved))
        try:
            with sunabox("docker", {"SUNABOX_IMAGES": str(library.root)}) as server:
                tasks = Tasks(server, "200000000000", {"image": _IMAGE, "stopTimeout": 2})
                ours: list[float] = []
                bare: list[float] = []
                _one(tasks)  # loads the image
                _bare()
                for _ in range(rounds * _ONE_BY_ONE):
                    bare.append(_bare())
                    ours.append(_one(tasks))
        finally:
            _docker("rmi", "--force", _IMAGE)
    remark = f"{median(ours) * 1000:.0f} ms, docker run {median(bare) * 1000:.0f} ms ({spread(bare, 'ms', 1000)})"
    yield Figure("RunTask → RUNNING on docker ÷ docker run -d", median(ours) / median(bare), "", _TARGET, True, remark)


def _one(tasks: Tasks) -> float:
    seconds, arns = tasks.timed(1, _PAUSE_SECONDS)
    tasks.stop(arns)
    tasks.wait(arns, "STOPPED", _PAUSE_SECONDS)
    time.sleep(_REST_SECONDS)
    return seconds


def _bare() -> float:
    begun = time.perf_counter()
    container = _docker("run", "--detach", _IMAGE)
    seconds = time.perf_counter() - begun
    _docker("rm", "--force", container)
    time.sleep(_REST_SECONDS)
    return seconds


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()
