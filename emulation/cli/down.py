"""`sunabox down`: stops a Sunabox and waits until it is gone."""

import os
import select
import socket
from threading import Event
from urllib.parse import urlsplit

import click

from emulation.cli.options import endpoint_option
from emulation.errors import SunaboxError
from emulation.gateway.control_client import ControlClient

_PATIENCE_SECONDS = 60
_LOOK_SECONDS = 0.05


@click.command(name="down")
@endpoint_option
@click.option("--port", type=click.IntRange(1, 65535), help="Short for --endpoint-url http://127.0.0.1:PORT.")
def command(endpoint_url: str, port: int | None) -> None:
    """Stop Sunabox and everything that runs in it."""
    client = ControlClient(f"http://127.0.0.1:{port}" if port else endpoint_url)
    status = client.status()
    process = _process(int(status["pid"]), str(status["pid_namespace"]))
    try:
        client.shutdown()
        gone = _wait_for_process(process) if process is not None else _wait_for_silence(client.endpoint_url)
    finally:
        if process is not None:
            os.close(process)
    if not gone:
        raise SunaboxError(
            f"Sunabox at {client.endpoint_url} (pid {status['pid']}) still stops after {_PATIENCE_SECONDS} s. "
            "Its log says what it waits for."
        )
    click.echo(f"Stopped Sunabox at {client.endpoint_url}.")


def _process(pid: int, pid_namespace: str) -> int | None:
    """A descriptor that becomes readable when the process ends; None where it cannot be had.

    Not so on macOS, and not where Sunabox is in another PID namespace (a container): its pid is another process here.
    """
    try:
        if os.readlink("/proc/self/ns/pid") != pid_namespace:
            return None
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _wait_for_process(process: int) -> bool:
    return bool(select.select([process], [], [], _PATIENCE_SECONDS)[0])


def _wait_for_silence(endpoint_url: str) -> bool:
    parts = urlsplit(endpoint_url)
    for _ in range(int(_PATIENCE_SECONDS / _LOOK_SECONDS)):
        try:
            socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1).close()
        except OSError:
            return True
        Event().wait(_LOOK_SECONDS)
    return False
