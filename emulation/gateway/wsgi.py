"""Between ASGI, which the gateway speaks, and WSGI, which moto speaks."""

import io
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from emulation.gateway import account, hosts
from emulation.gateway.asgi import Scope, header

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server", "status"})

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers (names in lower case) and body."""


def wsgi_environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """The WSGI environment of an ASGI request, with S3's metadata names kept as they were sent."""
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"].decode("latin-1")
    host = header(scope, "host") or "localhost"
    if bucket := hosts.bucket_in(host):
        authorization = header(scope, "authorization")
        if "/s3/aws4_request" in authorization or not authorization:
            raw_path, host = b"/" + bucket.encode() + raw_path, "localhost"
    target = raw_path.decode("latin-1") + (f"?{query}" if query else "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "RAW_URI": target,
        "REQUEST_URI": target,
        "QUERY_STRING": query,
        "SERVER_NAME": hosts.host_name(host),
        "SERVER_PORT": host.rpartition(":")[2] if ":" in host else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": (scope.get("client") or ("127.0.0.1", 0))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    _add_headers(environ, scope["headers"])
    environ["HTTP_HOST"] = host
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)
    if owner := account.account_of(account.access_key(environ.get("HTTP_AUTHORIZATION", ""), query)):
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = owner
    return environ


def _add_headers(environ: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> None:
    preserved: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if "_" in name:
            # WSGI folds "-" and "_" together. S3 tells metadata names apart by them, so moto is told the spelling; any
            # other header with an underscore could pass for the one with a dash, and is dropped.
            if not name.startswith("x-amz-meta-") or key in environ:
                continue
            preserved[key] = name
        environ[key] = f"{environ[key]},{value}" if key in environ and key not in preserved else value
    environ["moto.preserved_header_names"] = preserved


def run_wsgi(application: Any, environ: dict[str, Any]) -> Answer:
    status = 500
    headers: list[tuple[bytes, bytes]] = []

    def start_response(line: str, values: list[tuple[str, str]], _exc_info: object = None) -> None:
        nonlocal status
        status = int(line.split(" ", 1)[0])
        headers[:] = [
            (name.lower().encode("latin-1"), str(value).encode("latin-1", "replace"))
            for name, value in values
            if name.lower() not in _HOP_BY_HOP
        ]

    result = application(environ, start_response)
    try:
        content = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    if environ["REQUEST_METHOD"] != "HEAD":
        headers = [pair for pair in headers if pair[0] != b"content-length"]
    return status, headers, content
