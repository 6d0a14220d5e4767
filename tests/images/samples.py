"""Images made by hand: tars, manifests and resolved images with whatever a test wants in them."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulation.images.manifest import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST, host_platform
from emulation.images.source import Layer, ResolvedImage

Change = Callable[[tarfile.TarFile], None]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def entry(name: str, content: bytes | None = b"", **fields: Any) -> Change:
    """A file with `content`, or, with a `type`, anything else that a tar can hold."""

    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.mode = 0o644
        for field, value in fields.items():
            setattr(member, field, value)
        if member.isreg():
            member.size = len(content or b"")
            tar.addfile(member, io.BytesIO(content or b""))
        else:
            tar.addfile(member)

    return add


def folder(name: str, mode: int = 0o755, **fields: Any) -> Change:
    return entry(name, None, type=tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name: str, target: str) -> Change:
    return entry(name, None, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Change:
    return entry(name, None, type=tarfile.LNKTYPE, linkname=target)


def tar_of(*changes: Change, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for change in changes:
            change(tar)
    return buffer.getvalue()


def config_of(diff_ids: list[str], run: dict[str, Any] | None = None, architecture: str = "") -> bytes:
    return json.dumps(
        {
            "architecture": architecture or host_platform().architecture,
            "os": "linux",
            "config": run or {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()


def manifest_of(config: bytes, layers: list[bytes], media_type: str = OCI_LAYER_GZIP) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": sha256(config), "size": len(config)},
            "layers": [{"mediaType": media_type, "digest": sha256(data), "size": len(data)} for data in layers],
        }
    ).encode()


def image_of(folder: Path, *tars: bytes, compress: bool = True, **config: Any) -> ResolvedImage:
    """An image whose layers are kept as files in `folder`."""
    folder.mkdir(exist_ok=True)
    blobs = [gzip.compress(tar, mtime=0) if compress else tar for tar in tars]
    media_type = OCI_LAYER_GZIP if compress else OCI_LAYER
    layers = []
    for blob in blobs:
        path = folder / sha256(blob).partition(":")[2]
        path.write_bytes(blob)
        layers.append(Layer(sha256(blob), media_type, path))
    configuration = config_of([sha256(tar) for tar in tars], **config)
    manifest = manifest_of(configuration, blobs, media_type)
    return ResolvedImage("sample:1", sha256(manifest), manifest, configuration, tuple(layers))
