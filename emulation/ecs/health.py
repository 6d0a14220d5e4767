"""Container health checks: a command in the container, again and again. Source: API reference, HealthCheck."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from emulation.clock import Clock
from emulation.ecs.definition import HealthCheck
from emulation.ecs.observation import Health
from emulation.runtime.base import Container, Line


@dataclass(frozen=True)
class Verdict:
    """What the checks so far say of a container. `failures` are those in a row that count."""

    health: Health = Health.UNKNOWN
    failures: int = 0

    def after(self, passed: bool, check: HealthCheck, age: timedelta) -> "Verdict":
        """The verdict after one more check of a container that started `age` ago.

        Failures within the start period do not count, unless the container has been healthy before.
        """
        if passed:
            return Verdict(Health.HEALTHY)
        if age < check.start_period and self.health is Health.UNKNOWN:
            return self
        failures = self.failures + 1
        return Verdict(Health.UNHEALTHY if failures >= check.retries else self.health, failures)


async def check_health(
    check: HealthCheck, container: Container, clock: Clock, changed: Callable[[Health], None]
) -> None:
    """Checks until it is cancelled. `changed` is told of every change."""
    verdict, started = Verdict(), clock.now()
    while True:
        await clock.sleep(check.interval, exact=False)
        with clock.working("container health check"):
            passed = await _passes(check, container)
        before, verdict = verdict, verdict.after(passed, check, clock.now() - started)
        if verdict.health is not before.health:
            changed(verdict.health)


async def _passes(check: HealthCheck, container: Container) -> bool:
    kind, *words = check.command
    command = ("/bin/sh", "-c", *words) if kind == "CMD-SHELL" else tuple(words) if kind == "CMD" else check.command
    try:
        execution = await container.execute(command, _ignore)
    except Exception:  # whatever keeps the command from starting is a failed check
        return False
    try:
        # Emulation: the timeout counts in the machine's time, for that is the time in which the command lives.
        return await asyncio.wait_for(execution.wait(), check.timeout.total_seconds()) == 0
    except TimeoutError:
        with suppress(Exception):
            await execution.kill()
        return False


async def _ignore(_line: Line) -> None:
    """The output of a health check is not shown anywhere."""
