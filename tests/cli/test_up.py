"""`sunabox up`: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from emulation.cli.main import sunabox

if TYPE_CHECKING:
    from tests.cli.conftest import Foreground, Run

    Up = Callable[..., Foreground]


def test_it_prints_where_it_serves_before_it_says_ready(up: Up, run: Run) -> None:
    """The endpoint and an export line to copy come before "Ready."; then it answers there."""
    foreground = up("--runtime=memory").read_until("Ready.")
    url = foreground.endpoint_url
    hint = foreground.lines[foreground.lines.index(url) + 1]
    assert hint.startswith(f"export AWS_ENDPOINT_URL={url} ")
    assert run("status", "--endpoint-url", url).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_is_no_failure(up: Up, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with 0, after the cloud has stopped; its log goes to stderr only."""
    foreground = up().read_until("Ready.")
    foreground.signal(number)
    code, out, err = foreground.end()
    assert (code, out) == (0, "cloud stopped\n")
    assert "Traceback" not in err
    assert "stopping" in err


def test_a_signal_during_the_start_stops_it(up: Up, environment: dict[str, str]) -> None:
    """It does not wait for a start that takes long, and never says "Ready."."""
    environment["STANDIN_START_SECONDS"] = "60"
    foreground = up().read_until("starting")
    foreground.signal(signal.SIGTERM)
    code, out, err = foreground.end()
    assert (code, out) == (0, "cloud stopped\n")
    assert "Traceback" not in err


def test_a_second_ctrl_c_hurries(up: Up, environment: dict[str, str]) -> None:
    """It ends without waiting for what stops slowly, and its exit code says that it was interrupted."""
    environment["STANDIN_STOP_SECONDS"] = "60"
    foreground = up().read_until("Ready.")
    foreground.signal(signal.SIGINT)
    assert foreground.process.stderr is not None
    for line in foreground.process.stderr:
        if "stopping" in line:
            break
    foreground.signal(signal.SIGINT)
    code, out, err = foreground.end()
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_a_reader_that_leaves_does_not_stop_it(up: Up, run: Run) -> None:
    """`sunabox up | head -1` serves on."""
    foreground = up().read_until("Ready.")
    assert foreground.process.stdout is not None
    foreground.process.stdout.close()
    assert run("status", "--endpoint-url", foreground.endpoint_url).returncode == 0
    foreground.process.stdout = None
    foreground.signal(signal.SIGTERM)
    foreground.process.wait(20)


def test_a_taken_port_is_named_with_what_to_do(run: Run) -> None:
    """One line, no trace, exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("up", f"--port={port}")
    assert result.returncode == 1
    assert f"127.0.0.1:{port} is taken" in result.stderr
    assert "--port" in result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("No user namespaces. Pass --runtime memory.", "sunabox: No user namespaces. Pass --runtime memory."),
        ("bug: this", "sunabox: ValueError: bug: this."),
    ],
)
def test_a_failed_start_is_explained_without_a_trace(
    run: Run, environment: dict[str, str], failure: str, expected: str
) -> None:
    """The message alone; SUNABOX_DEBUG=1 adds where it came from."""
    environment["STANDIN_FAILURE"] = failure
    result = run("up", "--port=0")
    assert result.returncode == 1
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert "Ready." not in result.stdout
    environment["SUNABOX_DEBUG"] = "1"
    assert "Traceback" in run("up", "--port=0").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--speed=0"],
        ["--speed=-1"],
        ["--speed=nan"],
        ["--speed=inf"],
        ["--speed=fast"],
        ["--speed=2", "--virtual-clock"],
        ["--port=65536"],
        ["--port=-1"],
        ["--runtime=podman"],
        [f"--data-dir={__file__}"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    """Exit code 2, before anything is loaded or started."""
    result = CliRunner().invoke(sunabox, ["up", *arguments])
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_options_reach_the_cloud(up: Up, run: Run, tmp_path: Path) -> None:
    """The runtime, the data folder and the clock are those that were asked for."""
    url = up("--virtual-clock", f"--data-dir={tmp_path}", "--runtime=process").read_until("Ready.").endpoint_url
    status = json.loads(run("status", "--json", "--endpoint-url", url).stdout)
    assert (status["runtime"], status["data_dir"], status["clock"]["frozen"]) == ("process", str(tmp_path), True)


def test_listening_beyond_loopback_is_warned_of(up: Up) -> None:
    """Whoever asks for it is told what it means; who does not is not bothered."""
    exposed, usual = up("--host=0.0.0.0").read_until("Ready."), up().read_until("Ready.")
    for foreground in (exposed, usual):
        foreground.signal(signal.SIGTERM)
    assert "not a loopback address" in exposed.end()[2]
    assert "not a loopback address" not in usual.end()[2]


class TestDetached:
    """`sunabox up --detach`."""

    def test_it_runs_on_until_it_is_taken_down(self, run: Run, tmp_path: Path) -> None:
        """It prints pid, log and endpoint when it serves; `down` returns when the process is gone."""
        started = run("up", "--detach", "--port=0")
        assert started.returncode == 0, started.stderr
        url = started.stdout.splitlines()[1]
        try:
            status = json.loads(run("status", "--json", "--endpoint-url", url).stdout)
            log = tmp_path / "state" / "sunabox" / f"{url.rpartition(':')[2]}.log"
            assert f"pid {status['pid']}, log {log}" in started.stdout
            assert "Ready." in log.read_text()
        finally:
            stopped = run("down", "--endpoint-url", url)
        assert (stopped.returncode, stopped.stdout) == (0, f"Stopped Sunabox at {url}.\n")
        assert not _runs(status["pid"])
        assert run("down", "--endpoint-url", url).returncode == 1

    def test_a_second_one_on_the_same_port_says_that_the_first_runs(self, run: Run) -> None:
        """It starts nothing, and is no failure."""
        first = run("up", "--detach", "--port=0")
        url = first.stdout.splitlines()[1]
        try:
            second = run("up", "--detach", f"--port={url.rpartition(':')[2]}")
            assert second.returncode == 0
            assert "already running" in second.stdout
            assert first.stdout.split("pid ")[1].split(",")[0] in second.stdout
        finally:
            run("down", "--endpoint-url", url)

    def test_a_failed_start_shows_the_end_of_the_log(self, run: Run, environment: dict[str, str]) -> None:
        """Exit code 1, and the reason, without having to open a file."""
        environment["STANDIN_FAILURE"] = "No user namespaces."
        result = run("up", "--detach", "--port=0")
        assert result.returncode == 1
        assert "sunabox: No user namespaces." in result.stderr
        assert "Traceback" not in result.stderr

    def test_another_program_on_the_port_is_named(self, run: Run) -> None:
        """What answers there and is no Sunabox does not count as one that already runs."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            taken.listen()
            result = run("up", "--detach", f"--port={port}")
        assert result.returncode == 1
        assert f"127.0.0.1:{port} is taken" in result.stderr


def _runs(pid: int) -> bool:
    """Whether a process exists that is more than a zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
