"""Layers as they are written: a tree of files that gives the same bytes whenever its content is the same."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from emulation.images.blobs import BlobStore, digest_of_file
from emulation.images.manifest import OCI_LAYER_GZIP, Descriptor


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer in a store, and the digest of its uncompressed tar."""

    descriptor: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """`content` is bytes, a file of the host, the target of a symbolic link, or None for a folder."""

    content: bytes | Path | str | None
    mode: int


class LayerTree:
    """Files, folders and links at paths without a leading slash. All belong to root and have the time zero."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def file(self, path: str, content: bytes | Path, mode: int | None = None) -> None:
        """A file with that content, or with that of a file of the host. Its mode is 755 where that is executable."""
        if mode is None:
            mode = 0o755 if isinstance(content, Path) and content.stat().st_mode & 0o100 else 0o644
        self._put(path, _Entry(content, mode))

    def link(self, path: str, target: str) -> None:
        self._put(path, _Entry(target, 0o777))

    def folder(self, path: str, mode: int = 0o755) -> None:
        self._put(path, _Entry(None, mode))

    def python_sources(self) -> list[tuple[str, Path]]:
        """The paths of all Python modules, and the files of the host that they come from."""
        return [
            (path, entry.content)
            for path, entry in sorted(self._entries.items())
            if path.endswith(".py") and isinstance(entry.content, Path)
        ]

    def host_files(self) -> list[Path]:
        """The files of the host that are part of the tree."""
        return [entry.content for _, entry in sorted(self._entries.items()) if isinstance(entry.content, Path)]

    def write(self, blobs: BlobStore) -> WrittenLayer:
        """Puts the tree into a store, as one layer."""
        upload = blobs.new_upload()
        uncompressed = hashlib.sha256()
        with upload.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed:
            target = _Tee(compressed, uncompressed)
            with tarfile.open(fileobj=cast(IO[bytes], target), mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path, entry in sorted(self._entries.items(), key=lambda item: item[0].split("/")):
                    _add(tar, path, entry)
        digest = digest_of_file(upload)
        size = upload.stat().st_size
        blobs.adopt(upload, digest)
        return WrittenLayer(Descriptor(OCI_LAYER_GZIP, digest, size), f"sha256:{uncompressed.hexdigest()}")

    def _put(self, path: str, entry: _Entry) -> None:
        parent = ""
        for part in path.split("/")[:-1]:
            parent = f"{parent}/{part}" if parent else part
            self._entries.setdefault(parent, _Entry(None, 0o755))
        self._entries[path] = entry


class _Tee(io.RawIOBase):
    def __init__(self, stream: gzip.GzipFile, checksum: "hashlib._Hash") -> None:
        self._stream = stream
        self._checksum = checksum

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # tarfile writes nothing but bytes
        self._checksum.update(data)
        return self._stream.write(data)


def _add(tar: tarfile.TarFile, path: str, entry: _Entry) -> None:
    member = tarfile.TarInfo(path)
    member.mode = entry.mode
    match entry.content:
        case None:
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        case str() as target:
            member.type = tarfile.SYMTYPE
            member.linkname = target
            tar.addfile(member)
        case bytes() as data:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        case Path() as source:
            with source.open("rb") as file:
                member.size = source.stat().st_size
                tar.addfile(member, file)
