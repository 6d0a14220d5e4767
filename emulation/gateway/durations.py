"""Durations as people write them: 90s, 15m, 1h30m, 1d, 2w."""

import re
from datetime import timedelta

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in ("w", "d", "h", "m", "s")))
_UNITS = ("weeks", "days", "hours", "minutes", "seconds")


def parse_duration(text: str) -> timedelta:
    """The duration that `text` says, largest unit first and each at most once. ValueError where it says none."""
    match = _DURATION.fullmatch(text.strip())
    parts = (
        {unit: float(number) for unit, number in zip(_UNITS, match.groups(), strict=True) if number} if match else {}
    )
    if not parts:
        raise ValueError(f"{text!r} is not a duration. Write it like 90s, 15m, 1h30m, 1d or 2w.")
    try:
        return timedelta(**parts)
    except OverflowError:
        raise ValueError(f"{text!r} is too long: a clock does not go beyond the year 9999.") from None


def format_duration(duration: timedelta) -> str:
    """Text from which `parse_duration` makes the same duration."""
    return f"{duration // timedelta(seconds=1)}.{duration.microseconds:06}s"
