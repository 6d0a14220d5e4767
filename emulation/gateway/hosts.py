"""Which Host headers are ours. Everything else is refused: a web page whose name was pointed at 127.0.0.1 (DNS
rebinding) must not be able to speak to the emulator in its reader's browser."""

import ipaddress

_NAMES = frozenset({"localhost", "sunabox", "host.docker.internal"})
_SUFFIXES = (
    ".localhost",
    ".localhost.localstack.cloud",
    ".amazonaws.com",  # a client or a proxy that was told to send AWS's names here
    ".amazonaws.com.cn",
)
METADATA_HOST = "169.254.170.2"
"""The task metadata endpoint's address, as the programs in a task see it."""
_LINK_LOCAL = frozenset({METADATA_HOST, "169.254.169.254"})


def host_name(header: str) -> str:
    """The name or address in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


def is_ours(header: str, extra: frozenset[str] = frozenset()) -> bool:
    """Whether a request with that Host header may be served. `extra` are names or addresses that the user chose."""
    name = host_name(header).lower().rstrip(".")
    if not name or name in _NAMES or name in _LINK_LOCAL or name in extra:
        return True
    if name == "localhost.localstack.cloud" or name.endswith(_SUFFIXES):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def bucket_in(header: str) -> str:
    """The bucket of a virtual-hosted S3 request to a name of ours (`bucket.localhost:4566`), or ''."""
    name = host_name(header).lower()
    for suffix in (".s3.localhost.localstack.cloud", ".s3.localhost", ".localhost"):
        if name.endswith(suffix):
            bucket = name.removesuffix(suffix)
            return "" if bucket in ("s3", "") else bucket
    return ""
