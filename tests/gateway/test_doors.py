"""Who may change a Sunabox: its user, not the programs in tasks and not the web pages in a browser."""

import asyncio
import http.client
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.clock import VirtualClock
from emulation.gateway.asgi import Receive, Scope, Send, respond
from emulation.gateway.control import ControlApp
from emulation.gateway.server import Router, Server

Client = Callable[..., Any]
PAGE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
SIGNED = "111122223333/20260101/eu-west-1/sqs/aws4_request"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class _Cloud:
    endpoint_url, runtime = "", type("Memory", (), {"name": "memory"})

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.ended = False

    def on_shutdown(self) -> None:
        self.ended = True

    def status(self) -> dict[str, object]:
        return {}


async def _nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, 200, [(b"content-length", b"0")])


def _ask(port: int, method: str, path: str, headers: dict[str, str] | None = None, body: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_a_program_in_a_task_neither_turns_the_clock_nor_ends_the_emulator() -> None:
    """Whatever Host it sends: it comes in at a door of its own. Looking at the clock is allowed."""

    async def story() -> tuple[list[int], _Cloud]:
        cloud, server = _Cloud(), Server("127.0.0.1", 0)
        server.bind()
        _, door = server.bind_for_tasks()
        inside = ControlApp(cloud, read_only=True)  # type: ignore[arg-type]
        outside = ControlApp(cloud)  # type: ignore[arg-type]
        await server.start(
            Router(_nothing, outside, _nothing, _nothing), for_tasks=Router(_nothing, inside, _nothing, _nothing)
        )
        host = {"Host": "127.0.0.1:4566"}
        statuses = [
            await asyncio.to_thread(_ask, door, "GET", "/_sunabox/clock"),
            await asyncio.to_thread(_ask, door, "POST", "/_sunabox/clock", host, '{"advance": "1d"}'),
            await asyncio.to_thread(_ask, door, "POST", "/_sunabox/shutdown", host, "{}"),
        ]
        await server.stop()
        return statuses, cloud

    statuses, cloud = asyncio.run(story())
    assert statuses == [200, 403, 403]
    assert not cloud.ended


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"/?X-Amz-Credential={SIGNED}", "Action=CreateQueue&QueueName=x"),
        ("POST", "/photos?delete", "<Delete><Object><Key>cat</Key></Object></Delete>"),
        ("POST", "/?Action=CreateQueue&QueueName=x", ""),
        ("POST", "/v2/111122223333/eu-west-1/web/blobs/uploads/", ""),
    ],
)
def test_a_web_page_changes_nothing(gateway: str, client: Client, method: str, path: str, body: str) -> None:
    """Forms and images of any page may be sent to this machine without asking; the gateway tells them apart."""
    s3 = client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="cat", Body=b"meow")
    assert _ask(int(gateway.rpartition(":")[2]), method, path, {**FORM, **PAGE}, body) == 403
    assert s3.get_object(Bucket="photos", Key="cat")["Body"].read() == b"meow"
    assert "QueueUrls" not in client("sqs").list_queues(QueueNamePrefix="x")


def test_a_bucket_may_let_a_web_page_in(gateway: str, client: Client) -> None:
    """What a browser asks for before it sends it, and what the bucket's CORS rules allow, is served."""
    s3, port = client("s3", region_name="us-east-1"), int(gateway.rpartition(":")[2])
    s3.create_bucket(Bucket="uploads")
    page = {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
    form = {**page, "Content-Type": "multipart/form-data; boundary=b"}
    body = '--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n'
    body += '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhello\r\n--b--\r\n'
    assert _ask(port, "POST", "/uploads", form, body) == 403
    rule = {"AllowedMethods": ["POST"], "AllowedOrigins": ["https://shop.example"]}
    s3.put_bucket_cors(Bucket="uploads", CORSConfiguration={"CORSRules": [rule]})
    assert _ask(port, "POST", "/uploads", form, body) < 300
    assert s3.get_object(Bucket="uploads", Key="k")["Body"].read() == b"hello"
    with pytest.raises(ClientError):
        s3.get_object(Bucket="uploads", Key="other")


def test_a_page_shows_the_objects_of_any_bucket(gateway: str, client: Client) -> None:
    """Public ones; also of a bucket whose name begins like the registry's path."""
    s3 = client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="v2-assets")
    s3.put_object(Bucket="v2-assets", Key="logo", Body=b"x", ACL="public-read")
    assert _ask(int(gateway.rpartition(":")[2]), "GET", "/v2-assets/logo", PAGE) == 200


def test_a_page_of_our_own_origin_is_served(gateway: str, client: Client) -> None:
    """A web site in a bucket may use what stands beside it."""
    client("s3", region_name="us-east-1").create_bucket(Bucket="site")
    own = {"Origin": gateway, "Sec-Fetch-Site": "same-origin"}
    assert _ask(int(gateway.rpartition(":")[2]), "PUT", "/site/key", own, "x") == 200


def test_who_tries_tls_first_is_no_news(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    """Registry clients do so before each push, and go on without."""
    address = ("127.0.0.1", int(gateway.rpartition(":")[2]))
    with caplog.at_level(logging.WARNING), socket.create_connection(address) as s:
        s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        s.settimeout(10)
        s.recv(100)
    assert "Invalid HTTP" not in caplog.text
