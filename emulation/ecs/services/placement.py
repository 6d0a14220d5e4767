"""Which capacity provider a new task runs on, and which task goes first. Pure.

Source: Amazon ECS clusters for Fargate (capacity provider strategies: base, weight); Amazon ECS services, Service
scheduler concepts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from emulation.ecs.services.deployment import ProviderShare
from emulation.ecs.services.health import TaskSeen, Verdict


def providers(strategy: Sequence[ProviderShare], running: Iterable[str], count: int) -> tuple[str, ...]:
    """The providers of `count` more tasks: first the base, then so that the counts come closest to the weights."""
    if not strategy:
        return ("",) * count
    have = Counter(running)
    chosen = []
    for _ in range(count):
        short = next((s for s in strategy if have[s.provider] < s.base), None)
        weighted = [s for s in strategy if s.weight > 0] or list(strategy)
        pick = short or min(weighted, key=lambda s: ((have[s.provider] - s.base + 1) / max(s.weight, 1), -s.weight))
        have[pick.provider] += 1
        chosen.append(pick.provider)
    return tuple(chosen)


def first_to_stop(tasks: Sequence[tuple[TaskSeen, Verdict]], count: int) -> list[TaskSeen]:
    """Which `count` tasks stop when there are too many: those that serve nobody yet, then from the fullest zone.

    Within a zone the newest goes.
    """
    # Emulation: AWS promises no order among the tasks of a zone.
    left, chosen = list(tasks), []
    for _ in range(min(count, len(left))):
        zones = Counter(task.zone for task, _ in left)
        pick = min(left, key=lambda item: (_serves(item), -zones[item[0].zone], _age(item[0]), item[0].id))
        left.remove(pick)
        chosen.append(pick[0])
    return chosen


def _serves(item: tuple[TaskSeen, Verdict]) -> int:
    task, verdict = item
    if verdict is Verdict.UNHEALTHY:
        return 0
    return 1 if task.on_the_way else 2 if verdict is Verdict.WAITING else 3


def _age(task: TaskSeen) -> float:
    return -task.created_at.timestamp()
