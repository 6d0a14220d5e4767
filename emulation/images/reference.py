"""Image references as people write them: `nginx`, `localhost:5000/app:1`, `<account>.dkr.ecr.<region>.amazonaws.com/a`.

Source: Docker, "docker image pull" (reference format); Amazon ECR User Guide, "Amazon ECR private registries".
"""

import re
from dataclasses import dataclass

from emulation.errors import ImageError

DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255

_ECR_HOST = re.compile(
    r"(?P<account>[0-9]{12})\.(?:dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?"
    r"|dkr-ecr(?:-fips)?\.(?P<dual_stack_region>[a-z0-9-]+)\.on\.(?:aws|amazonwebservices\.com\.cn))"
)
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?")
_LOCAL_REPOSITORY = re.compile(r"(?P<account>[0-9]{12})/(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]+)/(?P<name>.+)")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A reference in parts. `registry` is empty where none was given; `tag` is empty where only a digest was given."""

    registry: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> "ImageReference":
        """Reads a reference by Docker's rules; a name alone means its tag `latest`.

        Raises ImageError in Docker's words ("invalid reference format").
        """
        if _IDENTIFIER.fullmatch(text):
            raise ImageError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        name, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise ImageError(f"invalid reference format: {text!r} has no digest of the form sha256:<64 hex digits>")
        name, tag = _split_tag(name)
        if tag is not None and not _TAG.fullmatch(tag):
            raise ImageError(f"invalid reference format: {tag!r} is no tag (in {text!r})")
        registry, repository = _split_registry(name)
        if registry and not _REGISTRY.fullmatch(registry):
            raise ImageError(f"invalid reference format: {registry!r} is no registry (in {text!r})")
        if not _REPOSITORY.fullmatch(repository):
            if _REPOSITORY.fullmatch(repository.lower()):
                raise ImageError(f"invalid reference format: repository name ({repository}) must be lowercase")
            raise ImageError(f"invalid reference format: {text!r}")
        if len(name) > _LONGEST_NAME:
            raise ImageError(f"repository name must not be more than {_LONGEST_NAME} characters")
        return cls(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> "ImageReference":
        """Without the registry and the namespace that Docker means by default: docker.io/library/nginx is nginx."""
        if self.registry not in ("docker.io", "index.docker.io"):
            return self
        return ImageReference("", self.repository.removeprefix("library/"), self.tag, self.digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository


@dataclass(frozen=True, slots=True)
class EcrName:
    """A repository of an AWS account's private registry in a region."""

    account: str
    region: str
    repository: str


def ecr_registry(reference: ImageReference) -> EcrName | None:
    """The ECR repository that a reference means, None where it means no ECR repository.

    Besides AWS's host names, Sunabox's own `repositoryUri` is recognised: 127.0.0.1:4566/<account>/<region>/<name>.
    """
    # Emulation: AWS gives every registry a host name; here all share the gateway's address, so the account and the
    # region are part of the path, and docker push works without name resolution.
    if host := _ECR_HOST.fullmatch(reference.registry):
        return EcrName(host["account"], host["region"] or host["dual_stack_region"], reference.repository)
    local = _LOCAL_REPOSITORY.fullmatch(reference.repository)
    if local and is_loopback(reference.registry):
        return EcrName(local["account"], local["region"], local["name"])
    return None


def _split_tag(name: str) -> tuple[str, str | None]:
    head, colon, tail = name.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (name, None)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    return (first, rest) if slash and is_host else ("", name)


def is_loopback(registry: str) -> bool:
    """Whether a registry is on this machine; such ones are spoken to without TLS, as Docker does it."""
    return _LOOPBACK.fullmatch(registry) is not None
