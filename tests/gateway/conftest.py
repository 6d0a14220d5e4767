"""A gateway with moto behind it and nothing else, in a thread of the test process."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from emulation.clock import VirtualClock
from emulation.core.api_thread import ApiThread
from emulation.gateway import seams
from emulation.gateway.asgi import Receive, Scope, Send, respond
from emulation.gateway.aws_api import AwsApi
from emulation.gateway.server import Router, Server


async def _nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, 404, [])


@pytest.fixture(scope="session")
def gateway_clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(scope="session")
def gateway(gateway_clock: VirtualClock) -> Iterator[str]:
    """The gateway's URL."""
    ready: threading.Event = threading.Event()
    state: dict[str, Any] = {}

    async def main() -> None:
        state["loop"], state["done"] = asyncio.get_running_loop(), asyncio.Event()
        api = ApiThread()
        await api.start()
        aws, server = AwsApi(api), Server("127.0.0.1", 0)
        _, state["port"] = server.bind()
        await api.call(seams.install, gateway_clock)
        await api.call(aws.load)
        await server.start(Router(aws, _nothing, _nothing, _nothing))
        ready.set()
        await state["done"].wait()
        await server.stop()
        api.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(30)
    yield f"http://127.0.0.1:{state['port']}"
    state["loop"].call_soon_threadsafe(state["done"].set)
    thread.join(30)


@pytest.fixture
def client(gateway: str) -> Callable[..., Any]:
    def make(service: str, account: str = "111122223333", **more: Any) -> Any:
        return boto3.client(
            service,
            **{"region_name": "eu-west-1", "endpoint_url": gateway, **more},
            aws_access_key_id=account,
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}),
        )

    return make
