"""The machine's local images by name and tag, as `docker images` lists them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from emulation.images.blobs import BlobStore
from emulation.images.source import ResolvedImage


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A name in the library. `size_bytes` is that of the manifest, the configuration and the layers as kept."""

    name: str
    digest: str
    media_type: str
    size_bytes: int
    created: str


class Library:
    """An ImageSource in a folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.blobs: BlobStore

    def add(self, digest: str, names: Iterable[str]) -> None:
        """Names an image whose blobs are all in `self.blobs` already."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        raise NotImplementedError

    def list(self) -> tuple[LocalImage, ...]:
        raise NotImplementedError

    async def resolve(self, reference: str, account: str) -> ResolvedImage:
        raise NotImplementedError
