"""Services that are made when somebody first uses them: a start that needs none of them is not kept waiting."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Lazy(Generic[T_co]):
    """Made once, by whoever asks first, on whatever thread. `made` is None until then."""

    def __init__(self, make: Callable[[], T_co]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: T_co | None = None

    @property
    def made(self) -> T_co | None:
        return self._made

    def get(self) -> T_co:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made
