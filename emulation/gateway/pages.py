"""Requests that a browser sends for a web page of another origin. They must not be able to change anything.

A page may send any form to 127.0.0.1, and look at any URL as an image, without asking: it does not read the answer, but
what the request does is done. So such requests may only use S3, within the CORS rules of a bucket: browsers ask for
these before a PUT or DELETE, and moto answers; for a POST, which a form may send unasked, they are looked at here.

Source: Fetch Standard, "Origin" header; Fetch Metadata Request Headers; Using cross-origin resource sharing (CORS).
"""

from typing import Any

from emulation.gateway.asgi import Scope, header
from emulation.gateway.hosts import bucket_in

REFUSAL = "Web pages of other origins may not use a Sunabox, but for S3 within the CORS rules of a bucket."
_ASKED_BEFORE_OR_HARMLESS = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


def is_foreign(scope: Scope) -> bool:
    """Whether a page of another origin is behind the request. Programs send neither header."""
    # Emulation: AWS takes requests of any web page, for it knows who signed them.
    if site := header(scope, "sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin, host = header(scope, "origin").lower(), header(scope, "host").lower()
    return bool(origin) and origin not in (f"http://{host}", f"https://{host}")


def may_use_s3(environ: dict[str, Any]) -> bool:
    """Whether a foreign page's request to S3 may be served; on the API thread."""
    method = environ["REQUEST_METHOD"]
    if method in _ASKED_BEFORE_OR_HARMLESS:
        return True
    from moto.s3.models import s3_backends
    from moto.s3.utils import cors_matches_origin

    name = bucket_in(environ.get("HTTP_HOST", "")) or environ["PATH_INFO"].strip("/").partition("/")[0]
    if name not in s3_backends.bucket_accounts:
        return False
    partition, account = s3_backends.bucket_accounts[name]
    rules = s3_backends[account][partition].buckets[name].cors
    origin = environ.get("HTTP_ORIGIN", "")
    return any(method in rule.allowed_methods and cors_matches_origin(origin, rule.allowed_origins) for rule in rules)
