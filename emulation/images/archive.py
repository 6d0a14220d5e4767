"""Images as files: `docker save` archives and OCI layouts, in and out of a library.

Source: OCI Image Format Specification, "Image Layout"; Docker Image Specification v1.2, "Combined Image JSON +
Filesystem Changeset Format" (manifest.json).
"""

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emulation.errors import ImageError
from emulation.images.blobs import check_digest, digest_of, digest_of_file
from emulation.images.layers import open_layer
from emulation.images.library import LAYOUT_FILE, NAME_ANNOTATION, REF_NAME_ANNOTATION, Library, LocalImage
from emulation.images.manifest import (
    LARGEST_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Index,
    parse_configuration,
    parse_index,
    parse_manifest,
)
from emulation.images.reference import ImageReference
from emulation.images.source import Layer

Files = Mapping[str, Path]
"""The regular files of an archive or a folder, by their path in it."""


def load(path: Path, library: Library, names: Sequence[str] = ()) -> tuple[LocalImage, ...]:
    """Adds the images of a `docker save` archive or an OCI layout, a folder or a tar (also compressed), to a library.

    They keep their names, unless `names` are given for the only image there is. Raises ImageError where the archive is
    damaged, holds no image or none for this machine, or where a content has not the digest that it should have.
    """
    with _files(path, library) as files:
        if "index.json" in files:
            found = _load_layout(files, library)
        elif "manifest.json" in files:
            found = _load_docker(files, library)
        else:
            raise ImageError(
                f"{path} is no image: it has neither an index.json (OCI) nor a manifest.json (docker save)"
            )
        if names and len(found) != 1:
            raise ImageError(f"{path} holds {len(found)} images, so they cannot all be named {names[0]}")
        unnamed = [digest for digest, own in found.items() if not own and not names]
        if unnamed or not found:
            what = f"the image {unnamed[0]} without a name: give it one" if unnamed else "no image"
            raise ImageError(f"{path} holds {what}")
        return tuple(image for digest, own in found.items() for image in library.add(digest, names or own))


def save(library: Library, references: Sequence[str], path: Path) -> None:
    """Writes images into a new tar that is both an OCI layout and what `docker load` takes.

    Raises ImageNotFound for a name that the library does not have, ImageError for an image not of this machine.
    """
    manifests, listed = [], []
    blobs: set[str] = set()
    for reference in references:
        image = library.read(reference)
        name = library.find(reference).name
        config = parse_manifest(image.manifest)
        assert not isinstance(config, Index)  # `read` has chosen this machine's
        annotations = {NAME_ANNOTATION: name, REF_NAME_ANNOTATION: ImageReference.parse(name).tag}
        manifests.append(
            Descriptor(config.media_type, image.digest, len(image.manifest), annotations=annotations).to_json()
        )
        layers = [layer.digest for layer in image.layers]
        listed.append(
            {"Config": _blob(config.config.digest), "RepoTags": [name], "Layers": [_blob(digest) for digest in layers]}
        )
        blobs |= {image.digest, config.config.digest, *layers}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            _add(tar, "oci-layout", LAYOUT_FILE)
            _add(tar, "index.json", json.dumps(index).encode())
            _add(tar, "manifest.json", json.dumps(listed).encode())
            for digest in sorted(blobs):
                _add(tar, _blob(digest), library.blobs.path(digest))
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def _load_layout(files: Files, library: Library) -> dict[str, list[str]]:
    tags = _docker_tags(files)
    found: dict[str, list[str]] = {}
    for entry in parse_index(_small(files, "index.json")).manifests:
        configs = _adopt(files, library, entry.digest)
        annotations = entry.annotations or {}
        names = found.setdefault(entry.digest, [])
        if name := annotations.get(NAME_ANNOTATION, ""):
            names.append(name)
        elif re.search("[/:]", name := annotations.get(REF_NAME_ANNOTATION, "")):
            names.append(name)  # others than the specification's authors put the whole reference there
        else:
            names += [tag for config in configs for tag in tags.get(config, ())]
    return found


def _adopt(files: Files, library: Library, digest: str) -> list[str]:
    """Takes over a manifest and all that it refers to; gives the paths of the configurations in the archive.

    An index may name other platforms' images that the archive leaves out.
    """
    _adopt_blob(files, library, digest)
    if library.blobs.size(digest) > LARGEST_MANIFEST:
        raise ImageError(f"manifest invalid: {digest} is larger than {LARGEST_MANIFEST} bytes")
    manifest = parse_manifest(library.blobs.path(digest).read_bytes())
    if isinstance(manifest, Index):
        here = [entry.digest for entry in manifest.manifests if _blob(entry.digest) in files]
        return [config for child in here if child != digest for config in _adopt(files, library, child)]
    for part in (manifest.config, *manifest.layers):
        _adopt_blob(files, library, part.digest)
    return [_blob(manifest.config.digest)]


def _adopt_blob(files: Files, library: Library, digest: str) -> None:
    if library.blobs.has(digest):
        return
    if (source := files.get(_blob(digest))) is None:
        raise ImageError(f"the archive is incomplete: it has no blob {digest}")
    upload = library.blobs.new_upload()
    try:
        shutil.copyfile(source, upload)
        library.blobs.adopt(upload, digest)
    finally:
        upload.unlink(missing_ok=True)


def _load_docker(files: Files, library: Library) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in _docker_manifest(files):
        config = _small(files, entry["Config"])
        if (named := re.fullmatch(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?", entry["Config"])) is not None and digest_of(
            config
        ) != f"sha256:{named[1]}":
            raise ImageError(f"digest does not match: {entry['Config']} contains {digest_of(config)}")
        diff_ids = parse_configuration(config).diff_ids
        if len(diff_ids) != len(entry["Layers"]):
            raise ImageError(f"manifest.json invalid: {len(entry['Layers'])} layers, but {len(diff_ids)} diff_ids")
        layers = [
            _docker_layer(files, library, name, diff_id)
            for name, diff_id in zip(entry["Layers"], diff_ids, strict=True)
        ]
        library.blobs.put(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, digest_of(config), len(config)).to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        digest = library.blobs.put(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
        found.setdefault(digest, []).extend(entry["RepoTags"] or ())
    return found


def _docker_layer(files: Files, library: Library, name: str, diff_id: str) -> Descriptor:
    if (source := files.get(name)) is None:
        raise ImageError(f"the archive is incomplete: it has no layer {name}")
    digest = digest_of_file(source)
    media_type = OCI_LAYER if digest == diff_id else OCI_LAYER_GZIP
    with open_layer(Layer(digest, media_type, source), diff_id):
        pass  # reads and verifies it
    size = source.stat().st_size
    if not library.blobs.has(digest):
        upload = library.blobs.new_upload()
        shutil.copyfile(source, upload)
        library.blobs.adopt(upload, digest)
    return Descriptor(media_type, digest, size)


def _docker_tags(files: Files) -> dict[str, list[str]]:
    if "manifest.json" not in files:
        return {}
    return {entry["Config"]: entry["RepoTags"] or [] for entry in _docker_manifest(files)}


def _docker_manifest(files: Files) -> list[dict[str, Any]]:
    try:
        entries = json.loads(_small(files, "manifest.json"))
        return [
            {
                "Config": _text(entry["Config"]),
                "RepoTags": [_text(tag) for tag in entry.get("RepoTags") or ()],
                "Layers": [_text(layer) for layer in entry["Layers"]],
            }
            for entry in entries
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ImageError(f"manifest.json invalid: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _small(files: Files, name: str) -> bytes:
    if (file := files.get(name)) is None:
        raise ImageError(f"the archive is incomplete: it has no {name}")
    if file.stat().st_size > LARGEST_MANIFEST:
        raise ImageError(f"{name} invalid: it is larger than {LARGEST_MANIFEST} bytes")
    return file.read_bytes()


@contextmanager
def _files(path: Path, library: Library) -> Iterator[Files]:
    if path.is_dir():
        real = path.resolve()
        found = (Path(folder, name) for folder, _, names in os.walk(real) for name in names)
        yield {str(file.relative_to(real)): file for file in found if file.resolve().is_relative_to(real)}
        return
    if not path.is_file():
        raise ImageError(f"{path} is neither a file nor a folder")
    spooled: dict[str, Path] = {}
    try:
        _spool(path, library, spooled)
        yield spooled
    finally:
        for file in set(spooled.values()):
            file.unlink(missing_ok=True)


def _spool(path: Path, library: Library, spooled: dict[str, Path]) -> None:
    """Reads an archive once, from its beginning: a compressed one cannot be read at random. Names stay mere names."""
    aliases: dict[str, str] = {}
    try:
        with tarfile.open(path, mode="r|*") as tar:
            for member in tar:
                name = os.path.normpath(member.name)
                if member.isreg() and (source := tar.extractfile(member)) is not None:
                    file = spooled.setdefault(name, library.blobs.new_upload())
                    with file.open("wb") as target:
                        shutil.copyfileobj(source, target)
                elif member.islnk():
                    aliases[name] = os.path.normpath(member.linkname)
                elif member.issym():  # old versions of Docker share a layer of two images so
                    aliases[name] = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise ImageError(f"{path} is no image archive, or damaged: {error}") from error
    spooled.update({name: spooled[target] for name, target in aliases.items() if target in spooled})


def _blob(digest: str) -> str:
    return f"blobs/sha256/{check_digest(digest)}"


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    else:
        member.size = content.stat().st_size
        with content.open("rb") as file:
            tar.addfile(member, file)
