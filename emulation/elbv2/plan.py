"""What to do next with a target. Pure: values in, a plan out.

Theory of operation. A target that is registered in a group that a listener forwards to is checked, again and again, and
moves between its states by what the checks say: the first success makes it healthy; later, thresholds decide. When it
is deregistered it drains: it gets no new requests, and is gone when the deregistration delay has passed.

Source: Health checks for Application Load Balancer target groups; Deregistration delay.
"""

from dataclasses import dataclass
from datetime import datetime

from emulation.core.plan import Action, Plan
from emulation.elbv2 import states
from emulation.elbv2.health import Failure
from emulation.elbv2.records import HealthCheck
from emulation.elbv2.states import CHECKED, State


@dataclass(frozen=True)
class Move(Action):
    """An event of the state table."""

    event: str
    cause: str


@dataclass(frozen=True)
class CheckTarget(Action):
    """Makes one health check."""

    cause: str


TargetAction = Move | CheckTarget


@dataclass(frozen=True, slots=True)
class TargetDesired:
    """`in_use`: a listener forwards to its group. `zone_enabled`: the load balancer has a subnet in its zone."""

    registered: bool
    in_use: bool
    zone_enabled: bool
    check: HealthCheck


@dataclass(frozen=True, slots=True)
class TargetObserved:
    """`passes` and `failures` are those in a row; `check_due` that the interval has passed since the last check."""

    state: State
    passes: int = 0
    failures: int = 0
    failure: Failure | None = None
    checking: bool = False
    check_due: bool = False
    drain_until: datetime | None = None


def plan_target(desired: TargetDesired, observed: TargetObserved, now: datetime) -> Plan[TargetAction]:
    if not desired.registered:
        return _leave(observed, now)
    usable = desired.in_use and desired.zone_enabled
    if observed.state is State.DRAINING:
        return Plan((Move(states.REGISTERED, "it was registered again"),))
    if observed.state is State.UNUSED:
        return Plan((Move(states.USED, "a listener forwards to its group"),) if usable else ())
    if not usable:
        cause = "no listener forwards to its group" if not desired.in_use else "the load balancer is not in its zone"
        return Plan((Move(states.DISUSED, cause),))
    if verdict := _verdict(desired.check, observed):
        return Plan((verdict,))
    if observed.check_due and not observed.checking:
        return Plan((CheckTarget("its first health check" if observed.state is State.INITIAL else "interval passed"),))
    return Plan()


def _leave(observed: TargetObserved, now: datetime) -> Plan[TargetAction]:
    if observed.state is State.GONE:
        return Plan()
    if observed.state is not State.DRAINING:
        return Plan((Move(states.DEREGISTERED, "it was deregistered"),))
    if observed.drain_until is not None and now < observed.drain_until:
        return Plan((), observed.drain_until)
    return Plan((Move(states.DRAINED, "the deregistration delay has passed"),))


def _verdict(check: HealthCheck, observed: TargetObserved) -> Move | None:
    assert observed.state in CHECKED
    needed = 1 if observed.state is State.INITIAL else check.healthy_threshold
    if observed.state is not State.HEALTHY and observed.passes >= needed:
        return Move(states.PASSED, f"{observed.passes} of {needed} health checks passed")
    if observed.state is not State.UNHEALTHY and observed.failures >= check.unhealthy_threshold:
        failed = f"{observed.failures} of {check.unhealthy_threshold} health checks failed"
        return Move(states.FAILED, f"{failed}: {observed.failure.description if observed.failure else 'unknown'}")
    return None
