"""A server that answers CloudWatch Logs as the gateway does: on the API thread, the account being the access key."""

import asyncio
import itertools
import re
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from emulation.clock import SystemClock
from emulation.core.api_thread import ApiThread
from emulation.logs import api as logs_api

T = TypeVar("T")
REGION = "eu-central-1"
_accounts = itertools.count(111_111_111_111)


@dataclass(frozen=True)
class Service:
    """An event loop with an API thread, behind an endpoint."""

    loop: asyncio.AbstractEventLoop
    api: ApiThread
    endpoint_url: str

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    loop = asyncio.new_event_loop()
    loop_thread = threading.Thread(target=loop.run_forever)
    loop_thread.start()
    api = ApiThread()
    asyncio.run_coroutine_threadsafe(api.start(), loop).result()
    logs_api.install(SystemClock().now)
    moto = DomainDispatcherApplication(create_backend_app)

    def on_api_thread(environ: Any, start_response: Any) -> list[bytes]:
        credential = re.search(r"Credential=(\d{12})/", environ.get("HTTP_AUTHORIZATION", ""))
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = credential[1] if credential else "000000000000"
        call = api.call(lambda: list(moto(environ, start_response)))
        return asyncio.run_coroutine_threadsafe(call, loop).result()

    server = make_server("127.0.0.1", 0, on_api_thread, threaded=True)
    server_thread = threading.Thread(target=server.serve_forever)
    server_thread.start()
    yield Service(loop, api, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server_thread.join()
    server.server_close()
    loop.call_soon_threadsafe(loop.stop)
    loop_thread.join()
    loop.close()
    api.close()


@pytest.fixture
def account() -> str:
    """An AWS account of the test's own; its id is its access key."""
    return str(next(_accounts))


@pytest.fixture
def client(service: Service, account: str) -> Any:
    return boto3.client(
        "logs",
        region_name=REGION,
        endpoint_url=service.endpoint_url,
        aws_access_key_id=account,
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
    )
