"""Images of Python applications, made from the running interpreter: no Docker, no registry."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from emulation.images.library import Library
from emulation.images.source import ResolvedImage


def build_python_app(
    app: Path,
    *,
    library: Library,
    names: Sequence[str] = (),
    requirements: Sequence[str] = (),
    extras: Sequence[str] = (),
    entry_point: Sequence[str] = (),
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    ports: Sequence[int] = (),
    working_directory: str = "/app",
    user: str = "",
) -> ResolvedImage:
    raise NotImplementedError
