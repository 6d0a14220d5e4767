"""The AWS API: every service of moto behind one address, its answers and its errors in AWS's shapes.

Requests are handled on the API thread, one after the other. What goes wrong inside becomes an error of the service's
own protocol (JSON, query, EC2, REST), never an HTML page.
"""

import logging
import re
from typing import Any
from urllib.parse import parse_qs

from emulation.core.api_thread import ApiThread
from emulation.gateway import not_emulated, pages
from emulation.gateway.asgi import ClientGone, Receive, Scope, Send, read_body, respond
from emulation.gateway.failures import FULL_DISK, blame_client, error, protocol_of
from emulation.gateway.wsgi import Answer, run_wsgi, wsgi_environ

log = logging.getLogger(__name__)

_MAX_LOGGED = 300


class AwsApi:
    def __init__(self, api: ApiThread) -> None:
        self._api = api
        self._dispatcher: Any = None

    def load(self) -> None:
        """Imports moto and its dispatcher; on the API thread."""
        from moto.moto_server import werkzeug_app

        # moto would let any web page read its answers (CORS); buckets keep their own CORS rules.
        vars(werkzeug_app)["DISABLE_GLOBAL_CORS"] = True
        self._dispatcher = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive)
        except ClientGone:
            return
        environ = wsgi_environ(scope, body)
        status, headers, content = await self._api.call(self._handle, environ, body, pages.is_foreign(scope))
        length = (
            [] if any(name == b"content-length" for name, _ in headers) else [(b"content-length", b"%d" % len(content))]
        )
        await respond(send, status, [*headers, *length], b"" if scope["method"] == "HEAD" else content)

    def _handle(self, environ: dict[str, Any], body: bytes, foreign_page: bool) -> Answer:
        service = ""
        try:
            service = self._service(environ)
            if foreign_page and not (service == "s3" and pages.may_use_s3(environ)):
                return error(service, environ, 403, "AccessDenied", pages.REFUSAL)
            if service in not_emulated.NOT_EMULATED or service == "events":
                operation = operation_name(service, environ, body)
                if why := not_emulated.why_not(service, operation, body):
                    return error(
                        service, environ, 501, "NotImplemented", f"Sunabox does not emulate {operation}: {why}."
                    )
            answer = run_wsgi(self._dispatcher, environ)
            if _is_page(answer):
                raise NotImplementedError("moto has no such path")
            return answer
        except NotImplementedError as problem:
            operation = operation_name(service, environ, body) or f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
            log.info("%s: %s is not emulated (%s)", service, operation, problem)
            message = f"Sunabox does not emulate {operation} of {service or 'this service'}."
            return error(service, environ, 501, "NotImplemented", message)
        except Exception as problem:
            if blamed := blame_client(problem, protocol_of(service)):
                return error(service, environ, 400, *blamed)
            if isinstance(problem, OSError) and problem.errno in FULL_DISK:
                log.error("The disk of the data folder is full: %s", problem)
                return error(service, environ, 500, "InternalFailure", "The disk of Sunabox's data folder is full.")
            log.exception("%s %s failed inside", service, environ["RAW_URI"][:_MAX_LOGGED])
            message = f"Sunabox failed inside: {type(problem).__name__}: {problem}. Its log has the details."
            return error(service, environ, 500, "InternalFailure", message)

    def _service(self, environ: dict[str, Any]) -> str:
        """The service's name as moto's dispatcher finds it: from the signature's scope, the host or the body."""
        if environ["PATH_INFO"].startswith("/moto-api"):
            # Its reset would forget the records of every account at once, and leave behind what runs.
            raise NotImplementedError("another access key of 12 digits is an empty account")
        host = self._dispatcher.infer_service_region_host(environ, environ["PATH_INFO"]) or "s3.us-east-1.amazonaws.com"
        backend = self._dispatcher.get_backend_for_host(host)
        if backend is None:
            raise NotImplementedError(f"no service at {host}")
        name: str = _BOTO_NAMES.get(backend, str(backend))
        if name == "elb" and b"Version=2015-12-01" in environ["wsgi.input"].getbuffer().tobytes():
            return "elbv2"  # both sign as elasticloadbalancing
        return name


def _is_page(answer: Answer) -> bool:
    """Whether moto's web framework answered itself: an HTML page that says 404 or 405."""
    status, _, content = answer
    return status in (404, 405) and content.startswith(b"<!doctype html>")


_BOTO_NAMES = {
    "applicationautoscaling": "application-autoscaling",
    "awslambda": "lambda",
    "s3bucket_path": "s3",
    "cognitoidp": "cognito-idp",
    "cognitoidentity": "cognito-identity",
    "elbv2": "elbv2",
    "instance_metadata": "s3",
}


def operation_name(service: str, environ: dict[str, Any], body: bytes) -> str:
    """The operation that a request asks for, by its target header, Action, or method and path; '' if unknown."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rpartition(".")[2]
    if match := re.search(rb"(?:^|&)Action=(\w+)", body):
        return match.group(1).decode()
    if action := parse_qs(environ["QUERY_STRING"]).get("Action"):
        return str(action[0])
    from moto.core.request import Request
    from moto.core.routing import get_service_router

    try:
        operation, _ = get_service_router(service).match(Request(dict(environ)))
    except Exception:  # whatever the path is, it names no operation of the service
        return ""
    return str(operation.name)
