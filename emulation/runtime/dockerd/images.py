"""Images for the daemon: those of the emulator are loaded into it, those that it has already are used as they are."""

import asyncio
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from emulation.errors import ImageError, ImageNotFound
from emulation.images.manifest import Platform, host_platform, no_platform, parse_configuration
from emulation.images.reference import ImageReference, ecr_registry
from emulation.images.source import ImageSource, ResolvedImage
from emulation.runtime.base import ImageConfig, PulledImage
from emulation.runtime.dockerd import pause
from emulation.runtime.dockerd.daemon import Daemon, DaemonError, DaemonGone
from emulation.runtime.dockerd.ownership import Owner

_CHUNK = 1 << 20


class DockerImages:
    """`source` knows the emulator's images: ECR's and the local ones."""

    def __init__(self, daemon: Daemon, source: ImageSource, owner: Owner) -> None:
        self._daemon, self._source, self._owner = daemon, source, owner
        self._loading: dict[str, asyncio.Lock] = {}
        self._names: dict[str, str] = {}

    async def pull(self, reference: str, account: str) -> PulledImage:
        """Raises ImageNotFound and ImageError, in the words that ECS shows."""
        try:
            try:
                image = await self._source.resolve(reference, account)
            except ImageNotFound as error:
                return await self._find(reference, error)
            return await self._take(image)
        except (DaemonGone, DaemonError) as error:
            raise ImageError(str(error)) from error

    def name(self, image: PulledImage) -> str:
        """What the daemon calls a pulled image."""
        return self._names[image.digest]

    async def load_pause(self) -> str:
        """The pause container's image: its name."""
        name = f"{self._owner.repository}:pause"
        await self._daemon.load(pause.archive(name))
        return name

    async def close(self) -> None:
        """Takes the names away that were given here. What nobody else uses of the images goes with them."""
        for name in await self._daemon.image_names(f"{self._owner.repository}:"):
            await self._daemon.untag(name)

    async def _take(self, image: ResolvedImage) -> PulledImage:
        pulled = PulledImage(image.reference, image.digest, image.image_config)
        tag = image.digest.replace(":", "-")
        name = f"{self._owner.repository}:{tag}"
        async with self._loading.setdefault(image.digest, asyncio.Lock()):
            if await self._daemon.image(name) is None:
                # The digest of its configuration is an image's id, so one that was pushed from here is found again.
                known = f"sha256:{hashlib.sha256(image.config).hexdigest()}"
                if await self._daemon.image(known) is not None:
                    await self._daemon.tag(known, self._owner.repository, tag)
                else:
                    await self._daemon.load(_archive(image, name))
        self._names[image.digest] = name
        return pulled

    async def _find(self, reference: str, missing: ImageNotFound) -> PulledImage:
        if ecr_registry(ImageReference.parse(reference)) is not None:
            raise missing
        found = await self._daemon.image(reference)
        if found is None:
            raise ImageNotFound(f"{missing} The Docker daemon has no such image either: docker pull it first.")
        platform = Platform(found.get("Os", "linux"), found.get("Architecture", ""), found.get("Variant", ""))
        host = host_platform()
        if platform.architecture and not host.accepts(platform):
            raise no_platform(host)
        digests = [name.rpartition("@")[2] for name in found.get("RepoDigests") or ()]
        digest = digests[0] if digests else str(found["Id"])
        self._names[digest] = str(found["Id"])
        return PulledImage(reference, digest, _image_config(found))


def _image_config(found: Mapping[str, Any]) -> ImageConfig:
    """What the daemon says of an image, read as if it were the image's configuration blob."""
    document = {
        "os": found.get("Os", "linux"),
        "architecture": found.get("Architecture", ""),
        "variant": found.get("Variant") or "",
        "config": found.get("Config") or {},
        "rootfs": {"type": "layers", "diff_ids": (found.get("RootFS") or {}).get("Layers") or []},
    }
    return parse_configuration(json.dumps(document).encode()).image_config


def _archive(image: ResolvedImage, name: str) -> Iterator[bytes]:
    """The image as `docker load` takes it. Source: Docker Image Specification v1.2, "Combined Image JSON"."""
    layers = {f"{layer.digest.replace(':', '-')}.tar": layer.path for layer in image.layers}
    entry = {
        "Config": "config.json",
        "RepoTags": [name],
        "Layers": [f"{layer.digest.replace(':', '-')}.tar" for layer in image.layers],
    }
    for path, content in (("manifest.json", json.dumps([entry]).encode()), ("config.json", image.config)):
        yield _header(path, len(content)) + content + _padding(len(content))
    for path, file in layers.items():
        size = file.stat().st_size
        yield _header(path, size)
        with file.open("rb") as stream:
            while data := stream.read(_CHUNK):
                yield data
        yield _padding(size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(path: str, size: int) -> bytes:
    member = tarfile.TarInfo(path)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
