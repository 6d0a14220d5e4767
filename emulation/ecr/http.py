"""The registry's HTTP: a request whose body is a stream, a reply whose body may be a file, and OCI's errors.

Source: OCI Distribution Specification, "Error Codes".
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CHUNK = 1 << 20


class RegistryError(Exception):
    """An answer of the registry that is an error."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


class BodyTruncated(Exception):
    """The client left before its body was whole."""


class Request:
    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        self.headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        self.client: str = scope["client"][0] if scope.get("client") else "127.0.0.1"
        self._receive = receive

    async def chunks(self) -> AsyncIterator[bytes | bytearray]:
        """The body in pieces of about 1 MiB. Raises BodyTruncated."""
        announced = self.headers.get("content-length", "")
        arrived = 0
        gathered = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise BodyTruncated
            gathered += message.get("body", b"")
            more = message.get("more_body", False)
            if len(gathered) >= CHUNK or (gathered and not more):
                arrived += len(gathered)
                yield gathered
                gathered = bytearray()
        if announced.isdecimal() and arrived != int(announced):
            raise BodyTruncated

    async def body(self, limit: int) -> bytes:
        """The whole body. What goes beyond `limit` bytes is read, to let the client finish, but not kept."""
        kept = bytearray()
        async for chunk in self.chunks():
            if len(kept) <= limit:
                kept += chunk
        return bytes(kept)


@dataclass(frozen=True, slots=True)
class FilePart:
    path: Path
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FilePart = b""

    @classmethod
    def of_json(cls, status: int, content: object, headers: Mapping[str, str] | None = None) -> "Reply":
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(content).encode())

    @classmethod
    def of_error(cls, error: RegistryError) -> "Reply":
        content = {"errors": [{"code": error.code, "message": error.message, "detail": None}]}
        return cls.of_json(error.status, content, error.headers)

    async def send(self, send: Send, method: str) -> None:
        length = self.body.length if isinstance(self.body, FilePart) else len(self.body)
        headers = {"Content-Length": str(length), "Docker-Distribution-Api-Version": "registry/2.0", **self.headers}
        if self.status == 204:
            del headers["Content-Length"]
        source = None
        if isinstance(self.body, FilePart) and method != "HEAD":
            # Opened before the answer begins: a blob that is deleted from now on is still delivered whole.
            source = await asyncio.to_thread(self.body.path.open, "rb")
        raw = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": raw})
            if source is not None and isinstance(self.body, FilePart):
                await _send_file(send, source, self.body)
            body = self.body if isinstance(self.body, bytes) and method != "HEAD" else b""
            await send({"type": "http.response.body", "body": body})
        finally:
            if source is not None:
                source.close()


async def _send_file(send: Send, source: BinaryIO, part: FilePart) -> None:
    await asyncio.to_thread(source.seek, part.start)
    left = part.length
    while left:
        data = await asyncio.to_thread(source.read, min(CHUNK, left))
        if not data:
            raise OSError(f"{part.path} is shorter than it was")
        left -= len(data)
        await send({"type": "http.response.body", "body": data, "more_body": True})


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the length that a Range header asks for, None for all. Raises RegistryError (416).

    Several ranges at once are answered with the whole, which HTTP allows.
    """
    unit, _, wanted = header.partition("=")
    first, dash, last = wanted.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or "," in wanted:
        return None
    if (first and not first.isdecimal()) or (last and not last.isdecimal()) or not (first or last):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or end < start:
        raise RegistryError(416, "UNSUPPORTED", f"the blob has {size} bytes only", {"Content-Range": f"bytes */{size}"})
    return start, end - start + 1
