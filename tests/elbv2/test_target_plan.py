"""The life of a target, decided: values in, a plan's words out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.elbv2 import states
from emulation.elbv2.health import FAILED, TIMED_OUT, describe, matches, mismatch, receiving
from emulation.elbv2.plan import CheckTarget, Move, TargetDesired, TargetObserved, plan_target
from emulation.elbv2.records import HealthCheck, TargetHealth
from emulation.elbv2.states import State

NOW = datetime(2024, 1, 1, tzinfo=UTC)
DESIRED = TargetDesired(registered=True, in_use=True, zone_enabled=True, check=HealthCheck(healthy_threshold=3))


@pytest.mark.parametrize(
    ("desired", "observed", "plan"),
    [
        ({"in_use": False}, {"state": State.UNUSED}, "(nothing to do)"),
        ({}, {"state": State.UNUSED}, "Move Used — a listener forwards to its group"),
        ({}, {"state": State.INITIAL, "check_due": True}, "CheckTarget — its first health check"),
        ({}, {"state": State.INITIAL, "check_due": True, "checking": True}, "(nothing to do)"),
        ({}, {"state": State.INITIAL, "passes": 1}, "Move Passed — 1 of 1 health checks passed"),
        ({}, {"state": State.INITIAL, "failures": 1, "failure": TIMED_OUT}, "(nothing to do)"),
        (
            {},
            {"state": State.HEALTHY, "failures": 2, "failure": mismatch(404)},
            "Move Failed — 2 of 2 health checks failed: Health checks failed with these codes: [404]",
        ),
        ({}, {"state": State.UNHEALTHY, "passes": 2}, "(nothing to do)"),
        ({}, {"state": State.UNHEALTHY, "passes": 3}, "Move Passed — 3 of 3 health checks passed"),
        ({"zone_enabled": False}, {"state": State.HEALTHY}, "Move Disused — the load balancer is not in its zone"),
        ({"in_use": False}, {"state": State.HEALTHY}, "Move Disused — no listener forwards to its group"),
        ({"registered": False}, {"state": State.HEALTHY}, "Move Deregistered — it was deregistered"),
        ({"registered": False}, {"state": State.DRAINING, "drain_until": NOW + timedelta(1)}, "(nothing to do)"),
        (
            {"registered": False},
            {"state": State.DRAINING, "drain_until": NOW},
            "Move Drained — the deregistration delay has passed",
        ),
        ({}, {"state": State.DRAINING}, "Move Registered — it was registered again"),
    ],
)
def test_what_is_next_for_a_target(desired: dict[str, bool], observed: dict[str, object], plan: str) -> None:
    """Each situation of a target has one next step, with its reason."""
    assert str(plan_target(replace(DESIRED, **desired), TargetObserved(**observed), NOW)) == plan  # type: ignore[arg-type]


def test_draining_is_looked_at_again_when_the_delay_ends() -> None:
    """Nothing else would wake a target that drains."""
    end = NOW + timedelta(minutes=5)
    observed = TargetObserved(State.DRAINING, drain_until=end)
    assert plan_target(replace(DESIRED, registered=False), observed, NOW).wake_at == end


@given(st.lists(st.sampled_from(["pass", "fail", "use", "disuse", "register", "deregister", "later"]), max_size=60))
def test_whatever_happens_every_step_is_in_the_table_and_comes_to_rest(events: list[str]) -> None:
    """Any history leads through the table only, and only a target with enough passed checks in a row is healthy."""
    desired, observed, now, streak = DESIRED, TargetObserved(State.UNUSED), NOW, 0
    for event in events:
        if event in ("use", "disuse"):
            desired = replace(desired, in_use=event == "use")
        elif event in ("register", "deregister"):
            desired = replace(desired, registered=event == "register")
        elif event == "later":
            now += timedelta(minutes=10)
        elif observed.state in states.CHECKED and event == "pass":
            observed = replace(observed, passes=observed.passes + 1, failures=0)
            streak += 1
        elif observed.state in states.CHECKED:
            observed = replace(observed, failures=observed.failures + 1, passes=0, failure=FAILED)
            streak = 0
        for _ in range(5):
            moves = [a for a in plan_target(desired, observed, now).actions if isinstance(a, Move)]
            if not moves:
                break
            before, state = observed.state, states.TARGET.next(observed.state, moves[0].event)
            if state is State.GONE:
                return
            assert state is not State.HEALTHY or streak >= (1 if before is State.INITIAL else 3)
            until = now + timedelta(minutes=5) if state is State.DRAINING else None
            observed = TargetObserved(state, drain_until=until, check_due=state is State.INITIAL)
            streak = 0
        else:
            raise AssertionError("it never comes to rest")
        checks = [a for a in plan_target(desired, observed, now).actions if isinstance(a, CheckTarget)]
        assert not checks or observed.state in states.CHECKED


@pytest.mark.parametrize(
    ("matcher", "code", "fits"),
    [("200", 200, True), ("200,202", 202, True), ("200-299,301", 301, True), ("200-299", 300, False)],
)
def test_success_codes(matcher: str, code: int, fits: bool) -> None:
    """A matcher names codes and ranges."""
    assert matches(matcher, code) is fits


def test_the_reasons_are_in_the_words_of_aws() -> None:
    """What people search the web for."""
    said = {
        (state, configured, in_use): describe(state, configured=configured, failure=TIMED_OUT, in_use=in_use)
        for state in State
        for configured in (False, True)
        for in_use in (False, True)
    }
    assert said[State.INITIAL, False, True] == TargetHealth(
        "initial", "Elb.RegistrationInProgress", "Target registration is in progress"
    )
    assert said[State.INITIAL, True, True] == TargetHealth(
        "initial", "Elb.InitialHealthChecking", "Initial health checks in progress"
    )
    assert said[State.UNHEALTHY, True, True] == TargetHealth("unhealthy", "Target.Timeout", "Request timed out")
    assert said[State.UNUSED, True, False].reason == said[State.UNUSED, True, True].reason == "Target.NotInUse"
    assert said[State.HEALTHY, True, True] == TargetHealth("healthy")


def test_requests_go_to_healthy_targets_or_if_there_is_none_to_all_unhealthy_ones() -> None:
    """It fails open; targets that were not checked yet, or that drain, get nothing either way."""
    mixed = {1: State.HEALTHY, 2: State.UNHEALTHY, 3: State.INITIAL, 4: State.DRAINING}
    assert receiving(mixed) == [1]
    assert receiving({**mixed, 1: State.UNHEALTHY}) == [1, 2]
    assert receiving({3: State.INITIAL, 4: State.DRAINING}) == []
