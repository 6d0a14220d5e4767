"""Tasks on the memory runtime: a thousand at once, and whether a task costs the same among many as among few."""

from collections.abc import Iterator
from statistics import median

from bench.figures import Figure, spread
from bench.servers import sunabox
from bench.tasks import Tasks

_FEW, _MANY = 100, 1000
_TARGET_SECONDS = 5.0
_TARGET_RATIO = 1.5
_PAUSE_SECONDS = 0.02


def measure(rounds: int) -> Iterator[Figure]:
    seconds: dict[int, list[float]] = {_FEW: [], _MANY: []}
    with sunabox("memory") as server:
        _run(Tasks(server, "100000000000", {"image": "anything"}), 20)  # loads what the first task loads
        for number in range(rounds):
            for count in seconds:
                tasks = Tasks(server, f"1000000{number:02}{count:03}"[:12].ljust(12, "0"), {"image": "anything"})
                seconds[count].append(_run(tasks, count))
    many = seconds[_MANY]
    yield Figure(f"{_MANY} tasks on memory, all RUNNING", median(many), "s", _TARGET_SECONDS, remark=spread(many, "s"))
    yield per_task(seconds)


def per_task(seconds: dict[int, list[float]]) -> Figure:
    """How much more a task costs among many than among few. `seconds` are by the number of tasks."""
    few, many = (median(seconds[count]) / count for count in (min(seconds), max(seconds)))
    name = f"cost of a task among {max(seconds)}, beside one among {min(seconds)}"
    remark = f"{many * 1000:.2f} ms, {few * 1000:.2f} ms"
    return Figure(name, many / few, "", _TARGET_RATIO, ratio=True, remark=remark)


def _run(tasks: Tasks, count: int) -> float:
    seconds, arns = tasks.timed(count, _PAUSE_SECONDS)
    tasks.stop(arns)
    tasks.wait(arns, "STOPPED", _PAUSE_SECONDS)
    return seconds
