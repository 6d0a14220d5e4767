"""Where Sunabox reaches into moto. Every reach is here or in a service's `api.py`, and each says what it works around.

`install` is called once, on the API thread, before the first request. Service seams are added by name and run when
moto first asks for a backend of that service, so that nothing heavy is imported before someone needs it.
"""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from emulation.clock import Clock

if TYPE_CHECKING:
    from boto3.session import Session as BotoSession

Installer = Callable[[], None]
"""Imports a service's `api.py` and puts our backend and response classes in the place of moto's."""

_installers: dict[str, Installer] = {}
_now: Callable[[], datetime]


def install(clock: Clock) -> None:
    """Imports moto and binds it to the clock. The state of an earlier Cloud of this process is dropped."""
    from moto.core import base_backend

    base_backend.BackendDict.reset()
    _installers.clear()
    _bind_time(clock)
    _keep_no_instances()
    _install_services_on_first_use()
    _list_modules_once()
    _read_models_once()


def add(installers: Mapping[str, Installer]) -> None:
    """The services' seams, by moto's names of services."""
    _installers.update(installers)


def prepare(service: str) -> None:
    """Runs the seam of a service, once."""
    installer = _installers.pop(service, None)  # at once: what it imports may ask for the same service
    if installer is not None:
        try:
            installer()
        except BaseException:
            _installers[service] = installer  # rather fail again than let moto pretend
            raise


def _bind_time(clock: Clock) -> None:
    """moto's modules import `moto.core.utils.utcnow` by name, so it is the body of that function that is replaced."""
    from moto.core import utils

    namespace: dict[str, Any] = vars(utils)
    namespace["_sunabox_now"] = clock.now
    ours: Any = lambda: _sunabox_now().replace(tzinfo=None)  # type: ignore[name-defined]  # noqa: E731, F821
    utils.utcnow.__code__ = ours.__code__  # its names are looked up in moto's module


def _keep_no_instances() -> None:
    """moto keeps every instance of every model until a reset, for its dashboard: a leak in a process that lives on."""
    from moto.core import common_models

    def new(cls: type, *_args: object, **_kwargs: object) -> object:
        return object.__new__(cls)

    common_models.BaseModel.__new__ = new  # type: ignore[method-assign,assignment]


def _install_services_on_first_use() -> None:
    from moto.core import base_backend

    create = base_backend.BackendDict._create_account_specific_backend
    if getattr(create, "sunabox", False):
        return

    def prepared(self: Any, account_id: str) -> None:
        prepare(self.service_name)
        create(self, account_id)

    prepared.sunabox = True  # type: ignore[attr-defined]
    base_backend.BackendDict._create_account_specific_backend = prepared  # type: ignore[method-assign]


def _list_modules_once() -> None:
    """moto lists its package folder for every request, a third of the latency of a small call."""
    from moto import backends

    if not hasattr(backends.list_of_moto_modules, "cache_info"):
        listing = backends.list_of_moto_modules
        backends.list_of_moto_modules = cache(lambda: frozenset(listing()))


def _read_models_once() -> None:
    """moto reads a service's model twice, for its operations and, with botocore, for its regions, and looks through all
    of botocore's folders before each: half of the time of the first request to a service. Each new account has the
    regions found again.
    """
    from moto.core import utils
    from moto.core.base_backend import AccountSpecificBackend

    if not hasattr(vars(utils)["create_loader"], "cache_info"):
        regions: Any = AccountSpecificBackend._generate_regions
        loader = _quick_loader()
        utils.create_loader = cache(lambda: loader)  # type: ignore[attr-defined]
        AccountSpecificBackend.get_session = cache(lambda: _quick_session(loader))  # type: ignore[method-assign]
        of_service = cache(lambda name: tuple(regions(None, name)))  # it makes no use of self
        known: Any = lambda _, name: of_service(name)  # noqa: E731
        AccountSpecificBackend._generate_regions = known  # type: ignore[method-assign]


def _quick_loader() -> Any:
    """moto's loader of service models. What it finds is the same; it opens the folders of the service only."""
    from moto.core import loaders

    class Loader(loaders.Loader):
        def list_available_services(self, type_name: str) -> list[str]:
            # moto's own folder only holds additions to models.
            folders = [folder for folder in self._potential_locations() if folder != loaders.moto_root]
            return sorted({name for folder in folders for name in os.listdir(folder)})

    return Loader(extra_search_paths=[loaders.moto_root])


def _quick_session(loader: Any) -> "BotoSession":
    """The session that moto asks which regions there are, on the same loader."""
    from boto3.session import Session as BotoSession
    from botocore.session import Session

    class RegionSession(Session):  # type: ignore[misc]  # botocore has no types
        def get_service_data(self, service_name: str, api_version: str | None = None) -> Any:
            # moto's ECS, Batch and others ask for EC2's regions as they are imported. That is no reason to read a model
            # of several megabytes, which only says that the endpoints of EC2 are called "ec2".
            if service_name == "ec2":
                return {"metadata": {"endpointPrefix": "ec2"}}
            return super().get_service_data(service_name, api_version)

    session = RegionSession()
    session.register_component("data_loader", loader)
    return BotoSession(botocore_session=session)
