"""What a health check's outcome means, what DescribeTargetHealth says, and who gets requests. Pure.

Source: Health checks for Application Load Balancer target groups; API reference, TargetHealth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from emulation.elbv2.records import TargetHealth
from emulation.elbv2.states import State

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a health check failed, in AWS's reason code and description."""

    reason: str
    description: str


TIMED_OUT = Failure("Target.Timeout", "Request timed out")
FAILED = Failure("Target.FailedHealthChecks", "Health checks failed")
NOT_REGISTERED = TargetHealth("unused", "Target.NotRegistered", "Target is not registered to the target group")

_REGISTERING = ("Elb.RegistrationInProgress", "Target registration is in progress")
_CHECKING = ("Elb.InitialHealthChecking", "Initial health checks in progress")
_DRAINING = ("Target.DeregistrationInProgress", "Target deregistration is in progress")
_NO_LISTENER = (
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)
_OTHER_ZONE = (
    "Target.NotInUse",
    "Target is in an Availability Zone that is not enabled for the load balancer",
)


def mismatch(code: int) -> Failure:
    return Failure("Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{code}]")


def matches(matcher: str, code: int) -> bool:
    """Whether a status is among the success codes: "200", "200,202", "200-299"."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= code <= int(high or low):
            return True
    return False


def describe(state: State, *, configured: bool, failure: Failure | None, in_use: bool) -> TargetHealth:
    """`configured` says whether the load balancer knows the target yet; `failure` is that of the last failed check."""
    match state:
        case State.INITIAL:
            return TargetHealth(state, *(_CHECKING if configured else _REGISTERING))
        case State.UNHEALTHY:
            failure = failure or FAILED
            return TargetHealth(state, failure.reason, failure.description)
        case State.DRAINING:
            return TargetHealth(state, *_DRAINING)
        case State.UNUSED:
            return TargetHealth(state, *(_OTHER_ZONE if in_use else _NO_LISTENER))
        case _:
            return TargetHealth(state)


def receiving(states: Mapping[T, State]) -> list[T]:
    """The targets that new requests go to: the healthy ones, or all that are unhealthy where none is healthy.

    Source: Health checks …: "if a target group contains only unhealthy registered targets, the load balancer routes
    requests to all those targets" (it fails open).
    """
    healthy = [target for target, state in states.items() if state is State.HEALTHY]
    return healthy or [target for target, state in states.items() if state is State.UNHEALTHY]


def newest(registered: bool, seen: TargetHealth | None, in_use: bool) -> TargetHealth:
    """The health to show: what was seen last may be older than what was asked last."""
    if registered and (seen is None or seen.state == State.DRAINING):
        state = State.INITIAL if in_use else State.UNUSED
        return describe(state, configured=False, failure=None, in_use=False)
    if not registered and seen is not None and seen.state != State.DRAINING:
        return describe(State.DRAINING, configured=True, failure=None, in_use=in_use)
    return seen or NOT_REGISTERED


def health_json(health: TargetHealth) -> dict[str, str]:
    shown = {"State": str(health.state), "Reason": health.reason, "Description": health.description}
    return {name: value for name, value in shown.items() if value}
