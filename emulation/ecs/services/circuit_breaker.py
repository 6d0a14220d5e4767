"""When a deployment has failed, and how long to wait before the next attempt to start a task. Pure.

Source: How the Amazon ECS deployment circuit breaker detects failures; Amazon ECS service throttle logic.
"""

from datetime import timedelta

IMPAIRED_AFTER = 3
"""So many tasks in a row that never came to run make ECS say that it is unable to start tasks consistently."""

_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(minutes=27)
# Emulation: on AWS a task takes about half a minute to start, which paces a container that exits at once; here it takes
# milliseconds, so such tasks get a pace of their own.
CRASH_PAUSE = timedelta(seconds=10)


def threshold(desired_count: int) -> int:
    """How many failed tasks make a deployment fail: half of those that are desired, rounded up; from 3 to 200."""
    return min(max(3, -(-desired_count // 2)), 200)


def pause_after(failed_starts: int) -> timedelta:
    """The first task that fails to start is replaced at once, then the pause doubles."""
    # Emulation: AWS names the maximum alone.
    if failed_starts <= 1:
        return timedelta(0)
    return min(_FIRST_PAUSE * (1 << min(failed_starts - 2, 20)), _LONGEST_PAUSE)
