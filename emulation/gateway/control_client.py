"""Speaks to a running Sunabox over its control API (`/_sunabox/…`): for the command line and the pytest plugin.

It imports neither moto nor asyncio, so that a command answers at once, and it follows no proxy settings, because a
Sunabox is on the same machine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from emulation.errors import SunaboxError
from emulation.gateway.durations import format_duration

_ANSWER_SECONDS = 10.0


class NotRunning(SunaboxError):
    """No Sunabox answers at the endpoint."""


class Refused(SunaboxError):
    """Sunabox answered, but did not do what it was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """What a cloud's clock shows. `speed` is 0 while it is frozen; `next_deadline` is when it next has work to do."""

    now: datetime
    speed: float
    next_deadline: datetime | None = None

    @property
    def frozen(self) -> bool:
        return self.speed == 0


class ControlClient:
    """One running Sunabox. Every method raises NotRunning where none answers, and Refused where it declines."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url.rstrip("/")
        self._host, self._port = _address(self.endpoint_url)

    def status(self, timeout_seconds: float = _ANSWER_SECONDS) -> dict[str, Any]:
        """What runs: at least `version`, `pid`, `endpoint_url`, `runtime`, `clock`."""
        return self._call("GET", "/_sunabox/status", timeout_seconds=timeout_seconds)

    def why(self, subject: str) -> list[str]:
        """What is wrong with a task, a service or a target, in sentences. Raises SunaboxError where there is none."""
        answer = self._call("GET", f"/_sunabox/why?{urlencode({'subject': subject})}")
        return [str(text) for text in answer["answers"]]

    def clock(self) -> ClockState:
        return _clock_state(self._call("GET", "/_sunabox/clock"))

    def advance(self, duration: timedelta) -> ClockState:
        """Returns when all that came due on the way has been done, however long that takes."""
        return self._turn({"advance": format_duration(duration)}, timeout_seconds=None)

    def set_speed(self, speed: float) -> ClockState:
        return self._turn({"speed": speed})

    def freeze(self) -> ClockState:
        return self._turn({"freeze": True})

    def resume(self) -> ClockState:
        return self._turn({"resume": True})

    def shutdown(self) -> None:
        """Asks it to stop and returns at once; it goes on answering until everything in it has stopped."""
        self._call("POST", "/_sunabox/shutdown", {})

    def _turn(self, order: Mapping[str, object], timeout_seconds: float | None = _ANSWER_SECONDS) -> ClockState:
        return _clock_state(self._call("POST", "/_sunabox/clock", order, timeout_seconds))

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        timeout_seconds: float | None = _ANSWER_SECONDS,
    ) -> dict[str, Any]:
        connection = HTTPConnection(self._host, self._port, timeout=timeout_seconds)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            status, data = response.status, response.read()
        except (OSError, HTTPException) as error:
            raise NotRunning(
                f"No Sunabox answers at {self.endpoint_url} ({_reason(error)}). "
                "Start one with `sunabox up`, or name another with --endpoint-url."
            ) from error
        finally:
            connection.close()
        return self._answer(status, data)

    def _answer(self, status: int, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or answer.get("product") != "sunabox":
            raise NotRunning(
                f"What answers at {self.endpoint_url} is not a Sunabox (HTTP status {status}). "
                "Name the right one with --endpoint-url, or start one on a free port: `sunabox up --port 4567`."
            )
        if status >= 400:
            raise Refused(str(answer.get("message", f"HTTP status {status}")))
        return answer


def _clock_state(answer: Mapping[str, Any]) -> ClockState:
    deadline = answer.get("next_deadline")
    return ClockState(
        now=datetime.fromisoformat(answer["now"]),
        speed=answer["speed"],
        next_deadline=datetime.fromisoformat(deadline) if deadline else None,
    )


def _address(endpoint_url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(endpoint_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme != "http":
        raise NotRunning(f"{endpoint_url!r} is not an endpoint. Write it like http://127.0.0.1:4566.")
    return host, 80 if port is None else port


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
