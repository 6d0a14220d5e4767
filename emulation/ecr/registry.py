"""The registry under /v2/, as an ASGI application: who asks, for which repository, and what goes wrong.

Source: OCI Distribution Specification 1.1; Amazon ECR User Guide, "Private registry authentication" and
"Troubleshooting errors with Docker commands when using Amazon ECR".
"""

import errno
import ipaddress
import logging
import re

from emulation.core.api_thread import ApiThread
from emulation.ecr.blob_routes import BlobRoutes
from emulation.ecr.errors import EcrError
from emulation.ecr.http import BodyTruncated, Receive, RegistryError, Reply, Request, Scope, Send
from emulation.ecr.manifest_routes import ManifestRoutes
from emulation.ecr.routing import Addressed, Handler
from emulation.ecr.service import Ecr
from emulation.ecr.tokens import Token, TokenInvalid, read_authorization, read_password
from emulation.errors import ImageError, ImageNotFound
from emulation.images.reference import EcrName

log = logging.getLogger(__name__)

DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"

_HOST = re.compile(r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?::\d+)?")
_LOCAL_NAME = re.compile(r"(?P<account>\d{12})/(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)/(?P<name>.+)")
_NAME = re.compile(r"(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*/)*[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Registry:
    """Serves every path from /v2/ on. Runs on the event loop; records are read and written through `api`."""

    def __init__(self, ecr: Ecr, api: ApiThread) -> None:
        self._ecr, self._api = ecr, api
        blobs, manifests = BlobRoutes(ecr, api, self._name), ManifestRoutes(ecr, api)
        self._routes: list[tuple[re.Pattern[str], dict[str, Handler]]] = [
            (re.compile(r"/(?P<name>.+)/blobs/uploads/?"), {"POST": blobs.start}),
            (
                re.compile(r"/(?P<name>.+)/blobs/uploads/(?P<item>[^/]+)"),
                {"PATCH": blobs.append, "PUT": blobs.finish, "GET": blobs.status, "DELETE": blobs.cancel},
            ),
            (
                re.compile(r"/(?P<name>.+)/blobs/(?P<item>[^/]+)"),
                {"GET": blobs.get, "HEAD": blobs.head, "DELETE": blobs.delete},
            ),
            (
                re.compile(r"/(?P<name>.+)/manifests/(?P<item>[^/]+)"),
                {"GET": manifests.get, "HEAD": manifests.get, "PUT": manifests.put, "DELETE": manifests.delete},
            ),
            (re.compile(r"/(?P<name>.+)/tags/list"), {"GET": manifests.tags}),
            (re.compile(r"/(?P<name>.+)/referrers/(?P<item>[^/]+)"), {"GET": manifests.referrers}),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            reply = await self._answer(request)
        except RegistryError as error:
            reply = Reply.of_error(error)
        except EcrError as error:
            reply = Reply.of_error(RegistryError(error.registry_status, error.registry_code, str(error)))
        except BodyTruncated:
            message = "The body ended before it was whole; nothing of it was kept. Send it again."
            reply = Reply.of_error(RegistryError(400, "SIZE_INVALID", message, {"Connection": "close"}))
        except ImageNotFound as error:
            reply = Reply.of_error(RegistryError(404, "BLOB_UNKNOWN", str(error)))
        except ImageError as error:
            reply = Reply.of_error(RegistryError(400, "DIGEST_INVALID", str(error)))
        except OSError as error:
            reply = Reply.of_error(_storage_error(error))
        except Exception as error:
            log.exception("%s %s failed inside", request.method, request.path)
            message = f"Sunabox failed inside: {type(error).__name__}: {error}. Its log has the details."
            reply = Reply.of_error(RegistryError(500, "UNKNOWN", message))
        try:
            await reply.send(send, request.method)
        except FileNotFoundError as error:  # deleted between the look and the opening
            await Reply.of_error(RegistryError(404, "BLOB_UNKNOWN", str(error))).send(send, request.method)

    async def _answer(self, request: Request) -> Reply:
        path = request.path.removeprefix("/v2")
        token = self._token(request)
        if path in ("", "/"):
            return Reply.of_json(200, {})
        if path == "/_catalog":
            return await self._catalog(request, token)
        for pattern, handlers in self._routes:
            if match := pattern.fullmatch(path):
                handler = handlers.get(request.method)
                if handler is None:
                    message = f"{request.method} is not supported here."
                    raise RegistryError(405, "UNSUPPORTED", message, {"Allow": ", ".join(handlers)})
                name = self._name(request, token, match["name"])
                item = match.groupdict().get("item") or ""
                return await handler(Addressed(request, token, name, f"/v2/{match['name']}", item))
        raise RegistryError(404, "NAME_INVALID", f"No such place in a registry: {request.path[:200]}")

    def _token(self, request: Request) -> Token | None:
        """What the client proved to be; None for a client of this machine that says nothing. Raises RegistryError."""
        key, now = self._ecr.store.token_key, self._ecr.clock.now()
        challenge = {"WWW-Authenticate": 'Basic realm="Sunabox ECR",service="ecr.amazonaws.com"'}
        try:
            if header := request.headers.get("authorization"):
                return read_authorization(key, header, now)
            if password := request.query.get("token"):  # URLs of GetDownloadUrlForLayer
                return read_password(key, password, now)
        except TokenInvalid as error:
            raise RegistryError(401, "UNAUTHORIZED", str(error), challenge) from error
        # Emulation: AWS wants a token for everything; `docker push` from this machine works here without a login.
        if _is_loopback(request.client):
            return None
        raise RegistryError(401, "UNAUTHORIZED", "no basic auth credentials", challenge)

    def _name(self, request: Request, token: Token | None, path: str) -> EcrName:
        """The repository that a path means. Raises RegistryError."""
        account, region = (token.account, token.region) if token else (DEFAULT_ACCOUNT, DEFAULT_REGION)
        if host := _HOST.fullmatch(request.headers.get("host", "")):
            account, region = host["account"], host["region"]
        if local := _LOCAL_NAME.fullmatch(path):
            account, region, path = local["account"], local["region"], local["name"]
        if not _NAME.fullmatch(path):
            raise RegistryError(400, "NAME_INVALID", f"'{path[:200]}' is not a repository name.")
        return EcrName(account, region, path)

    async def _catalog(self, request: Request, token: Token | None) -> Reply:
        account = token.account if token else ""
        host = _HOST.fullmatch(request.headers.get("host", ""))
        if host:
            account = host["account"]
        records = await self._api.call(self._ecr.store.repositories, account)
        names = [record.name for record in records if not host or record.name.region == host["region"]]
        shown = [name.repository if host else f"{name.account}/{name.region}/{name.repository}" for name in names]
        return Reply.of_json(200, {"repositories": shown})


def _is_loopback(address: str) -> bool:
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(client, "ipv4_mapped", None)
    return bool((mapped or client).is_loopback)


def _storage_error(error: OSError) -> RegistryError:
    if error.errno in _FULL_DISK:
        message = f"The disk of Sunabox's data folder is full ({error.strerror}); nothing was kept. Free some space."
        return RegistryError(507, "UNKNOWN", message)
    log.error("the data folder cannot be used: %s", error)
    return RegistryError(500, "UNKNOWN", f"Sunabox's data folder cannot be used: {error}; nothing was kept.")
