"""`sunabox clock`: what time it is in the emulated cloud, and how to turn it."""

from datetime import timedelta

import click

from emulation.cli import options
from emulation.cli.options import endpoint_option
from emulation.gateway.control_client import ClockState, ControlClient


@click.group(name="clock")
def command() -> None:
    """Show or turn the clock of the emulated cloud."""


@command.command()
@endpoint_option
def show(endpoint_url: str) -> None:
    """Show the time, its speed, and when something is due next."""
    _print(ControlClient(endpoint_url).clock())


@command.command()
@click.argument("duration", type=options.duration)
@endpoint_option
def advance(duration: timedelta, endpoint_url: str) -> None:
    """Move time on by DURATION (90s, 15m, 1h30m, 1d, 2w) and do all that comes due on the way."""
    _print(ControlClient(endpoint_url).advance(duration))


@command.command()
@click.argument("speed", type=options.speed)
@endpoint_option
def speed(speed: float, endpoint_url: str) -> None:
    """Let time pass SPEED times as fast as the machine's."""
    _print(ControlClient(endpoint_url).set_speed(speed))


@command.command()
@endpoint_option
def freeze(endpoint_url: str) -> None:
    """Let time stand still."""
    _print(ControlClient(endpoint_url).freeze())


@command.command()
@endpoint_option
def resume(endpoint_url: str) -> None:
    """Let time go on at the speed that it had before it was frozen."""
    _print(ControlClient(endpoint_url).resume())


def _print(state: ClockState) -> None:
    pace = "frozen" if state.frozen else "real time" if state.speed == 1 else f"{state.speed:g} times real time"
    click.echo(f"{state.now.isoformat(timespec='seconds')}  {pace}")
    if state.next_deadline is not None:
        click.echo(f"next due: {state.next_deadline.isoformat(timespec='seconds')}")
