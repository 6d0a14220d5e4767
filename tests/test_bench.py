"""The benchmarks' arithmetic, on inputs so small that it can be checked by hand; nothing is measured here."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))  # the benchmarks are no part of the package that is installed

from bench import calls, memory_tasks, servers
from bench.__main__ import MEASUREMENTS, main
from bench.figures import Figure, compared, exit_code, spread


def test_every_measurement_can_be_run_by_its_name() -> None:
    """Each name that the command offers is a module with something to measure."""
    assert all(callable(import_module(f"bench.{name}").measure) for name in MEASUREMENTS)


def test_a_comparison_is_the_ratio_of_the_medians() -> None:
    """One slow call, on whichever side, does not decide."""
    figure = compared("PutObject", [0.002, 0.002, 9.0], [0.004, 0.004, 0.0])

    assert figure.value == 0.5
    assert not figure.missed
    assert str(figure).split() == "PutObject 0.5 at most 1 reached 2.00 ms, moto_server 4.00 ms".split()


def test_only_ratios_decide_about_the_exit_code() -> None:
    """Seconds and MiB depend on the machine: a target that they miss is shown and fails nothing."""
    slow = Figure("start", 0.9, "s", 0.6)
    worse = compared("SendMessage", [2.0], [1.0])

    assert slow.missed and "missed" in str(slow)
    assert exit_code([slow]) == 0
    assert exit_code([slow, worse]) == 1
    assert exit_code([compared("start", [2.0], [1.0], target=None)]) == 0


def test_a_value_at_its_target_has_reached_it() -> None:
    """ "At most" includes the target itself, also where it is zero."""
    assert not Figure("left", 0, "", 0, ratio=True).missed
    assert Figure("left", 1, "", 0, ratio=True).fails


def test_the_cost_of_a_task_among_many_is_set_beside_that_among_few() -> None:
    """Ten times the tasks in ten times the time are a ratio of 1."""
    assert memory_tasks.per_task({10: [1.0], 100: [10.0]}).value == pytest.approx(1.0)
    assert memory_tasks.per_task({10: [1.0], 100: [20.0]}).fails


def test_calls_are_measured_in_turns() -> None:
    """Both sides are called equally often, and neither always comes first."""
    called: list[str] = []

    ours, theirs = calls.in_turns(lambda: called.append("a"), lambda: called.append("b"), 4)

    assert len(ours) == len(theirs) == 4
    assert called[-8:] == ["b", "a", "a", "b", "b", "a", "a", "b"]


def test_the_memory_of_a_program_is_that_of_its_children_too() -> None:
    """An emulator is several processes; a figure that left some out would flatter it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in servers.descendants(os.getpid())
        assert servers.memory_mib(os.getpid()) > servers.memory_mib(child.pid) > 0
        child.communicate(b"\n")


def test_a_spread_says_how_much_the_values_differ() -> None:
    """A median alone does not tell whether it can be trusted."""
    assert spread([0.2, 0.1], "s") == "2 runs, 0.1 to 0.2 s"


def test_unknown_measurements_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names what there is."""
    with pytest.raises(SystemExit):
        main(["tests"])
    assert "memory_tasks" in capsys.readouterr().err
