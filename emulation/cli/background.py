"""`sunabox up --detach`: a Sunabox in the background, waited for until it serves, with its log in a file."""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from emulation.errors import SunaboxError
from emulation.gateway.control_client import ControlClient, NotRunning

_PATIENCE_SECONDS = 60.0
_TAIL_LINES = 15


def state_folder() -> Path:
    """$XDG_STATE_HOME/sunabox, else ~/.local/state/sunabox. Source: XDG Base Directory Specification."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "sunabox"


def start_in_background(host: str, port: int, arguments: Sequence[str]) -> None:
    """Starts `sunabox up` with these arguments and says where it serves. Raises SunaboxError where that fails."""
    if port and (running := _running(host, port)):
        pid, url, runtime = running["pid"], running["endpoint_url"], running["runtime"]
        click.echo(f"Sunabox is already running: pid {pid}, {url}, runtime {runtime}. `sunabox down` stops it.")
        return
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log_path = folder / (f"{port}.log" if port else f"start-{os.getpid()}.log")
        log_path.write_bytes(b"")
    except OSError as error:
        raise SunaboxError(f"Cannot write a log to {folder}: {error.strerror}. Set XDG_STATE_HOME.") from error
    pid, url = _start(log_path, arguments)
    if not port:
        log_path = log_path.replace(folder / f"{url.rpartition(':')[2]}.log")
    click.echo(f"Sunabox serves in the background: pid {pid}, log {log_path}\n{url}\nexport AWS_ENDPOINT_URL={url}")


def _running(host: str, port: int) -> dict[str, object] | None:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"[{reachable}]" if ":" in reachable else reachable
    try:
        return ControlClient(f"http://{address}:{port}").status(timeout_seconds=2)
    except NotRunning:
        return None


def _start(log_path: Path, arguments: Sequence[str]) -> tuple[int, str]:
    reading, writing = os.pipe()
    with log_path.open("ab") as log, os.fdopen(reading, "rb") as ready:
        # -P: a folder that it happens to be started in must not supply modules.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "emulation.cli.main", "up", *arguments, f"--ready-fd={writing}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)
        try:
            in_time = bool(select.select([ready], [], [], _PATIENCE_SECONDS)[0])
            url = ready.read().decode() if in_time else ""
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if url:
        process.returncode = 0  # It is left to itself: Popen must not warn that it still runs.
        return process.pid, url
    if not in_time:
        process.kill()
    process.wait()
    tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
    problem = "did not start" if in_time else f"did not start within {_PATIENCE_SECONDS:.0f} s"
    raise SunaboxError(f"Sunabox {problem}. The end of its log ({log_path}):\n{tail}")
