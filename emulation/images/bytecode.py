"""Compiled Python modules for images, so that a program in a container need not compile what it imports.

They are "unchecked hash" files, which the interpreter takes as they are: a container's files have no useful times, and
its root may be read-only. They are made by processes of their own with a fixed hash seed, always in the same order and
in the same portions, since the bytes depend on what an interpreter did before.

Source: The Python Language Reference, "The import system", Cached bytecode invalidation.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from emulation.errors import ImageError
from emulation.images.layer_writer import LayerTree

_PORTIONS = 4

_COMPILER = """
import importlib.util, json, marshal, sys, warnings
warnings.simplefilter("ignore")
for source_file, name, target in json.load(sys.stdin):
    with open(source_file, "rb") as file:
        source = file.read()
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError):
        continue
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    with open(target, "wb") as file:
        file.write(header + marshal.dumps(code))
"""


def add_bytecode(tree: LayerTree) -> None:
    """Adds the compiled form of every module in a tree. What does not compile is left to fail where it is imported."""
    with tempfile.TemporaryDirectory(prefix="sunabox-bytecode-") as folder:
        jobs = [
            (str(source), f"/{path}", str(Path(folder, str(number))))
            for number, (path, source) in enumerate(tree.python_sources())
        ]
        portions = [jobs[start::_PORTIONS] for start in range(_PORTIONS)]
        processes = [_compiling(portion, folder) for portion in portions if portion]
        for process in processes:
            _, errors = process.communicate()
            if process.returncode:
                raise ImageError(f"the interpreter {sys.executable} cannot compile modules: {errors.strip()[-500:]}")
        for _, name, target in jobs:
            if (compiled := Path(target)).exists():
                parent, _, module = name.lstrip("/").rpartition("/")
                cached = f"{module.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
                tree.file("/".join(filter(None, (parent, "__pycache__", cached))), compiled.read_bytes())


def _compiling(portion: list[tuple[str, str, str]], folder: str) -> "subprocess.Popen[str]":
    library_path = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    job = Path(folder, f"{Path(portion[0][2]).name}.json")
    job.write_text(json.dumps(portion), encoding="utf-8")
    with job.open("rb") as stdin:
        return subprocess.Popen(
            [sys.executable, "-S", "-s", "-c", _COMPILER],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={"PYTHONHASHSEED": "0", **library_path},
        )
