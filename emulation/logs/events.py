"""The events of log streams: kept in order, expired by age, and handed out in pages.

Events are ordered by timestamp, then by arrival. An event's `position` is that order as one number; pages go on from
positions, so that a reader neither loses nor repeats anything while others write, expire or create streams meanwhile.

Source: CloudWatch Logs API Reference, GetLogEvents, FilterLogEvents.
"""

import heapq
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from emulation.errors import SunaboxError
from emulation.logs.lines import EVENT_OVERHEAD_BYTES
from emulation.logs.patterns import Matcher

PAGE_EVENTS = 10_000
PAGE_BYTES = 1024 * 1024
"""A page holds as many events as fit into 1 MB, up to 10,000; and one event always."""

_SCANNED_AT_ONCE = 50_000
"""After so many events that do not match, a page is handed out as it is, so that other calls have their turn."""

_SEQUENCE_BITS = 64
_LAST = 1 << (64 + _SEQUENCE_BITS)

_by_position = attrgetter("position")


class InvalidToken(SunaboxError):
    """A token that no page has handed out."""


class Event:
    """A log event. Times are milliseconds since 1970; `size` is what it counts for, in bytes.

    `sequence` is the number of its arrival in the account and region.
    """

    __slots__ = ("ingestion_time", "message", "position", "size", "timestamp")

    def __init__(self, timestamp: int, ingestion_time: int, message: str, sequence: int) -> None:
        self.timestamp = timestamp
        self.ingestion_time = ingestion_time
        self.message = message
        self.size = EVENT_OVERHEAD_BYTES + (len(message) if message.isascii() else len(message.encode()))
        self.position = (timestamp << _SEQUENCE_BITS) + sequence

    @property
    def event_id(self) -> str:
        return f"{self.position:056d}"


class EventLog:
    """The events of one stream. `events` is in order and is only for reading."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stored_bytes = 0
        self.last_ingestion_time: int | None = None

    def append(self, events: Sequence[Event]) -> None:
        """Takes events in order of their positions; others that are here may be later."""
        if not events:
            return
        self.last_ingestion_time = events[-1].ingestion_time
        self.stored_bytes += sum(event.size for event in events)
        in_order = not self.events or self.events[-1].position < events[0].position
        self.events.extend(events)
        if not in_order:
            self.events.sort(key=_by_position)

    def expire(self, before: int) -> None:
        """Forgets what is older than `before`, in milliseconds since 1970."""
        if self.events and self.events[0].timestamp < before:
            end = bisect_left(self.events, before << _SEQUENCE_BITS, key=_by_position)
            self.stored_bytes -= sum(event.size for event in self.events[:end])
            del self.events[:end]


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A page of GetLogEvents. At an end of the stream its token is the one that was passed in."""

    events: Sequence[Event]
    backward_token: str
    forward_token: str


def read_stream(
    log: EventLog,
    *,
    start: int | None = None,
    end: int | None = None,
    limit: int | None = None,
    token: str | None = None,
    from_head: bool = False,
) -> StreamPage:
    """A page of one stream's events with start <= timestamp < end. Raises InvalidToken."""
    lower = (start or 0) << _SEQUENCE_BITS
    upper = _LAST if end is None else end << _SEQUENCE_BITS
    direction, anchor = _parsed(token) if token else ("f", lower - 1) if from_head else ("b", upper)
    if direction == "f":
        lower = max(lower, anchor + 1)
    else:
        upper = min(upper, anchor)
    low = bisect_left(log.events, lower, key=_by_position)
    high = bisect_left(log.events, upper, key=_by_position)
    indices = range(low, high) if direction == "f" else range(high - 1, low - 1, -1)
    events = list(_fitting((log.events[index] for index in indices), limit))
    if direction == "b":
        events.reverse()
    if events:
        first, last = events[0].position, events[-1].position + 1
    else:
        first = last = max(lower, 1) if direction == "f" else min(upper, _position_after(log))
    # A token names a boundary between events, so it is the same token wherever nothing lies beyond it.
    return StreamPage(events, f"b/{first:056d}/s", f"f/{last - 1:056d}/s")


@dataclass(frozen=True, slots=True)
class GroupPage:
    """A page of FilterLogEvents: (stream name, event), and the token for what follows, None at the end."""

    events: Sequence[tuple[str, Event]]
    next_token: str | None


def read_group(
    streams: Iterable[tuple[str, EventLog]],
    *,
    start: int | None = None,
    end: int | None = None,
    limit: int | None = None,
    token: str | None = None,
    matches: Matcher | None = None,
    newest_first: bool = False,
) -> GroupPage:
    """A page of the events of several streams with start <= timestamp <= end, in order. Raises InvalidToken.

    The direction of a token goes before `newest_first`.
    """
    lower = (start or 0) << _SEQUENCE_BITS
    upper = _LAST if end is None else (end + 1) << _SEQUENCE_BITS
    if token:
        direction, anchor = _parsed(token)
        newest_first = direction == "b"
        if newest_first:
            upper = min(upper, anchor)
        else:
            lower = max(lower, anchor + 1)
    merged = heapq.merge(
        *(_between(name, log.events, lower, upper, newest_first) for name, log in streams),
        key=lambda item: item[1].position,
        reverse=newest_first,
    )
    found: list[tuple[str, Event]] = []
    size = 0
    reached: Event | None = None
    for scanned, item in enumerate(merged):
        event = item[1]
        matching = matches is None or matches(event.message)
        full = len(found) >= min(limit or PAGE_EVENTS, PAGE_EVENTS) or (found and size + event.size > PAGE_BYTES)
        if reached is not None and (scanned >= _SCANNED_AT_ONCE or (matching and full)):
            return GroupPage(found, f"{'b' if newest_first else 'f'}/{reached.position:056d}/s")
        if matching:
            found.append(item)
            size += event.size
        reached = event
    return GroupPage(found, None)


def _between(name: str, events: list[Event], lower: int, upper: int, backward: bool) -> Iterator[tuple[str, Event]]:
    low = bisect_left(events, lower, key=_by_position)
    high = bisect_right(events, upper - 1, key=_by_position)
    indices = range(high - 1, low - 1, -1) if backward else range(low, high)
    return ((name, events[index]) for index in indices)


def _fitting(events: Iterator[Event], limit: int | None) -> Iterator[Event]:
    size = 0
    for event in itertools.islice(events, min(limit or PAGE_EVENTS, PAGE_EVENTS)):
        if size and size + event.size > PAGE_BYTES:
            return
        size += event.size
        yield event


def _position_after(log: EventLog) -> int:
    return log.events[-1].position + 1 if log.events else 1


def _parsed(token: str) -> tuple[str, int]:
    direction, _, rest = token.partition("/")
    digits, _, suffix = rest.partition("/")
    if direction not in ("f", "b") or suffix != "s" or not (digits.isascii() and digits.isdigit()):
        raise InvalidToken("The specified nextToken is invalid.")
    return direction, int(digits)
