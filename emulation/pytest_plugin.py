"""pytest fixtures for suites that run against Sunabox: `cloud`, `aws`, `clock`, `eventually`.

Every test gets an AWS account of its own, so tests need no cleaning up between them and run in parallel (pytest-xdist:
one cloud for each worker). With `--endpoint-url` the suite runs against a Sunabox that is already there.

pytest loads this plugin wherever Sunabox is installed. Until a test asks for a fixture it imports nothing but pytest,
and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Protocol, TypeVar

    from emulation.cloud import CloudOptions
    from emulation.testing.account import AwsAccount
    from emulation.testing.handles import ClockHandle, CloudHandle

    T = TypeVar("T")

    class Eventually(Protocol):
        """The type of the fixture `eventually`."""

        def __call__(self, check: Callable[[], T], within: timedelta | float = 10.0) -> T: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sunabox", "Sunabox, an AWS account on this machine")
    group.addoption(
        "--runtime",
        choices=("auto", "process", "docker", "memory"),
        help="How containers run: by Docker, as processes of this machine, or as scripts in memory. [default: auto]",
    )
    group.addoption(
        "--endpoint-url",
        metavar="URL",
        help="Use the Sunabox that answers there (`sunabox up`), and start none.",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """One error for the whole suite, and not one for each test, where `--endpoint-url` leads nowhere."""
    config = session.config
    endpoint_url = config.getoption("--endpoint-url")
    if endpoint_url is None or hasattr(config, "workerinput"):
        return
    if config.getoption("--runtime") is not None:
        raise pytest.UsageError("--runtime is chosen by whoever started the Sunabox that --endpoint-url names.")
    from emulation.errors import SunaboxError
    from emulation.gateway.control_client import ControlClient

    try:
        ControlClient(endpoint_url).status()
    except SunaboxError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def cloud_options(pytestconfig: pytest.Config) -> CloudOptions:
    """How `cloud` is started. A suite that wants it otherwise overrides this fixture in its conftest.py."""
    from emulation.cloud import CloudOptions

    return CloudOptions(port=0, runtime=pytestconfig.getoption("--runtime") or "auto")


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Iterator[CloudHandle]:
    """A running Sunabox, one for each process of the test run; started when the first test asks for it."""
    from emulation.errors import SunaboxError
    from emulation.testing.handles import CloudHandle

    endpoint_url: str | None = request.config.getoption("--endpoint-url")
    if endpoint_url is not None:
        yield CloudHandle(endpoint_url.rstrip("/"))
        return
    from emulation.testing.cloud_thread import CloudThread

    thread = CloudThread(request.getfixturevalue("cloud_options"))
    try:
        thread.start()
    except SunaboxError as error:
        pytest.fail(f"Sunabox did not start. {error}", pytrace=False)
    try:
        yield CloudHandle(thread.endpoint_url)
    finally:
        thread.stop()


@pytest.fixture
def aws(cloud: CloudHandle) -> Iterator[AwsAccount]:
    """A fresh AWS account, and clients for it: `aws.client("ecs")`. Its tasks are stopped when the test is over."""
    try:
        from emulation.testing.account import AwsAccount, new_account_id
    except ImportError as error:
        pytest.fail(f"{error}. The fixture `aws` needs it: pip install 'sunabox[test]'", pytrace=False)

    account = AwsAccount(cloud.endpoint_url, new_account_id())
    yield account
    account.stop_tasks()


@pytest.fixture
def clock(cloud: CloudHandle) -> Iterator[ClockHandle]:
    """The clock of the cloud, which all tests of the process share. It gets its speed back when the test is over."""
    before = cloud.clock.state()
    yield cloud.clock
    cloud.clock.restore(before)


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """`eventually(check, within=seconds)` calls `check` until it returns something true or its asserts hold."""
    from emulation.testing.eventually import eventually

    return eventually
