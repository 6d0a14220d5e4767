"""Formulas of parameters, maintenance windows, and which parameters reach the server when."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.rds.failures import RdsError
from emulation.rds.parameters import Chosen, Parameter, evaluate, for_server
from emulation.rds.validation import maintenance_window, master_password, next_window, version

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.mark.parametrize(
    ("formula", "instance_class", "value"),
    [
        ("17", "db.t3.micro", "17"),
        ("{DBInstanceClassMemory/32768}", "db.t3.micro", "32768"),
        ("LEAST({DBInstanceClassMemory/9531392},5000)", "db.t3.micro", "112"),
        ("GREATEST({DBInstanceClassMemory*1/63963136},1024)", "db.r5.large", None),
        ("GREATEST({DBInstanceClassMemory/63963136},64)", "db.r5.large", "268"),
        ("SUM({DBInstanceClassMemory/12038},-50003)", "db.t3.micro", "39193"),
        ("{AllocatedStorage/2}", "db.t3.micro", None),
        ("LEAST({DBInstanceClassMemory/2}", "db.t3.micro", None),
    ],
)
def test_formulas_are_those_of_aws(formula: str, instance_class: str, value: str | None) -> None:
    """DBInstanceClassMemory is the class's memory in bytes; what is no formula is refused, not guessed."""
    assert evaluate(formula, instance_class) == value


def test_parameters_are_told_apart_by_when_they_act() -> None:
    """Static ones, and those that were asked to wait, come with a reboot; what the server does not know stays out."""
    known = {name: Parameter(name, "integer", static) for name, static in (("a", False), ("b", True), ("port", True))}
    chosen = {
        "a": Chosen("1"),
        "b": Chosen("2", "pending-reboot"),
        "port": Chosen("3", "pending-reboot"),
        "unknown": Chosen("4"),
        "rds.logical_replication": Chosen("1", "pending-reboot"),
    }
    assert for_server(chosen, known, "db.t3.micro") == ((("a", "1"),), (("b", "2"), ("wal_level", "logical")))
    waiting = for_server({"a": Chosen("1", "pending-reboot")}, known, "db.t3.micro")
    assert waiting == ((), (("a", "1"),))


@given(
    minutes=st.integers(0, 5_000_000),
    begins=st.integers(0, 7 * 24 * 60 - 1),
    length=st.integers(30, 24 * 60),
)
def test_the_next_window_is_the_first_that_is_not_over(minutes: int, begins: int, length: int) -> None:
    """It is open at that moment, it is not in the past, and never more than a week ahead."""
    now = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes, seconds=minutes % 60)
    text = "-".join(
        f"{DAYS[minute // 1440]}:{minute // 60 % 24:02}:{minute % 60:02}"
        for minute in (begins, (begins + length) % 10080)
    )
    opens = next_window(maintenance_window(text), now)
    monday = (now - timedelta(days=now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    into = ((opens - monday) - timedelta(minutes=begins)) % timedelta(days=7)
    assert now <= opens <= now + timedelta(days=7)
    assert into < timedelta(minutes=length)
    assert opens == now or into == timedelta(0)


@given(st.text(max_size=140))
def test_no_password_gets_through_that_aws_would_refuse(password: str) -> None:
    """Only printable ASCII besides / @ " and blank, 8 to 128 characters; and all of those do."""
    good = 8 <= len(password) <= 128 and all("!" <= c <= "~" and c not in '/@"' for c in password)
    if good:
        assert master_password(password) == password
    else:
        with pytest.raises(RdsError) as refusal:
            master_password(password)
        assert refusal.value.code == "InvalidParameterValue"


@pytest.mark.parametrize("asked", ["9.1", "19.1", "16.99", "sixteen", "16.", "16.4.1"])
def test_versions_that_never_were_are_refused(asked: str) -> None:
    """With AWS's words, in which the version and the engine stand."""
    with pytest.raises(RdsError, match=f"^Cannot find version {asked} for postgres$"):
        version("postgres", asked, "18.6")
