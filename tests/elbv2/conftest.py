"""A cloud in which nothing runs, on a clock that stands still: for what the API says."""

from collections.abc import Iterator

import pytest

from emulation.cloud import CloudOptions
from emulation.testing.account import AwsAccount, new_account_id
from emulation.testing.cloud_thread import CloudThread


@pytest.fixture(scope="module")
def quiet_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudThread]:
    folder = tmp_path_factory.mktemp("library")
    thread = CloudThread(CloudOptions(port=0, runtime="memory", virtual_clock=True, library=folder))
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def account(quiet_cloud: CloudThread) -> AwsAccount:
    return AwsAccount(quiet_cloud.endpoint_url, new_account_id())
