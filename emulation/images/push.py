"""A client of OCI registries: pushes images of a library, and pulls into it."""

from emulation.images.library import Library, LocalImage


def push(library: Library, reference: str, target: str, *, username: str = "", password: str = "") -> str:
    """Gives the digest of the pushed manifest."""
    raise NotImplementedError


def pull(library: Library, source: str, *, username: str = "", password: str = "") -> LocalImage:
    raise NotImplementedError
