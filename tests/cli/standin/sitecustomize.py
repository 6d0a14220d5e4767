"""Puts `standin_cloud.py` in the place of emulation/cloud.py, in the programs that the tests of the command start."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path


class _StandinFinder(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != "emulation.cloud":
            return None
        return spec_from_file_location(fullname, Path(__file__).with_name("standin_cloud.py"))


sys.meta_path.insert(0, _StandinFinder())
