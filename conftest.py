"""What all suites of this repository share: the marker for tests that need a certain runtime."""

import pytest

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "needs_runtime(*names): the test is about containers on one of these runtimes, and skipped on another.",
    )


@pytest.fixture(autouse=True)
def _needed_runtime(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("needs_runtime")
    if marker is None:
        return
    runtime = request.getfixturevalue("cloud").runtime
    if runtime not in marker.args:
        pytest.skip(f"needs the runtime {' or '.join(marker.args)}; this is {runtime}")
