"""Errors of the gateway itself, in the shape of the service that was asked."""

import errno
import json
import warnings
from typing import Any

from emulation.gateway.wsgi import Answer

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Failure(Exception):
    """What moto's serialisers need to know of an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def protocol_of(service: str) -> str:
    """The protocol (json, query, ec2, rest-xml, …) of a service by botocore's name; '' where it is not known."""
    from botocore.exceptions import UnknownServiceError
    from moto.core.utils import get_service_model

    try:
        return str(get_service_model(service).protocol)
    except (UnknownServiceError, ValueError):
        return ""


def blame_client(problem: Exception, protocol: str) -> tuple[str, str] | None:
    """The code and message for a request that no AWS service would have understood; None where it is not to blame.

    `protocol` is the service's. Source: each service's Common Errors (InvalidAction, UnknownOperationException).
    """
    from botocore.model import OperationNotFoundError

    if isinstance(problem, OperationNotFoundError):
        if protocol in ("query", "ec2"):
            return "InvalidAction", f"The action {problem} is not valid for this web service."
        return "UnknownOperationException", f"There is no operation {problem}."
    if isinstance(problem, (ValueError, TypeError, AttributeError)):
        # moto's parser reads members as the service's model says, and falls over values of another type.
        where = problem.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        if where is not None and where.tb_frame.f_globals.get("__name__") == "moto.core.parse":
            return "SerializationException", f"A member of the request has a value of another type: {problem}"
    return None


def error(service: str, environ: dict[str, Any], status: int, code: str, message: str) -> Answer:
    """An error in the protocol that the request was made in. `service` is botocore's name; '' where it is not known.

    Source: botocore's response parsers, which every AWS SDK mirrors.
    """
    from botocore.exceptions import UnknownServiceError
    from moto.core.request import determine_request_protocol
    from moto.core.serialize import get_serializer_class
    from moto.core.utils import get_service_model

    try:
        model = get_service_model(service)
    except (UnknownServiceError, ValueError):
        body = json.dumps({"__type": code, "message": message}).encode()
        return status, [(b"content-type", b"application/json"), (b"x-amzn-errortype", code.encode())], body
    try:
        protocol = determine_request_protocol(model, environ.get("CONTENT_TYPE", ""))
    except NotImplementedError:
        protocol = str(model.protocol)
    if protocol == "query" and environ.get("HTTP_X_AMZN_QUERY_MODE"):
        protocol = "query-json"
    serializer = get_serializer_class(service, protocol)(model.operation_model(model.operation_names[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto warns of codes that the service's model lacks: ours are not AWS's
        response = serializer.serialize(_Failure(code, message))
    headers = {name.lower(): value for name, value in response["headers"].items()} | {"x-amzn-errortype": code}
    content = response["body"]
    return (
        status,
        [(name.encode(), str(value).encode()) for name, value in headers.items() if name != "content-length"],
        content.encode() if isinstance(content, str) else content,
    )
