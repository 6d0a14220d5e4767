"""`sunabox status`: what runs, for people or for programs."""

import json
from collections.abc import Iterator, Mapping

import click

from emulation.cli.options import endpoint_option
from emulation.gateway.control_client import ControlClient

_FIRST = ("endpoint_url", "version", "runtime", "pid", "uptime_seconds", "clock")
_UNSEEN = {"product", "pid_namespace"}


@click.command(name="status")
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(endpoint_url: str, as_json: bool) -> None:
    """Show what runs."""
    status = ControlClient(endpoint_url).status()
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    order = [*(key for key in _FIRST if key in status), *sorted(status.keys() - set(_FIRST) - _UNSEEN)]
    rows = list(_rows({key: status[key] for key in order}))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _rows(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name} ")
        elif isinstance(value, list):
            yield name, ", ".join(str(item) for item in value) or "-"
        else:
            yield name, _words(value)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
