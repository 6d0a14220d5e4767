"""Tasks on the process runtime: one after the other, fifty at once, and what is left of them."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.figures import Figure, spread
from bench.servers import descendants, sunabox
from bench.tasks import Tasks
from emulation.images.build import build_python_app
from emulation.images.library import Library

_ONE_BY_ONE = 10
_AT_ONCE = 50
_TARGET_ONE_SECONDS = 0.15
_TARGET_ALL_SECONDS = 10.0
_PAUSE_SECONDS = 0.005
_IMAGE = "sunabox-bench:1"
_PROGRAM = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"
_MARK = "a-task-of-sunabox-bench"


def measure(rounds: int) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="sunabox-bench-") as folder:
        images = Path(folder) / "images"
        app = Path(folder) / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text('[project]\nname = "idle"\nversion = "1"\n')
        build_python_app(app, library=Library(images), names=[_IMAGE], command=["python", "-c", _PROGRAM, _MARK])
        with sunabox("process", {"SUNABOX_IMAGES": str(images)}) as server:
            # A stop signal may come before the program listens to it; nothing here is about how long that would take.
            tasks = Tasks(server, "200000000000", {"image": _IMAGE, "stopTimeout": 2})
            _, first = tasks.timed(1, _PAUSE_SECONDS)  # unpacks the image
            _end(tasks, first)
            idle = len(descendants(server.pid))
            one: list[float] = []
            every: list[float] = []
            for _ in range(rounds):
                for _ in range(_ONE_BY_ONE):
                    seconds, arns = tasks.timed(1, _PAUSE_SECONDS)
                    one.append(seconds)
                    _end(tasks, arns)
                seconds, arns = tasks.timed(_AT_ONCE, _PAUSE_SECONDS)
                every.append(seconds)
                _end(tasks, arns)
            time.sleep(0.2)
            left = len(descendants(server.pid)) - idle + _programs()
    milliseconds = [seconds * 1000 for seconds in one]
    remark = spread(milliseconds, "ms")
    yield Figure("RunTask → RUNNING on process", median(milliseconds), "ms", _TARGET_ONE_SECONDS * 1000, remark=remark)
    remark = spread(every, "s")
    yield Figure(f"{_AT_ONCE} tasks on process, all RUNNING", median(every), "s", _TARGET_ALL_SECONDS, remark=remark)
    yield Figure("processes left after all have stopped", left, "", 0, ratio=True)


def _end(tasks: Tasks, arns: list[str]) -> None:
    tasks.stop(arns)
    tasks.wait(arns, "STOPPED", _PAUSE_SECONDS)


def _programs() -> int:
    """How many programs of tasks run anywhere on this machine."""
    count = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += file.read_bytes().rstrip(b"\0").endswith(_MARK.encode())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count
