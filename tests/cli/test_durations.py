from datetime import timedelta

import pytest

from emulation.gateway.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("1d", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
        ("1w2d3h4m5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
        ("0.5s", timedelta(milliseconds=500)),
        (" 1d ", timedelta(days=1)),
    ],
)
def test_a_duration_is_read_as_it_is_written(text: str, duration: timedelta) -> None:
    """Weeks, days, hours, minutes and seconds add up."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "1", "d", "-1d", "1x", "1m1h", "1d1d", "1 d", "1.d", "1e3s", "٣s", "99999999999w"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else raises ValueError, and the message shows how to write one."""
    with pytest.raises(ValueError, match="duration|too long"):
        parse_duration(text)


@pytest.mark.parametrize(
    "duration", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=1.05), timedelta(days=9999, microseconds=7)]
)
def test_a_duration_survives_the_way_over_the_control_api(duration: timedelta) -> None:
    """What is formatted is read back to the microsecond."""
    assert parse_duration(format_duration(duration)) == duration
