"""The emulator's own folder, and what becomes of those of killed emulators."""

import os
import tempfile
from pathlib import Path

import pytest

from emulation.errors import SunaboxError
from emulation.folders import claim


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_temporary_folder_goes_away_with_its_process_or_at_the_next_start(tmp_path: Path) -> None:
    """The next start removes what a killed process left, and leaves alone what somebody still uses."""
    killed = claim(None)
    (killed.path / "image").mkdir(mode=0o555)
    os.close(killed._lock)  # as the kernel does
    alive = claim(None)
    assert not killed.path.exists()
    third = claim(None)
    assert alive.path.exists()
    third.release()
    alive.release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    """A second start says who has it; after the first has ended, it may have it, with all that is in it."""
    first = claim(tmp_path / "data")
    with pytest.raises(SunaboxError, match="is in use by another Sunabox"):
        claim(tmp_path / "data")
    assert first.path.stat().st_mode & 0o777 == 0o700, "what is in images is not for others on this machine"
    (first.path / "kept").touch()
    first.release()
    second = claim(tmp_path / "data")
    assert (second.path / "kept").exists()
    second.release()


def test_others_folders_are_let_alone(tmp_path: Path) -> None:
    """Only what is really one of ours is removed: not a link to somewhere else, nor a folder without our lock."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "sunabox-link").symlink_to(elsewhere)
    (tmp_path / "sunabox-notes").mkdir()
    claim(None).release()
    assert (elsewhere / "lock").exists() and (tmp_path / "sunabox-notes").exists()
