"""The store in files: its cache, and what happens to files that are damaged."""

from pathlib import Path

import pytest
from furui.errors import FuruiError
from furui.store.files import FileExamples, FileModels, FileScores


def test_scores_expire(tmp_path: Path) -> None:
    """After their time scores are forgotten, and their file goes with the next write."""
    now = [0.0]
    scores = FileScores(tmp_path, 10, lambda: now[0])
    scores.put("a1", {"x": 1.0})
    written = (tmp_path / "scores" / "a1.json").stat().st_mtime
    now[0] = written + 9
    assert scores.get("a1", ["x"]) == {"x": 1.0}
    now[0] = written + 11
    assert scores.get("a1", ["x"]) == {}
    scores.put("a2", {"x": 1.0})
    assert not (tmp_path / "scores" / "a1.json").exists()


def test_a_damaged_cache_is_an_empty_one(tmp_path: Path) -> None:
    """Whatever lies in the cache's file, it costs a calculation and no more."""
    scores = FileScores(tmp_path, 10**9)
    for content in (b"", b"[1]", b'{"x": null}', b"\xff"):
        (tmp_path / "scores").mkdir(exist_ok=True)
        (tmp_path / "scores" / "a1.json").write_bytes(content)
        assert scores.get("a1", ["x"]) == {}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"text": "a"}', b'{"text": "a", "labels": "x"}', b"\xff"])
def test_damaged_examples_are_named_and_never_overwritten(tmp_path: Path, content: bytes) -> None:
    """The error names the file; a write that would lose what can perhaps be saved does not happen."""
    path = tmp_path / "examples.jsonl"
    path.write_bytes(content)
    with pytest.raises(FuruiError, match=r"examples\.jsonl is damaged"):
        FileExamples(tmp_path).add([])
    assert path.read_bytes() == content


def test_a_damaged_model_says_to_train_again(tmp_path: Path) -> None:
    """A model that cannot be read is named as such, not taken for none."""
    (tmp_path / "model.json").write_bytes(b'{"format": 1}')
    with pytest.raises(FuruiError, match="train again"):
        FileModels(tmp_path).load()
