"""Suites of their own, run by a pytest of their own, with what people have: the plugin that is installed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

RunSuite = Callable[..., pytest.RunResult]


@pytest.fixture
def run_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunSuite:
    """Runs a suite made of this source in a process of its own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "PYTEST_", "COV_"))]:
        monkeypatch.delenv(name)

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=120)

    return run
