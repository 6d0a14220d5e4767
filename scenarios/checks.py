"""The checks of the scenarios: what is asked of the world, in the words of the story."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, Protocol

from program import Program

_SECONDS = 10


class Served(Protocol):
    """A web application, wherever it runs."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class At:
    """A web application at an address."""

    host: str
    port: int = 7777


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(server: Served, path: str) -> Answer:
    return _ask(server, "GET", path)


def post(server: Served, path: str, fields: dict[str, str]) -> Answer:
    return _ask(server, "POST", path, json.dumps(fields))


def is_healthy(server: Served) -> bool:
    """What a load balancer asks again and again."""
    answer = get(server, "/healthz")
    return answer.status == 200 and answer.json == {"status": "ok"}


def refuses_connections(server: Served) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def is_up(server: Served, seconds: float = _SECONDS) -> bool:
    """Whether the application can be reached at all, and serves its page. TimeoutError where nobody answers."""
    try:
        return all(_ask(server, "GET", path, seconds=seconds).status == 200 for path in ("/healthz", "/"))
    except ConnectionError:
        return False


def counts(program: Program) -> dict[str, int]:
    """How many examples there are: count, labelled, unlabelled."""
    return {name: int(value) for name, value in program.must("diagnose").line("examples").items()}


def metrics(program: Program, seed: int = 0) -> dict[str, float]:
    """Trains, and gives accuracy, precision, recall and f."""
    return {name: float(value) for name, value in program.must("train", "--seed", str(seed)).line("metrics").items()}


def recommended(program: Program) -> list[str]:
    """The ids that are recommended, best first."""
    return [line["id"] for line in program.must("recommend").lines("recommend")]


def _ask(server: Served, method: str, path: str, body: str | None = None, seconds: float = _SECONDS) -> Answer:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=seconds)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return Answer(response.status, {key.lower(): value for key, value in response.headers.items()}, response.read())
    finally:
        connection.close()
