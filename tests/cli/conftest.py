"""The command `sunabox` as a program, with a stand-in for the cloud (see standin/)."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STANDIN = Path(__file__).parent / "standin"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of the programs; a test may add to it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SUNABOX_"))}
    return {**kept, "PYTHONPATH": str(STANDIN), "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Runs a command to its end."""

    def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "emulation.cli.main", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)

    return run_command


class Foreground:
    """A `sunabox up` that runs. `lines` is what it printed on stdout up to and with "Ready."."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def read_until(self, text: str) -> "Foreground":
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self.lines[-1] == text:
                return self
        raise AssertionError(f"it ended without {text!r}: {self.lines}, {self.end()}")

    @property
    def endpoint_url(self) -> str:
        return next(line for line in self.lines if line.startswith("http://"))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Its exit code and what else it printed on stdout and stderr, when it has ended by itself."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def up(environment: dict[str, str]) -> Iterator[Callable[..., Foreground]]:
    """Starts `sunabox up --port 0` with more arguments; whatever still runs after the test is killed."""
    started: list[Foreground] = []

    def start(*arguments: str) -> Foreground:
        process = subprocess.Popen(
            [sys.executable, "-m", "emulation.cli.main", "up", "--port=0", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Foreground(process))
        return started[-1]

    yield start
    for foreground in started:
        foreground.process.kill()
        foreground.process.communicate()
