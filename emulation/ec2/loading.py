"""Imports moto's EC2 models without what makes that slow and large.

As moto does it, the import takes a second and 100 MB: half of the time goes into reading botocore's EC2 model three
times over for a list of regions, and a good part of the rest, with half of the memory, into the instance types that
each region offers and that hardly anybody asks for. Here the regions come from one shared session, and the offerings
are read when somebody asks.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, overload

_MODELS = "moto.ec2.models"
_OFFERINGS = "ec2/resources/instance_type_offerings/"

Load = Callable[[str], Any]


def lighten_import() -> None:
    """Whoever imports `moto.ec2.models` from now on gets it the light way; moto's ECS and Batch do. Itself is free."""
    if _MODELS not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODELS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _light():
            super().exec_module(module)


class LazyOfferings(Sequence[dict[str, Any]]):
    """The offerings of a region, read from moto's resources when somebody looks at them.

    moto adds the kind of location to each while it imports; that is done here after reading.
    """

    def __init__(self, load: Load, resource: str) -> None:
        self._load, self._resource = load, resource
        self._rows: list[dict[str, Any]] | None = None
        self.importing = True

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(() if self.importing else self._all())

    def _all(self) -> list[dict[str, Any]]:
        if self._rows is None:
            location_type = self._resource.removeprefix(_OFFERINGS).partition("/")[0]
            self._rows = [{**row, "LocationType": location_type} for row in self._load(self._resource)]
        return self._rows


@contextmanager
def _light() -> Iterator[None]:
    import boto3
    from moto.core.base_backend import AccountSpecificBackend
    from moto.utilities import utils

    load = utils.load_resource
    lazy: list[LazyOfferings] = []

    def load_resource(resource: str) -> Any:
        if not resource.startswith(_OFFERINGS):
            return load(resource)
        lazy.append(LazyOfferings(load, resource))
        return lazy[-1]

    session = boto3.Session
    utils.load_resource = load_resource
    boto3.Session = AccountSpecificBackend.get_session
    try:
        yield
    finally:
        utils.load_resource = load
        boto3.Session = session
        for offerings in lazy:
            offerings.importing = False
