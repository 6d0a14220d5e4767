"""Layers as streams: decompressed and hashed in one pass, so that no byte is read twice to be verified."""

import gzip
import hashlib
import importlib
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from emulation.errors import ImageError
from emulation.images.source import Layer

_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LAYER_TYPES = (
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)


class HashingReader(io.RawIOBase):
    """Passes on what it reads, and knows the digest of all that was read so far."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def open_layer(layer: Layer, diff_id: str = "") -> Iterator[HashingReader]:
    """A layer's uncompressed tar, to be read in the `with` block.

    At the block's end the rest is read, and ImageError raised where the content has not the layer's digest or, if one
    is given, not that diff_id. Damaged compression is an ImageError too.
    """
    if not layer.media_type.startswith(_LAYER_TYPES):
        raise ImageError(f"layer {layer.digest} has the media type {layer.media_type!r}, which is no file system layer")
    with layer.path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        compressed = HashingReader(file)
        try:
            # By their first bytes, as containerd does: in registries are layers whose media type names another one.
            tar = HashingReader(_decompressor(magic, layer)(cast(IO[bytes], compressed)))
            yield tar
            tar.drain()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImageError(f"layer {layer.digest} is damaged: {error}") from error
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # its module may not be there to be imported from
                raise
            raise ImageError(f"layer {layer.digest} is damaged: {error}") from error
        compressed.drain()
    if compressed.digest != layer.digest:
        raise ImageError(f"digest does not match: layer {layer.digest} contains {compressed.digest}")
    if diff_id and tar.digest != diff_id:
        raise ImageError(
            f"digest does not match: layer {layer.digest} unpacks to {tar.digest}, the image says {diff_id}"
        )


def _decompressor(magic: bytes, layer: Layer) -> Callable[[IO[bytes]], IO[bytes]]:
    if magic.startswith(_GZIP_MAGIC):
        return lambda stream: cast(IO[bytes], gzip.GzipFile(fileobj=stream, mode="rb"))
    if magic == _ZSTD_MAGIC:
        return _zstd_opener(layer)
    return lambda stream: stream


def _zstd_opener(layer: Layer) -> Callable[[IO[bytes]], IO[bytes]]:
    try:
        return cast(Callable[[IO[bytes]], IO[bytes]], importlib.import_module("compression.zstd").open)
    except ModuleNotFoundError:  # before Python 3.14
        pass
    try:
        return cast(Callable[[IO[bytes]], IO[bytes]], importlib.import_module("zstandard").open)
    except ModuleNotFoundError:
        raise ImageError(
            f"layer {layer.digest} has the media type {layer.media_type!r}, and this Python cannot read zstd: "
            "use Python 3.14 or newer, `pip install zstandard`, or build the image with compression=gzip"
        ) from None
