"""The repository keeps what CONTRIBUTING.md promises, so that nobody has to check it by eye."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from emulation.cli.main import sunabox

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "emulation"

PACKAGE_REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "proxy.golang" + ".org"]
FOLDERS_OF_ONE_MACHINE = ["/work" + "/main", "/work" + "/shared", "/work" + "/.", "/root" + "/.", "/tmp" + "/v/"]


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """The text files of the repository, but not the sample application's data, which were written by others."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if name.startswith("fixtures/data/") or not path.is_file():
            continue
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def test_no_file_depends_on_one_machine() -> None:
    """No text names a package registry's host or a folder of the machine on which it was written."""
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path, text in tracked_texts()
        for word in PACKAGE_REGISTRIES + FOLDERS_OF_ONE_MACHINE
        if word in text
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    """Each module of the package has a docstring; empty ones need none."""
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted(PACKAGE.rglob("*.py"))
        if (text := path.read_text("utf-8")).strip() and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_every_declared_difference_has_a_section_to_be_read_in() -> None:
    """Where code says `Emulation:`, docs/differences.md has a section with lines about that part."""
    sections = dict(re.findall(r"^## [^\n]*\((`[^\n)]*`)\)\n(.*?)(?=^## |\Z)", differences(), re.MULTILINE | re.DOTALL))
    lines = {
        part: [line for line in text.splitlines() if line.startswith("|")][2:]
        for names, text in sections.items()
        for part in re.findall(r"`(\w+)`", names)
    }
    declared = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\W*Emulation: ", path.read_text("utf-8"), re.MULTILINE)
    }
    assert declared
    assert sorted(part for part in declared if not lines.get(part)) == []


def differences() -> str:
    return (ROOT / "docs" / "differences.md").read_text("utf-8")


def test_every_command_is_documented() -> None:
    """The README or a page of docs shows each command of `sunabox` in use."""
    texts = [path.read_text("utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]]
    commands = list(command_names(sunabox, "sunabox"))
    assert commands
    assert [command for command in commands if not any(command in text for text in texts)] == []


def command_names(command: click.Command, name: str) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield name
        return
    context = click.Context(command)
    for child in command.list_commands(context):
        below = command.get_command(context, child)
        if below is not None and not below.hidden:
            yield from command_names(below, f"{name} {child}")
