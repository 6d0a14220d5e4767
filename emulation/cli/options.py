"""Options and types of options that several commands have."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from emulation.gateway.durations import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ENDPOINT = "http://127.0.0.1:4566"


def endpoint_option(command: F) -> F:
    """`--endpoint-url`: which Sunabox the command speaks to."""
    return click.option(
        "--endpoint-url",
        metavar="URL",
        envvar="AWS_ENDPOINT_URL",
        default=DEFAULT_ENDPOINT,
        help=f"Where Sunabox answers. [default: AWS_ENDPOINT_URL, else {DEFAULT_ENDPOINT}]",
    )(command)


def duration(text: str) -> timedelta:
    """The type of an option that takes a duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def speed(text: str) -> float:
    """The type of an option that takes the speed of a clock."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise click.BadParameter(
            f"{text!r} is not a speed. Give a number greater than 0; 60 makes a minute pass in a second."
        )
    return value
