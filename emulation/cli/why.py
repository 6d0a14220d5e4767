"""`sunabox why`: what is wrong with a task, a service or a target, and where to change it."""

import click

from emulation.cli.options import endpoint_option
from emulation.gateway.control_client import ControlClient


@click.command(name="why")
@endpoint_option
@click.argument("subject", metavar="TASK|SERVICE|TARGET")
def command(endpoint_url: str, subject: str) -> None:
    """Say in sentences why a task, a service or a target is as it is.

    A task is given by its id or ARN, a service by its name or ARN, a target by its address (10.0.1.5 or 10.0.1.5:7777)
    or by the name or ARN of its target group.
    """
    for answer in ControlClient(endpoint_url).why(subject):
        click.echo(answer)
