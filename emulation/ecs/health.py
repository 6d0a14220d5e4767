"""Container health checks: a command in the container, again and again. Source: API reference, HealthCheck."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from emulation.clock import Clock
from emulation.ecs.definition import HealthCheck
from emulation.ecs.observation import Health
from emulation.runtime.base import Container, Line


def verdict(
    check: HealthCheck, failures: int, healthy_before: bool, in_start_period: bool, passed: bool
) -> Health | None:
    """What one more result means, `failures` being those in a row including this one; None leaves the health as it is.

    Failures within the start period do not count unless the container was healthy before.
    """
    if passed:
        return Health.HEALTHY
    if in_start_period and not healthy_before:
        return None
    return Health.UNHEALTHY if failures >= check.retries else None


async def check_health(
    check: HealthCheck, container: Container, clock: Clock, changed: Callable[[Health], None]
) -> None:
    """Checks until it is cancelled. `changed` is told of every change."""
    health, failures, started = Health.UNKNOWN, 0, clock.now()
    while True:
        await clock.sleep(check.interval, exact=False)
        with clock.working("container health check"):
            passed = await _passes(check, container)
        in_start_period = clock.now() < started + check.start_period
        counts = passed or not in_start_period or health is Health.HEALTHY
        failures = 0 if passed else failures + counts
        now = verdict(check, failures, health is Health.HEALTHY, in_start_period, passed)
        if now is not None and now is not health:
            health = now
            changed(health)


async def _passes(check: HealthCheck, container: Container) -> bool:
    kind, *words = check.command
    command = ("/bin/sh", "-c", *words) if kind == "CMD-SHELL" else tuple(words) if kind == "CMD" else check.command
    try:
        execution = await container.execute(command, _ignore)
    except Exception:  # whatever keeps the command from starting is a failed check
        return False
    try:
        return await asyncio.wait_for(execution.wait(), check.timeout.total_seconds()) == 0
    except TimeoutError:
        with suppress(Exception):
            await execution.kill()
        return False


async def _ignore(_line: Line) -> None:
    """The output of a health check is not shown anywhere."""
