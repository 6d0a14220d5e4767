"""Sunabox's own API: `/_sunabox/…` (status, clock, shutdown) and the `/_localstack/…` pages that tools poll.

    GET  /_sunabox/status
    GET  /_sunabox/rds-ca.pem  (on AWS: truststore.pki.rds.amazonaws.com/global/global-bundle.pem)
    GET  /_sunabox/clock
    POST /_sunabox/clock       {"advance": "1h30m"} | {"speed": 60} | {"freeze": true} | {"resume": true}
    POST /_sunabox/shutdown
    GET  /_sunabox/why?subject=…   in sentences, what is wrong with a task, a service or a target

Every answer is a JSON object that holds `"product": "sunabox"`; errors hold a `message`. The gateway lets only requests
for a loopback host through. Changes are refused to web pages: a page that is open in a browser could otherwise stop the
emulator or turn its clock.
"""

import json
import logging
import math
import os
import platform
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qs

from emulation import __version__
from emulation.clock import Timeline, monotonic
from emulation.gateway.asgi import ClientGone, Receive, Scope, Send, header, read_body, respond, respond_json
from emulation.gateway.durations import parse_duration
from emulation.runtime.base import Runtime

log = logging.getLogger(__name__)

Answer = tuple[int, dict[str, object]]

_CERTIFICATES = "/_sunabox/rds-ca.pem"

_NAMES_OF_MOTO = {
    "acmpca": "acm-pca",
    "applicationautoscaling": "application-autoscaling",
    "awslambda": "lambda",
    "cognitoidentity": "cognito-identity",
    "cognitoidp": "cognito-idp",
    "emrcontainers": "emr-containers",
    "emrserverless": "emr-serverless",
    "iotdata": "iot-data",
    "mediastoredata": "mediastore-data",
    "rdsdata": "rds-data",
    "redshiftdata": "redshift-data",
    "resourcegroups": "resource-groups",
    "sagemakerruntime": "sagemaker-runtime",
    "ssoadmin": "sso-admin",
    "timestreamquery": "timestream-query",
    "timestreamwrite": "timestream-write",
}
"""Services that moto calls otherwise than AWS's clients do."""

_NOT_SERVICES = {"instance_metadata", "moto_api._internal"}


class Controlled(Protocol):
    """What the control API needs of a `Cloud`.

    `on_shutdown` ends the program that the cloud runs in; it is None where that is not ours to end (a test run).
    """

    @property
    def endpoint_url(self) -> str: ...
    @property
    def clock(self) -> Timeline: ...
    @property
    def runtime(self) -> Runtime: ...
    @property
    def on_shutdown(self) -> Callable[[], None] | None: ...
    def status(self) -> dict[str, object]: ...
    async def why(self, subject: str) -> list[str]: ...
    def rds_certificates(self) -> bytes: ...


class _Refusal(Exception):
    """A request that is answered with an error. The message is for the person who sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ControlApp:
    """An ASGI application for the paths below `/_sunabox/` and `/_localstack/`.

    `read_only` is for the programs in tasks, which may look at the clock, and not turn it or end the emulator.
    """

    def __init__(self, cloud: Controlled, *, read_only: bool = False) -> None:
        self._cloud = cloud
        self._read_only = read_only
        self._started = monotonic()
        self._session_id = str(uuid.uuid4())
        self._services: tuple[tuple[str, str], ...] = ()
        self._gets: Mapping[str, Callable[[], dict[str, object]]] = {
            "/_sunabox/status": self._status,
            "/_sunabox/clock": self._clock,
            "/_localstack/health": self._health,
            "/_localstack/info": self._info,
        }
        self._posts: Mapping[str, Callable[[dict[str, object]], Awaitable[dict[str, object]]]] = {
            "/_sunabox/clock": self._turn_clock,
            "/_sunabox/shutdown": self._shutdown,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"The control API speaks HTTP only, not {scope['type']}.")
        if scope["path"] == _CERTIFICATES and scope["method"] in ("GET", "HEAD"):
            content = self._cloud.rds_certificates()
            length = (b"content-length", b"%d" % len(content))
            await respond(send, 200, [(b"content-type", b"application/x-pem-file"), length], content)
            return
        try:
            status, answer = await self._answer(scope, receive)
        except ClientGone:
            return
        except _Refusal as refusal:
            status, answer = refusal.status, {"message": str(refusal)}
        except Exception as error:
            log.exception("%s %s failed", scope["method"], scope["path"])
            status, answer = 500, {"message": f"{type(error).__name__}: {error}. The log of Sunabox has the details."}
        if scope["path"].startswith("/_sunabox"):
            answer["product"] = "sunabox"
        await respond_json(send, status, answer)
        if status == 202 and self._cloud.on_shutdown is not None:
            self._cloud.on_shutdown()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"].rstrip("/")
        if path not in self._gets and path not in self._posts and path != "/_sunabox/why":
            known = ", ".join(sorted({*self._gets, *self._posts, "/_sunabox/why"}))
            raise _Refusal(404, f"There is no {path}. There are: {known}.")
        if method == "GET" and path == "/_sunabox/why":
            return 200, await self._why(scope)
        if method in ("GET", "HEAD") and path in self._gets:
            return 200, self._gets[path]()
        if method == "POST" and path in self._posts:
            if self._read_only:
                raise _Refusal(403, "Programs in tasks may not change a Sunabox. Do it from the host.")
            _refuse_web_pages(scope)
            answer = await self._posts[path](await _json_object(receive))
            return 202 if path == "/_sunabox/shutdown" else 200, answer
        raise _Refusal(405, f"{path} does not answer {method}.")

    # --- /_sunabox/

    async def _why(self, scope: Scope) -> dict[str, object]:
        subject = parse_qs(scope["query_string"].decode()).get("subject", [""])[0]
        if not subject:
            raise _Refusal(400, "Say what about: ?subject=TASK, SERVICE or TARGET.")
        answers = await self._cloud.why(subject)
        if not answers:
            raise _Refusal(404, f"There is no task, service or target {subject!r}. Stopped tasks go after an hour.")
        return {"answers": answers}

    def _status(self) -> dict[str, object]:
        return {
            **self._cloud.status(),
            "version": __version__,
            "pid": os.getpid(),
            "pid_namespace": _pid_namespace(),
            "endpoint_url": self._cloud.endpoint_url,
            "runtime": self._cloud.runtime.name,
            "uptime_seconds": round(monotonic() - self._started, 1),
            "clock": self._clock(),
        }

    def _clock(self) -> dict[str, object]:
        clock = self._cloud.clock
        deadline = clock.next_deadline()
        return {
            "now": clock.now().isoformat(),
            "speed": clock.speed,
            "frozen": clock.speed == 0,
            "next_deadline": deadline.isoformat() if deadline else None,
        }

    async def _turn_clock(self, order: dict[str, object]) -> dict[str, object]:
        clock = self._cloud.clock
        try:
            match order:
                case {"advance": str() as duration, **others} if not others:
                    await clock.advance(parse_duration(duration))
                case {"speed": int() | float() as speed, **others} if not others and not isinstance(speed, bool):
                    clock.set_speed(_checked_speed(speed))
                case {"freeze": True, **others} if not others:
                    clock.freeze()
                case {"resume": True, **others} if not others:
                    clock.resume()
                case _:
                    raise ValueError(
                        'Say one of {"advance": "1h30m"}, {"speed": 60}, {"freeze": true} and {"resume": true}.'
                    )
        except ValueError as error:
            raise _Refusal(400, str(error)) from error
        except OverflowError as error:
            raise _Refusal(400, "A clock does not go beyond the year 9999. Advance it by less.") from error
        return self._clock()

    async def _shutdown(self, order: dict[str, object]) -> dict[str, object]:
        if self._cloud.on_shutdown is None:
            raise _Refusal(
                409, f"This Sunabox is part of another program (process {os.getpid()}) and stops together with it."
            )
        return {"pid": os.getpid()}

    # --- /_localstack/

    def _health(self) -> dict[str, object]:
        if not self._services:
            # moto is loaded by the gateway as soon as it serves; to import it here costs nothing then.
            from moto.backend_index import backend_url_patterns

            modules = sorted({name for name, _ in backend_url_patterns} - _NOT_SERVICES)
            self._services = tuple((_NAMES_OF_MOTO.get(name, name), f"moto.{name}.models") for name in modules)
        services = {name: "running" if module in sys.modules else "available" for name, module in self._services}
        return {"services": dict(sorted(services.items())), "edition": "sunabox", "version": __version__}

    def _info(self) -> dict[str, object]:
        return {
            "version": __version__,
            "edition": "sunabox",
            "is_license_activated": False,
            "session_id": self._session_id,
            "machine_id": "sunabox",
            "system": platform.system().lower(),
            "is_docker": False,
            "server_time_utc": self._cloud.clock.now().isoformat(timespec="seconds"),
            "uptime": int(monotonic() - self._started),
        }


def _refuse_web_pages(scope: Scope) -> None:
    """Browsers send `Origin` with every POST and programs do not.

    Pages of our own origin are refused as well: whoever may write an object to S3 could make such a page.
    """
    if header(scope, "origin") or header(scope, "sec-fetch-site") not in ("", "none"):
        raise _Refusal(403, "Web pages may not change a Sunabox. Use the `sunabox` command, or curl.")


async def _json_object(receive: Receive) -> dict[str, object]:
    try:
        body = json.loads(await read_body(receive) or b"{}")
    except (ValueError, RecursionError) as error:
        raise _Refusal(400, f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise _Refusal(400, "The body is not a JSON object.")
    return body


def _checked_speed(speed: float) -> float:
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f'A clock cannot run at speed {speed}. Give more than 0, or {{"freeze": true}}.')
    return float(speed)


def _pid_namespace() -> str:
    """Tells whether another process means the same by a process id; empty where there are no such namespaces."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
