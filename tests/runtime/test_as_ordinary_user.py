"""The suite once more for an ordinary user, where it runs as root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emulation.images.library import Library

NOBODY = 65534
ROOT = Path(__file__).parents[2]


def _interpreter() -> str:
    """One that the ordinary user may run: this one, or the system's of the same version with our libraries."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}"):
        try:
            test = subprocess.run([candidate, "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], check=False)
        except OSError:
            continue
        if test.returncode == 0:
            return candidate
    pytest.skip(f"an ordinary user may run no {version} here")


@pytest.mark.skipif(os.geteuid() != 0, reason="it is an ordinary user who runs the tests already")
def test_the_process_runtime_must_keep_its_promises_to_an_ordinary_user(library: Library, tmp_path: Path) -> None:
    """Contract, programs, plumbing, security and life cycle, with one user id and no rights."""
    home = Path("/tmp") / f"sunabox-user-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        shutil.copytree(library.root, home / "library")
        for path, folders, files in os.walk(home):
            for name in (".", *folders, *files):
                os.chown(os.path.join(path, name), NOBODY, NOBODY)
        environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "RUNTIME_TEST_LIBRARY": str(home / "library"),
        }
        tests = [
            str(path)
            for path in Path(__file__).parent.glob("test_*.py")
            if "process" in path.name or "contract" in path.name
        ]
        command = [_interpreter(), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(home / "tmp")]
        run = subprocess.run(
            [*command, "-k", "not memory", *sorted(tests)],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
        assert " passed" in run.stdout
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)
