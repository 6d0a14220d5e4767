"""The control API, asked directly as an ASGI application."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emulation.clock import VirtualClock
from emulation.gateway.control import ControlApp

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


class _Runtime:
    name = "memory"


class _Cloud:
    """As much of a cloud as the control API knows of."""

    def __init__(self, on_shutdown: Callable[[], None] | None = None) -> None:
        self.endpoint_url = "http://127.0.0.1:4566"
        self.clock = VirtualClock(NOON)
        self.runtime = _Runtime()
        self.on_shutdown = on_shutdown

    def status(self) -> dict[str, object]:
        return {"tasks": 3, "version": "not the cloud's to say"}


def ask(
    cloud: _Cloud, method: str, path: str, body: object = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON answer of one request."""
    sent: list[Any] = []
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    raw_headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def request() -> None:
        scope = {"type": "http", "method": method, "path": path, "headers": raw_headers}
        await ControlApp(cloud)(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(request())
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_the_status_says_what_runs_and_where() -> None:
    """What the cloud tells of itself and what every Sunabox tells are one object; the latter has the last word."""
    status, answer = ask(_Cloud(), "GET", "/_sunabox/status")
    assert status == 200
    assert answer["product"] == "sunabox"
    assert (answer["tasks"], answer["runtime"], answer["endpoint_url"]) == (3, "memory", "http://127.0.0.1:4566")
    assert answer["version"] != "not the cloud's to say"
    assert answer["clock"] == {"now": NOON.isoformat(), "speed": 0, "frozen": True, "next_deadline": None}


def test_the_clock_is_advanced_by_a_duration() -> None:
    """The answer is the time afterwards."""
    status, answer = ask(_Cloud(), "POST", "/_sunabox/clock", {"advance": "1h30m"})
    assert (status, answer["now"]) == (200, (NOON + timedelta(minutes=90)).isoformat())


def test_the_clock_is_sped_up_frozen_and_resumed() -> None:
    """A resumed clock has the speed that it had before it was frozen."""
    cloud = _Cloud()
    assert ask(cloud, "POST", "/_sunabox/clock", {"speed": 60})[1]["speed"] == 60
    assert ask(cloud, "POST", "/_sunabox/clock", {"freeze": True})[1]["frozen"] is True
    assert ask(cloud, "POST", "/_sunabox/clock", {"resume": True})[1]["speed"] == 60


@pytest.mark.parametrize(
    "order",
    [
        {},
        [],
        None,
        b"{not json",
        b"[" * 100_000,
        b"\xff",
        {"advance": "1x"},
        {"advance": "-1d"},
        {"advance": 5},
        {"advance": "4000000w"},
        {"advance": "1d", "speed": 2},
        {"speed": 0},
        {"speed": -1},
        {"speed": True},
        {"speed": "60"},
        b'{"speed": NaN}',
        b'{"speed": Infinity}',
        {"speed": 10**400},
        {"freeze": False},
        {"forward": "1d"},
    ],
)
def test_a_bad_order_to_the_clock_is_refused_and_changes_nothing(order: object) -> None:
    """It is answered 400, with a message in JSON."""
    cloud = _Cloud()
    status, answer = ask(cloud, "POST", "/_sunabox/clock", order)
    assert status == 400
    assert answer["message"]
    assert (cloud.clock.now(), cloud.clock.speed) == (NOON, 0)


@pytest.mark.parametrize("path", ["/_sunabox/clock", "/_sunabox/shutdown"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:4566"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_web_page_cannot_change_anything(path: str, headers: dict[str, str]) -> None:
    """A request that a browser sends for a page is refused, also for a page that lies in an S3 bucket of ours."""
    shutdowns: list[None] = []
    cloud = _Cloud(on_shutdown=lambda: shutdowns.append(None))
    status, _ = ask(cloud, "POST", path, {"advance": "1d"}, headers)
    assert status == 403
    assert (cloud.clock.now(), shutdowns) == (NOON, [])


def test_a_shutdown_is_answered_and_then_done() -> None:
    """202 says that it has begun; the program is told once."""
    shutdowns: list[None] = []
    assert ask(_Cloud(lambda: shutdowns.append(None)), "POST", "/_sunabox/shutdown")[0] == 202
    assert len(shutdowns) == 1


def test_a_cloud_inside_another_program_does_not_shut_it_down() -> None:
    """A test run's cloud answers 409 and says whose it is."""
    status, answer = ask(_Cloud(), "POST", "/_sunabox/shutdown")
    assert status == 409
    assert "another program" in answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/_sunabox/nothing", 404),
        ("GET", "/_sunaboxes", 404),
        ("GET", "/_sunabox/shutdown", 405),
        ("DELETE", "/_sunabox/clock", 405),
        ("POST", "/_sunabox/status", 405),
        ("POST", "/_localstack/health", 405),
        ("HEAD", "/_localstack/health", 200),
        ("GET", "/_localstack/health/", 200),
    ],
)
def test_paths_and_methods_that_are_not_there_are_said_to_be_so(method: str, path: str, expected: int) -> None:
    """404 and 405; HEAD is answered like GET."""
    assert ask(_Cloud(), method, path)[0] == expected


def test_tools_for_localstack_find_the_services_by_their_aws_names() -> None:
    """The health page has the shape of LocalStack's."""
    status, answer = ask(_Cloud(), "GET", "/_localstack/health")
    assert status == 200
    assert {"s3", "ecs", "lambda", "elbv2", "batch", "application-autoscaling"} <= answer["services"].keys()
    assert set(answer["services"].values()) <= {"available", "running"}
    assert answer["edition"] == "sunabox"


def test_a_failure_of_ours_is_answered_in_json() -> None:
    """An unexpected exception becomes a 500 with a message, not a broken connection."""
    cloud = _Cloud()
    cloud.status = lambda: 1 / 0  # type: ignore[assignment, return-value, method-assign]
    status, answer = ask(cloud, "GET", "/_sunabox/status")
    assert status == 500
    assert "ZeroDivisionError" in answer["message"]
