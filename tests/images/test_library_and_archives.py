"""Local images are found by name, and move in and out as archives that Docker and others write and read."""

import asyncio
import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from emulation.errors import ImageError, ImageNotFound
from emulation.images.archive import load, save
from emulation.images.library import Library, default_root
from emulation.images.manifest import OCI_INDEX, OCI_MANIFEST, host_platform
from emulation.images.unpack import unpack
from tests.images.samples import config_of, entry, image_of, manifest_of, sha256, tar_of


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def archive(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def docker_files(**changes: Any) -> dict[str, bytes]:
    """What `docker save` wrote until version 24: a configuration and a folder for each layer."""
    layer = tar_of(entry("file", b"1"))
    config = config_of([sha256(layer)])
    listed = {
        "Config": f"{sha256(config)[7:]}.json",
        "RepoTags": ["team/app:1"],
        "Layers": ["abc/layer.tar"],
        **changes,
    }
    return {"abc/layer.tar": layer, str(listed["Config"]): config, "manifest.json": json.dumps([listed]).encode()}


def layout_files(annotations: dict[str, str], platform: str = "") -> dict[str, bytes]:
    """An OCI layout with an index inside the index, as BuildKit and the newer `docker save` write it."""
    layer = tar_of(entry("file", b"1"))
    config = config_of([sha256(layer)])
    manifest = manifest_of(config, [packed := gzip.compress(layer, mtime=0)])
    architecture = platform or host_platform().architecture
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": sha256(b"elsewhere"), "size": 9,
         "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": OCI_MANIFEST, "digest": sha256(manifest), "size": len(manifest),
         "platform": {"os": "linux", "architecture": architecture}},
    ]}).encode()  # fmt: skip
    top = {"schemaVersion": 2, "manifests": [
        {"mediaType": OCI_INDEX, "digest": sha256(index), "size": len(index), "annotations": annotations}
    ]}  # fmt: skip
    blobs = {f"blobs/sha256/{sha256(data)[7:]}": data for data in (config, manifest, packed, index)}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(top).encode(), **blobs}


def test_an_image_is_found_by_its_names(library: Library, tmp_path: Path) -> None:
    """Docker Hub's long form and the short one are the same name; the digest finds it too."""
    image = image_of(tmp_path / "blobs", tar_of(entry("file", b"1")))
    library.add(image, ["app", "docker.io/library/app:2"])
    again = Library(library.root)
    assert [one.name for one in again.list()] == ["app:2", "app:latest"]
    for name in ("app", "app:latest", "docker.io/library/app:2", f"app@{image.digest}"):
        assert asyncio.run(again.resolve(name, "123456789012")).digest == image.digest
    with pytest.raises(ImageNotFound, match="No such image: other:1"):
        asyncio.run(again.resolve("other:1", "123456789012"))


def test_removing_the_last_name_removes_the_blobs(library: Library, tmp_path: Path) -> None:
    """What another image or name still needs stays."""
    shared = tar_of(entry("shared", b"1"))
    library.add(image_of(tmp_path / "a", shared, tar_of(entry("own", b"1"))), ["one:1", "two:1"])
    library.add(image_of(tmp_path / "b", shared), ["three:1"])
    library.remove("one:1")
    assert len(list(library.blobs.digests())) == 6
    library.remove("two:1")
    assert len(list(library.blobs.digests())) == 3 and library.read("three:1").layers
    with pytest.raises(ImageNotFound):
        library.remove("two:1")


def test_an_image_for_another_machine_is_refused_in_the_words_of_ecs(library: Library, tmp_path: Path) -> None:
    """An index without this machine's platform, and an image for another one, cannot be used."""
    words = f"image Manifest does not contain descriptor matching platform '{host_platform()}'"
    with pytest.raises(ImageError, match=words):
        load(archive(tmp_path / "x.tar", layout_files({"io.containerd.image.name": "a:1"}, "mips")), library)
    with pytest.raises(ImageError, match=words):
        library.add(image_of(tmp_path / "blobs", tar_of(), architecture="mips"), ["app:1"])
    assert library.list() == ()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_docker_save_archive_is_loaded(library: Library, tmp_path: Path, mode: str) -> None:
    """The old form, compressed or not, keeps its name and unpacks."""
    (loaded,) = load(archive(tmp_path / "saved.tar", docker_files(), mode), library)
    assert loaded.name == "team/app:1"
    unpack(library.read("team/app:1"), tmp_path / "root")
    assert (tmp_path / "root/file").read_bytes() == b"1"


@pytest.mark.parametrize(
    "annotations",
    [{"io.containerd.image.name": "docker.io/library/app:1"}, {"org.opencontainers.image.ref.name": "app:1"}],
)
def test_an_oci_layout_is_loaded(library: Library, tmp_path: Path, annotations: dict[str, str]) -> None:
    """A tar and a folder of the newer form are the same; other platforms' images may be missing."""
    files = layout_files(annotations)
    for name, data in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    for path in (archive(tmp_path / "layout.tar", files), tmp_path / "folder"):
        (loaded,) = load(path, library)
        assert loaded.name == "app:1" and library.read("app:1").image_config.command == ("/bin/true",)
    assert (tmp_path / "folder/index.json").exists()


def test_an_archive_without_a_name_needs_one(library: Library, tmp_path: Path) -> None:
    """Names that the caller gives replace those of the archive."""
    path = archive(tmp_path / "x.tar", docker_files(RepoTags=None))
    with pytest.raises(ImageError, match="without a name: give it one"):
        load(path, library)
    assert [image.name for image in load(path, library, ["mine:1"])] == ["mine:1"]


def damaged() -> list[tuple[dict[str, bytes], str]]:
    files, layout = docker_files(), layout_files({"io.containerd.image.name": "a:1"})
    layer = next(name for name in layout if layout[name].startswith(b"\x1f\x8b"))
    return [
        ({**files, "abc/layer.tar": tar_of(entry("file", b"2"))}, "digest does not match"),
        ({**files, next(name for name in files if len(name) > 60): config_of([sha256(b"")])}, "digest does not match"),
        ({**docker_files(Layers=["../../etc/passwd"])}, "the archive is incomplete"),
        ({**docker_files(Layers=[])}, "0 layers, but 1 diff_ids"),
        ({**files, "manifest.json": b'{"a": 1}'}, "manifest.json invalid"),
        ({**layout, layer: gzip.compress(b"other")}, "digest does not match"),
        ({name: data for name, data in layout.items() if name != layer}, "the archive is incomplete"),
        ({**layout, "index.json": b"[]"}, "a JSON object is needed"),
        ({"file": b""}, "is no image"),
    ]


@pytest.mark.parametrize("case", range(9))
def test_a_damaged_archive_is_refused(library: Library, tmp_path: Path, case: int) -> None:
    """Nothing is named, and no unfinished upload stays."""
    files, message = damaged()[case]
    with pytest.raises(ImageError, match=message):
        load(archive(tmp_path / "x.tar", files), library)
    assert library.list() == () and not [file for file in library.root.glob("blobs/uploads/*/*") if file.is_file()]


def test_what_is_saved_can_be_loaded_by_both_roads(library: Library, tmp_path: Path) -> None:
    """The archive is an OCI layout with the same digest, and has a manifest.json for `docker load`."""
    image = image_of(tmp_path / "blobs", tar_of(entry("file", b"1")))
    library.add(image, ["app:1"])
    save(library, ["app:1"], tmp_path / "saved.tar")
    (loaded,) = load(tmp_path / "saved.tar", other := Library(tmp_path / "other"))
    assert loaded.digest == image.digest and loaded.name == "app:1"
    with tarfile.open(tmp_path / "saved.tar") as tar:
        members = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    del members["index.json"]
    other.remove("app:1")
    (legacy,) = load(archive(tmp_path / "legacy.tar", members), other)
    assert legacy.name == "app:1" and other.read("app:1").config == image.config


def test_the_librarys_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$SUNABOX_IMAGES first, then $XDG_DATA_HOME, then the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("SUNABOX_IMAGES", raising=False)
    assert default_root() == tmp_path / ".local/share/sunabox/images"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_root() == Path("/data/sunabox/images")
    monkeypatch.setenv("SUNABOX_IMAGES", "/images")
    assert default_root() == Path("/images")
