"""The life of a target, as a table. Source: Target groups for your Application Load Balancers, health status."""

from enum import StrEnum

from emulation.core.states import Table


class State(StrEnum):
    """AWS's health states, and GONE for a target of which nothing is left."""

    UNUSED = "unused"
    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    GONE = "gone"


USED = "Used"
DISUSED = "Disused"
PASSED = "Passed"
FAILED = "Failed"
REGISTERED = "Registered"
DEREGISTERED = "Deregistered"
DRAINED = "Drained"

CHECKED = (State.INITIAL, State.HEALTHY, State.UNHEALTHY)
"""The states in which health checks are made."""

TARGET = Table(
    "target",
    {
        (State.UNUSED, USED): State.INITIAL,
        (State.UNUSED, DEREGISTERED): State.GONE,
        (State.INITIAL, PASSED): State.HEALTHY,
        (State.INITIAL, FAILED): State.UNHEALTHY,
        (State.HEALTHY, FAILED): State.UNHEALTHY,
        (State.UNHEALTHY, PASSED): State.HEALTHY,
        **{(state, DISUSED): State.UNUSED for state in CHECKED},
        **{(state, DEREGISTERED): State.DRAINING for state in CHECKED},
        (State.DRAINING, REGISTERED): State.INITIAL,
        (State.DRAINING, DRAINED): State.GONE,
    },
)
