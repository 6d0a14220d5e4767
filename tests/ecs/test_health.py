"""What results of container health checks mean."""

from datetime import timedelta

from emulation.ecs.definition import HealthCheck
from emulation.ecs.health import Verdict
from emulation.ecs.observation import Health

CHECK = HealthCheck(("CMD", "true"), retries=2, start_period=timedelta(minutes=1))
YOUNG, OLD = timedelta(seconds=30), timedelta(minutes=2)


def test_retries_failures_in_a_row_make_a_container_unhealthy() -> None:
    """One less does not; a success in between begins the count anew."""
    verdict = Verdict().after(False, CHECK, OLD)
    assert verdict.health is Health.UNKNOWN
    assert verdict.after(False, CHECK, OLD).health is Health.UNHEALTHY
    assert verdict.after(True, CHECK, OLD).after(False, CHECK, OLD).health is Health.HEALTHY


def test_failures_of_the_start_period_do_not_count() -> None:
    """A container that is still starting is neither healthy nor unhealthy."""
    verdict = Verdict()
    for _ in range(5):
        verdict = verdict.after(False, CHECK, YOUNG)
    assert verdict == Verdict()
    assert verdict.after(True, CHECK, YOUNG).health is Health.HEALTHY


def test_a_container_that_was_healthy_has_no_start_period_any_more() -> None:
    """What breaks after the first success is broken, however young it is."""
    verdict = Verdict().after(True, CHECK, YOUNG)
    assert verdict.after(False, CHECK, YOUNG).after(False, CHECK, YOUNG).health is Health.UNHEALTHY


def test_a_success_heals() -> None:
    """UNHEALTHY is not for ever."""
    sick = Verdict(Health.UNHEALTHY, 7)
    assert sick.after(True, CHECK, OLD) == Verdict(Health.HEALTHY)
