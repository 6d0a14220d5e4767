"""What a container can ask at 169.254.170.2: the task metadata endpoint and the task role's credentials. An ASGI app.

GET /v4/<key>[/task|/taskWithTags|/stats|/task/stats], the same under /v3/, and GET /v2/credentials/<id>. Keys and ids
are known to the task's containers only, by their environment.

Source: Amazon ECS Developer Guide, Task metadata endpoint version 4; Task IAM role.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from emulation.ecs.credentials import PATH as CREDENTIALS
from emulation.ecs.metadata import Json, TaskMetadata, render_container, render_task, render_task_stats

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class MetadataLookup(Protocol):
    """What is known of running tasks. Called on the event loop."""

    def task(self, key: str) -> tuple[TaskMetadata, str] | None:
        """The task that a container's key belongs to, and that container's name."""
        ...

    async def stats(self, key: str) -> Mapping[str, Json]:
        """Docker's stats of the task's containers by DockerId, as far as there are any."""
        ...

    async def credentials(self, credentials_id: str) -> Json | None: ...


class MetadataApp:
    def __init__(self, lookup: MetadataLookup) -> None:
        self._lookup = lookup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            status, content, body = 405, "text/plain; charset=utf-8", b"405 method not allowed\n"
        else:
            status, content, body = await self._answer(scope["path"])
        headers = [(b"content-type", content.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path.startswith(CREDENTIALS) or path == CREDENTIALS.rstrip("/"):
            status, answer = await self._credentials(path.removeprefix(CREDENTIALS.rstrip("/")).strip("/"))
            return status, "application/json", json.dumps(answer).encode()
        _, version, key, *rest = f"{path}//".split("/", 3)
        if version not in ("v3", "v4"):
            return 404, "text/plain; charset=utf-8", b"404 page not found\n"
        status, metadata = await self._metadata(version.upper(), key, rest[0].strip("/") if rest else "")
        return status, "application/json", json.dumps(metadata).encode()

    async def _metadata(self, version: str, key: str, what: str) -> tuple[int, object]:
        known = self._lookup.task(key)
        if known is None:
            return 404, f"{version} {_unknown(key, what)}"
        task, name = known
        match what:
            case "":
                return 200, render_container(task, task.container(name))
            case "task" | "taskWithTags":
                return 200, render_task(task)
            case "stats":
                return 200, (await self._lookup.stats(key)).get(task.container(name).docker_id, {})
            case "task/stats":
                return 200, render_task_stats(task, await self._lookup.stats(key))
        return 404, f"{version} metadata handler: {what} is not emulated by Sunabox"

    async def _credentials(self, credentials_id: str) -> tuple[int, Json]:
        if not credentials_id:
            return _refused("NoIdInRequest", "No ID in the request")
        answer = await self._lookup.credentials(credentials_id)
        return (200, answer) if answer is not None else _refused("InvalidIdInRequest", "Credentials not found")


def _unknown(key: str, what: str) -> str:
    """The ECS agent's words for a key that it does not know."""
    if what == "":
        return (
            "container metadata handler: unable to get container ID from request: "
            f"unable to get docker ID from v3 endpoint ID: {key}"
        )
    handler = {"stats": "container handler", "task/stats": "task stats handler"}.get(what, "task metadata handler")
    return f"{handler}: unable to get task arn from request: unable to get task Arn from v3 endpoint ID: {key}"


def _refused(code: str, message: str) -> tuple[int, Json]:
    return 400, {"code": code, "message": f"CredentialsV2Request: {message}", "HTTPErrorCode": 400}
