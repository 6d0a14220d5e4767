"""`sunabox image`: images on this machine, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def _own_library(environment: dict[str, str], tmp_path: Path) -> None:
    environment["SUNABOX_IMAGES"] = str(tmp_path / "images")


def test_an_image_that_is_built_is_listed(run: Run, tmp_path: Path) -> None:
    """build prints the digest, ls shows it under each of its names."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "hello.py").write_text("print('hello')\n")
    built = run("image", "build", str(app), "-t", "hello:1", "-t", "hello", "--command", "python hello.py")
    assert built.returncode == 0, built.stderr
    digest = built.stdout.strip()
    assert digest.startswith("sha256:")
    listed = [line.split()[:2] for line in run("image", "ls").stdout.splitlines()]
    assert listed == [["NAME", "DIGEST"], ["hello:1", digest[:19]], ["hello:latest", digest[:19]]]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["build", "/nonexistent", "-t", "a"], 2, "does not exist"),
        (["build", "."], 2, "--tag"),
        (["build", ".", "-t", "a", "--env", "NAME"], 2, "NAME=VALUE"),
        (["build", ".", "-t", "a", "--command", "'open"], 2, "quotation"),
        (["load", __file__], 1, "sunabox: "),
        (["push", "nothing:1"], 1, "sunabox image ls"),
        (["push", "Nothing:1"], 1, "lowercase"),
    ],
)
def test_what_cannot_be_done_is_explained(run: Run, arguments: list[str], code: int, expected: str) -> None:
    """One or a few lines, never a trace."""
    result = run("image", *arguments)
    assert result.returncode == code
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
