"""What goes between the driver and the API thread, without moto: the driver is there before moto is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batch:
    """What the driver has to write to one stream: (timestamp in ms, message) in the order of the timestamps."""

    account: str
    region: str
    group: str
    stream: str
    events: Sequence[tuple[int, str]]


class LogsApiError(Exception):
    """An error that the API would have answered, by its code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.detail = message
