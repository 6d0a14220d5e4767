"""A cloud whose containers follow scripts, on a clock that stands still until it is turned."""

from collections.abc import Iterator

import pytest

from emulation.cloud import CloudOptions
from emulation.testing.cloud_thread import CloudThread
from tests.ecs.harness import Ecs


@pytest.fixture(scope="module")
def scripted_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudThread]:
    folder = tmp_path_factory.mktemp("library")
    thread = CloudThread(CloudOptions(port=0, runtime="memory", virtual_clock=True, library=folder))
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def ecs(scripted_cloud: CloudThread) -> Iterator[Ecs]:
    made = Ecs(scripted_cloud)
    yield made
    made.aws.stop_tasks()
    made.advance(300)
