"""`sunabox logs`: prints a log group, and follows it."""

from datetime import timedelta
from threading import Event

import click

from emulation.cli.options import duration, endpoint_option

_LOOK_SECONDS = 0.2


@click.command(name="logs")
@click.argument("group")
@click.option("--follow", "-f", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@click.option("--since", type=duration, help="Only what was logged within this duration, like 10m.")
@click.option("--stream", metavar="PREFIX", help="Only streams whose name begins so.")
@endpoint_option
def command(group: str, follow: bool, since: timedelta | None, stream: str | None, endpoint_url: str) -> None:
    """Print the log lines of a CloudWatch Logs GROUP."""
    from emulation.cli.aws import aws_client, aws_errors_explained
    from emulation.gateway.control_client import ControlClient
    from emulation.logs.follow import log_lines

    # The emulated cloud's clock says how long ago something was; it may be another time there.
    start = None if since is None else ControlClient(endpoint_url).clock().now - since
    pause = Event()
    with aws_errors_explained():
        for line in log_lines(
            aws_client("logs", endpoint_url),
            group,
            stream_prefix=stream,
            since=start,
            wait=(lambda: pause.wait(_LOOK_SECONDS)) if follow else None,
        ):
            when = line.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            click.echo(f"{click.style(when, dim=True)} {click.style(line.stream, fg='cyan')} {line.message}")
