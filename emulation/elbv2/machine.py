"""One target's loop body: does what the plan says, and writes down what came of it. It carries no decisions."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from typing import assert_never

from emulation.clock import Clock, Timer
from emulation.core.states import Lifecycle
from emulation.elbv2 import states
from emulation.elbv2.check import check_http
from emulation.elbv2.plan import CheckTarget, Move, TargetAction, TargetObserved
from emulation.elbv2.records import HealthCheck, Target
from emulation.elbv2.states import CHECKED, State
from emulation.network.network import Network
from emulation.network.reach import Reach
from emulation.network.security import Party

log = logging.getLogger(__name__)


class TargetMachine:
    """`wake` asks for another look at the target, `moved` tells that its health, or its way, is another."""

    def __init__(
        self,
        group_arn: str,
        target: Target,
        network: Network,
        clock: Clock,
        wake: Callable[[], object],
        moved: Callable[["TargetMachine"], object],
    ) -> None:
        self.group_arn, self.target = group_arn, target
        self.observed = TargetObserved(State.UNUSED)
        self.configured = False
        self.source: Party | None = None
        self.check = HealthCheck()
        self.delay = timedelta(0)
        self._network, self._clock, self._wake, self._moved = network, clock, wake, moved
        self._lifecycle = Lifecycle(states.TARGET, f"target {target}")
        self._reach: Reach | None = None
        self._check_reach: Reach | None = None
        self._checking: asyncio.Task[None] | None = None
        self._timer: Timer | None = None

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Where the host reaches the target; None while no load balancer may."""
        return self._reach.address if self._reach is not None else None

    def settle(self, source: Party | None, check: HealthCheck, delay: timedelta) -> None:
        """What holds from now on. `source` is the load balancer, as security groups see it, or None without one."""
        if check.port != self.check.port:
            self._close_check_reach()
        self.check, self.delay = check, delay
        if source != self.source:
            self.source = source
            for reach in (self._reach, self._check_reach):
                if reach is not None and source is not None:
                    reach.come_from(source)

    def apply(self, action: TargetAction) -> None:
        match action:
            case Move():
                self._move(action)
            case CheckTarget():
                self._begin_check()
            case _:
                assert_never(action)

    def close(self) -> None:
        self._end_checks()
        self._close_check_reach()
        if self._reach is not None:
            self._reach.close()
            self._reach = None

    def _move(self, move: Move) -> None:
        before = self.observed.state
        state = self._lifecycle.happen(move.event, self._clock.now())
        log.info("target %s of %s: %s → %s: %s", self.target, self.group_arn, before, state, move.cause)
        self.observed = replace(self.observed, state=state, passes=0, failures=0, drain_until=None)
        match state:
            case State.INITIAL:
                self._open()
            case State.DRAINING:
                self._end_checks()
                self.observed = replace(self.observed, drain_until=self._clock.now() + self.delay)
            case State.UNUSED | State.GONE:
                self.close()
            case _:
                pass
        self._moved(self)
        self._wake()

    def _open(self) -> None:
        assert self.source is not None, "a target without a load balancer is unused"
        if self._reach is None:
            self._reach = self._network.reach(self.source, IPv4Address(self.target.id), self.target.port)
        self.configured = False
        self.observed = replace(self.observed, failure=None, check_due=True)

    def _begin_check(self) -> None:
        self.observed = replace(self.observed, checking=True, check_due=False)
        self._checking = asyncio.get_running_loop().create_task(self._make_check(), name=f"check {self.target}")

    async def _make_check(self) -> None:
        port = self.check.port or self.target.port
        host = f"{self.target.id}:{port}"
        with self._clock.working(f"health check of {host}"):
            failure = await check_http(
                self._check_address(), host, self.check.path, self.check.timeout, self.check.matcher
            )
            seen = self.observed
            passes, failures = (seen.passes + 1, 0) if failure is None else (0, seen.failures + 1)
            self.observed = replace(
                seen, checking=False, passes=passes, failures=failures, failure=failure or seen.failure
            )
            self._timer = self._clock.call_at(self._clock.now() + self.check.interval, self._due, exact=False)
            if failure is not None and failure != seen.failure:
                self._moved(self)
            self._wake()

    def _check_address(self) -> tuple[str, int]:
        assert self._reach is not None and self.source is not None, "only targets with a way are checked"
        if self.check.port in (None, self.target.port):
            return self._reach.address
        if self._check_reach is None:
            self._check_reach = self._network.reach(self.source, self._reach.ip, self.check.port)
        return self._check_reach.address

    def _due(self) -> None:
        if self.observed.state in CHECKED:
            self.observed = replace(self.observed, check_due=True)
            self._wake()

    def _end_checks(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        self.observed = replace(self.observed, checking=False, check_due=False)

    def _close_check_reach(self) -> None:
        if self._check_reach is not None:
            self._check_reach.close()
            self._check_reach = None
