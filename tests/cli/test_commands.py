"""The commands that speak to a running Sunabox, and what they say where none runs."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from emulation.cli.main import sunabox

if TYPE_CHECKING:
    from tests.cli.conftest import Foreground, Run

    Up = Callable[..., Foreground]


@pytest.fixture
def url(up: Up) -> str:
    """The endpoint of a Sunabox with a clock that stands still."""
    return up("--virtual-clock", "--runtime=memory").read_until("Ready.").endpoint_url


def test_the_status_is_for_people_and_for_programs(run: Run, url: str) -> None:
    """Both name the endpoint and the runtime; --json prints one object."""
    text = run("status", "--endpoint-url", url).stdout
    assert [line.split()[-1] for line in text.splitlines() if line.startswith(("endpoint", "runtime"))] == [
        url,
        "memory",
    ]
    assert json.loads(run("status", "--json", "--endpoint-url", url).stdout)["endpoint_url"] == url


def test_the_clock_is_turned_from_the_command_line(run: Run, url: str, environment: dict[str, str]) -> None:
    """advance, speed, freeze and resume each show the clock afterwards; the endpoint may come from the environment."""
    environment["AWS_ENDPOINT_URL"] = url
    before = json.loads(run("status", "--json").stdout)["clock"]["now"]
    assert run("clock", "show").stdout == f"{before}  frozen\n"
    after = run("clock", "advance", "1d").stdout
    assert int(after[8:10]) != int(before[8:10])
    assert after[11:19] == before[11:19]
    assert run("clock", "speed", "60").stdout.endswith("  60 times real time\n")
    assert run("clock", "freeze").stdout.endswith("  frozen\n")
    assert run("clock", "resume").stdout.endswith("  60 times real time\n")


@pytest.mark.parametrize(
    "arguments", [["advance", "1x"], ["advance", ""], ["speed", "0"], ["speed", "-3"], ["speed", "x"]]
)
def test_bad_durations_and_speeds_are_refused(arguments: list[str]) -> None:
    """Exit code 2, whether or not a Sunabox runs."""
    result = CliRunner().invoke(sunabox, ["clock", arguments[0], "--", *arguments[1:]])
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_a_jump_beyond_the_calendar_is_refused_by_the_clock(run: Run, url: str) -> None:
    """The message of the control API reaches the terminal."""
    result = run("clock", "advance", "4000000w", "--endpoint-url", url)
    assert (result.returncode, result.stderr) == (
        1,
        "sunabox: A clock does not go beyond the year 9999. Advance it by less.\n",
    )


@pytest.mark.parametrize("command", [["status"], ["down"], ["clock", "show"], ["logs", "/g", "--since", "1m"]])
def test_where_nothing_runs_it_says_how_to_start_it(run: Run, command: list[str]) -> None:
    """One line, exit code 1."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can come to serve there meanwhile
        result = run(*command, "--endpoint-url", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert result.returncode == 1
    assert "sunabox up" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("endpoint_url", ["127.0.0.1:4566", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x"])
def test_what_is_no_endpoint_is_refused(run: Run, endpoint_url: str) -> None:
    """The message shows how one is written."""
    result = run("status", "--endpoint-url", endpoint_url)
    assert result.returncode == 1
    assert "http://127.0.0.1:4566" in result.stderr


def test_the_version_is_that_of_the_package(run: Run) -> None:
    """`sunabox --version` prints the name and the version."""
    from emulation import __version__

    assert run("--version").stdout == f"sunabox {__version__}\n"


@pytest.mark.parametrize(
    "command", [[], *([name] for name in ("up", "down", "status", "clock", "image", "logs")), ["image", "build"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    """--help works everywhere and starts nothing."""
    result = CliRunner().invoke(sunabox, [*command, "--help"], prog_name="sunabox")
    assert result.exit_code == 0
    assert "Usage: sunabox" in result.output


def test_an_unknown_command_is_refused(run: Run) -> None:
    """Exit code 2."""
    assert run("dwon").returncode == 2
