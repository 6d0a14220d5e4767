"""Services that are made when they are first used."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from emulation.wiring.lazy import Lazy


def test_a_service_is_made_once_whoever_asks_first() -> None:
    """Two threads that ask at once get the same one, and nobody has made it before."""
    together, made = Barrier(2), []

    def make() -> object:
        made.append(object())
        return made[-1]

    lazy = Lazy(make)
    assert lazy.made is None

    def ask(_: int) -> object:
        together.wait(5)
        return lazy.get()

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(ask, range(2))
    assert first is second is lazy.made
    assert len(made) == 1
