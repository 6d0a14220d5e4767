"""Images as files: `docker save` archives and OCI layouts, in and out of a library."""

from collections.abc import Sequence
from pathlib import Path

from emulation.images.library import Library, LocalImage


def load(path: Path, library: Library, names: Sequence[str] = ()) -> tuple[LocalImage, ...]:
    raise NotImplementedError


def save(library: Library, references: Sequence[str], path: Path) -> None:
    raise NotImplementedError
