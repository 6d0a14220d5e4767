"""Unpacking gives the file system that the layers describe, and never touches anything else."""

import gzip
import os
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulation.errors import ImageError
from emulation.images.source import Layer
from emulation.images.unpack import sweep, unpack
from tests.images.samples import entry, folder, hardlink, image_of, sha256, symlink, tar_of

AS_ROOT = os.geteuid() == 0


def tree(root: Path) -> dict[str, str]:
    """Every path below `root` and what it is."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = "link to " + os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(root))] = path.read_text() if kind == "file" else kind
    return found


@pytest.mark.parametrize("compress", [True, False])
def test_layers_cover_each_other(tmp_path: Path, compress: bool) -> None:
    """Later layers replace files, folders and links of earlier ones, and folders that both have are merged."""
    low = tar_of(folder("etc"), entry("etc/a", b"1"), entry("etc/b", b"1"), folder("was"), entry("was/x", b"1"),
                 symlink("link", "etc"), entry("file", b"1"))  # fmt: skip
    high = tar_of(entry("./etc/a", b"2"), entry("/etc/c", b"2"), entry("was", b"2"), folder("link"), folder("file"))
    unpack(image_of(tmp_path / "blobs", low, high, compress=compress), tmp_path / "root")
    assert tree(tmp_path / "root") == {
        "etc": "folder", "etc/a": "2", "etc/b": "1", "etc/c": "2", "file": "folder", "link": "folder", "was": "2",
    }  # fmt: skip


def test_whiteouts_hide_what_lower_layers_have(tmp_path: Path) -> None:
    """A whiteout removes one name, an opaque one all of a folder, but nothing of the layer that it is in."""
    low = tar_of(entry("a/gone", b"1"), entry("a/kept", b"1"), entry("b/x/deep", b"1"), entry("b/y", b"1"))
    high = tar_of(entry("a/.wh.gone"), entry("a/.wh.never"), entry("none/.wh.x"), entry("b/x/new", b"2"),
                  entry("b/.wh..wh..opq"), entry("b/z", b"2"), entry(".wh..wh.aufs"))  # fmt: skip
    unpack(image_of(tmp_path / "blobs", low, high), tmp_path / "root")
    assert tree(tmp_path / "root") == {
        "a": "folder", "a/kept": "1", "b": "folder", "b/x": "folder", "b/x/new": "2", "b/z": "2",
    }  # fmt: skip


def test_modes_times_and_links_are_kept(tmp_path: Path) -> None:
    """Setuid bits, times, long names, hard links and folders that nobody may write arrive as they were."""
    long_name = "deep/" + "n" * 200 + "/" + "m" * 200
    unpack(
        image_of(
            tmp_path / "blobs",
            tar_of(folder("locked", 0o555, mtime=1000), entry("locked/su", b"x", mode=0o4755, mtime=2000),
                   entry(long_name, b"long"), hardlink("other", "locked/su"), symlink("abs", "/etc/passwd")),
            tar_of(entry("locked/later", b"y")),
        ),
        tmp_path / "root",
    )  # fmt: skip
    root = tmp_path / "root"
    su = (root / "locked/su").stat()
    assert stat.S_IMODE(su.st_mode) == 0o4755 and su.st_mtime == 2000 and su.st_ino == (root / "other").stat().st_ino
    assert stat.S_IMODE((root / "locked").stat().st_mode) == 0o555 and (root / "locked").stat().st_mtime == 1000
    assert (root / long_name).read_bytes() == b"long" and os.readlink(root / "abs") == "/etc/passwd"


@pytest.mark.skipif(not AS_ROOT, reason="only root may give files away")
def test_owners_are_those_of_the_image_shifted(tmp_path: Path) -> None:
    """Root unpacks files with the image's owners plus the shift, links and folders that were only implied included."""
    tar = tar_of(entry("a/file", b"", uid=5, gid=6), symlink("link", "a"))
    unpack(image_of(tmp_path / "blobs", tar), tmp_path / "root", uid_shift=100_000)
    owners = {name: (info := (tmp_path / "root" / name).lstat()) and (info.st_uid, info.st_gid)
              for name in ("", "a", "a/file", "link")}  # fmt: skip
    assert owners == {"": (100_000,) * 2, "a": (100_000,) * 2, "a/file": (100_005, 100_006), "link": (100_000,) * 2}


def test_devices_are_left_out(tmp_path: Path) -> None:
    """No device of the host can be opened through an image."""
    devices = [entry(name, None, type=kind, devmajor=1, devminor=3)
               for name, kind in (("null", tarfile.CHRTYPE), ("disk", tarfile.BLKTYPE))]  # fmt: skip
    unpack(
        image_of(tmp_path / "blobs", tar_of(*devices, entry("pipe", None, type=tarfile.FIFOTYPE))), tmp_path / "root"
    )
    assert os.listdir(tmp_path / "root") == ["pipe"] and (tmp_path / "root/pipe").is_fifo()


def test_a_link_to_a_folder_is_followed_as_the_container_sees_it(tmp_path: Path) -> None:
    """An absolute link leads below the root, as a container whose root that is would follow it."""
    low = tar_of(folder("usr/bin"), symlink("bin", "/usr/bin"), symlink("up", "../../../usr"))
    unpack(image_of(tmp_path / "blobs", low, tar_of(entry("bin/x", b"1"), entry("up/y", b"2"))), tmp_path / "root")
    assert (tmp_path / "root/usr/bin/x").read_bytes() == b"1" and (tmp_path / "root/usr/y").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([entry("../x", b"")], "unsafe path"),
        ([entry("a/../../x", b"")], "unsafe path"),
        ([symlink(".", "/tmp")], "unsafe path"),
        ([entry(".wh..", b"")], "unsafe path"),
        ([entry("a/.wh...", b"")], "unsafe path"),
        ([hardlink("x", "../../outside/secret")], "unsafe path"),
        ([hardlink("x", "missing")], "not in the image|no file of the image"),
        ([symlink("l", "/"), hardlink("x", "l/../../outside/secret")], "unsafe path|no file of the image"),
        ([symlink("a", "b"), symlink("b", "a"), entry("a/x", b"")], "too many levels of symbolic links"),
        ([entry("a/" * 400 + "x", b"")], "folders deep"),
        ([entry("x" * 300, b"")], "failed to unpack"),
        ([entry("x", None, type=b"Z")], "unknown type"),
    ],
)
def test_an_unsafe_layer_is_refused_and_leaves_nothing(tmp_path: Path, changes: list[object], message: str) -> None:
    """The error names the reason; neither the root nor an unfinished folder remains."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "in").mkdir()
    with pytest.raises(ImageError, match=message):
        unpack(image_of(tmp_path / "blobs", tar_of(*changes)), tmp_path / "in/root")  # type: ignore[arg-type]
    assert not os.listdir(tmp_path / "in") and tree(tmp_path / "outside") == {"secret": "secret"}


def test_a_link_out_of_the_root_leads_nowhere_outside(tmp_path: Path) -> None:
    """Writing, removing and linking through a link to an outer folder stays inside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    low = tar_of(symlink("evil", str(outside)), symlink("dots", "../../outside"))
    high = tar_of(entry("evil/secret", b"pwned"), entry("dots/.wh.secret"), entry("dots/new", b"1"))
    unpack(image_of(tmp_path / "blobs", low, high), tmp_path / "in/root")
    assert tree(outside) == {"secret": "secret"}


def truncated(tmp_path: Path) -> tuple[Layer, str]:
    tar = tar_of(entry("file", b"x" * 100_000))
    data = gzip.compress(tar)[:-20]
    return keep(tmp_path, data), sha256(tar)


def huge(tmp_path: Path) -> tuple[Layer, str]:
    member = tarfile.TarInfo("file")
    member.size = 1 << 62
    tar = member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512
    return keep(tmp_path, gzip.compress(tar)), sha256(tar)


def other_content(tmp_path: Path) -> tuple[Layer, str]:
    layer = keep(tmp_path, gzip.compress(tar_of(entry("file", b"1"))))
    layer.path.write_bytes(gzip.compress(tar := tar_of(entry("file", b"2"))))
    return layer, sha256(tar)


def other_diff_id(tmp_path: Path) -> tuple[Layer, str]:
    return keep(tmp_path, gzip.compress(tar_of(entry("file", b"1")))), sha256(b"")


def no_tar(tmp_path: Path) -> tuple[Layer, str]:
    return keep(tmp_path, b"this is no tar" * 100), sha256(b"this is no tar" * 100)


def broken_zstd(tmp_path: Path) -> tuple[Layer, str]:
    return keep(tmp_path, data := b"\x28\xb5\x2f\xfd and more"), sha256(data)


def no_layer(tmp_path: Path) -> tuple[Layer, str]:
    tar = tar_of()
    return replace(keep(tmp_path, tar), media_type="application/vnd.cncf.helm.chart"), sha256(tar)


def keep(tmp_path: Path, data: bytes) -> Layer:
    (tmp_path / "layer").write_bytes(data)
    return Layer(sha256(data), "application/vnd.oci.image.layer.v1.tar+gzip", tmp_path / "layer")


@pytest.mark.parametrize(
    ("make", "message"),
    [(truncated, "damaged"), (huge, "truncated|damaged"), (other_content, "digest does not match"),
     (other_diff_id, "digest does not match"), (no_tar, "damaged"), (broken_zstd, "zstd|damaged"),
     (no_layer, "helm.chart")],
)  # fmt: skip
def test_a_damaged_layer_is_refused_and_leaves_nothing(tmp_path: Path, make: object, message: str) -> None:
    """Truncated, lying and foreign layers give an ImageError, and no half of an image."""
    assert callable(make)
    layer, diff_id = make(tmp_path)
    image = image_of(tmp_path / "blobs", tar_of())
    image = replace(image, layers=(layer,), config=image.config.replace(image.diff_ids[0].encode(), diff_id.encode()))
    with pytest.raises(ImageError, match=message):
        unpack(image, tmp_path / "in/root")
    assert not os.listdir(tmp_path / "in")


def test_an_image_without_content_unpacks(tmp_path: Path) -> None:
    """Docker writes empty layers; an empty stream is one too."""
    unpack(image_of(tmp_path / "blobs", tar_of(), b""), tmp_path / "root")
    assert not os.listdir(tmp_path / "root")


def test_a_sparse_file_is_unpacked_without_writing_its_holes(tmp_path: Path) -> None:
    """A file of a terabyte of nothing takes no room and no time."""
    size = 1 << 40
    header = tarfile.TarInfo("sparse")
    header.size = 512
    data = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[386:410] = b"%011o\0" % (1 << 30) + b"%011o\0" % 512
    data[483:495] = b"\x80" + size.to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    unpack(image_of(tmp_path / "blobs", bytes(data) + b"x" * 512 + b"\0" * 1024), tmp_path / "root")
    file = (tmp_path / "root/sparse").stat()
    assert file.st_size == size and file.st_blocks < 100


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """An unfinished folder that nobody holds is removed, also one with folders that may not be written."""
    (tmp_path / ".root.unpacking-x/a").mkdir(parents=True)
    (tmp_path / ".root.unpacking-x/a").chmod(0)
    sweep(tmp_path)
    assert not os.listdir(tmp_path)


STEPS = ["a", "a", "a", "b", "..", "outside", "secret", ".wh.a", ".wh.secret", ".wh..wh..opq", ".wh...", ""]
NAMES = st.lists(st.sampled_from(STEPS), min_size=1, max_size=3).map("/".join)
TARGETS = st.sampled_from(["OUTSIDE", "OUTSIDE", "OUTSIDE/secret", "../../outside", "a", "b", "/", "..", "a/secret"])
KINDS = ["file", "file", "folder", "symlink", "symlink", "symlink", "hardlink", "fifo", "device"]
MEMBERS = st.one_of(
    st.tuples(st.sampled_from(KINDS), NAMES, TARGETS),
    st.tuples(st.just("symlink"), st.sampled_from(["a", "b"]), TARGETS),  # the start of every known attack
)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.lists(MEMBERS, max_size=8), min_size=1, max_size=3))
def test_no_layer_ever_touches_anything_outside(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[tuple[str, str, str]]]
) -> None:
    """Whatever hostile layers say, what is around the root stays as it was, and a refused image leaves nothing."""
    base = tmp_path_factory.mktemp("hostile")
    outside = base / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (base / "in").mkdir()
    before = (outside.stat(), (outside / "secret").stat())

    def change(kind: str, name: str, target: str) -> object:
        target = target.replace("OUTSIDE", str(outside))
        match kind:
            case "file":
                return entry(name, b"pwned", mode=0o777)
            case "folder":
                return folder(name, 0)
            case "symlink":
                return symlink(name, target)
            case "hardlink":
                return hardlink(name, target)
            case "fifo":
                return entry(name, None, type=tarfile.FIFOTYPE)
            case _:
                return entry(name, None, type=tarfile.CHRTYPE)

    tars = [tar_of(*(change(*member) for member in layer)) for layer in layers]  # type: ignore[misc]
    try:
        unpack(image_of(base / "blobs", *tars), base / "in/root")
    except ImageError:
        assert not os.listdir(base / "in")
    else:
        assert os.listdir(base / "in") == ["root"]
    assert sorted(os.listdir(base)) == ["blobs", "in", "outside"] and os.listdir(outside) == ["secret"]
    after = (outside.stat(), (outside / "secret").stat())
    for old, new in zip(before, after, strict=True):
        same = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_size", "st_mtime_ns", "st_ctime_ns")
        assert all(getattr(old, field) == getattr(new, field) for field in same)
