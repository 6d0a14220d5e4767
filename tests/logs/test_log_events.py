"""Pages of events: complete, in order, and they end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.logs.events import Event, EventLog, InvalidToken, read_group, read_stream

times = st.lists(st.integers(1, 30), max_size=40)


def log_of(timestamps: list[int], first_sequence: int = 1) -> EventLog:
    log = EventLog()
    for sequence, timestamp in enumerate(timestamps, first_sequence):
        log.append([Event(timestamp, timestamp, f"{sequence}", sequence)])
    return log


@given(times, st.integers(1, 7), st.none() | st.integers(1, 30), st.none() | st.integers(1, 30))
def test_paging_forward_gives_every_event_once_and_ends(
    timestamps: list[int], limit: int, start: int | None, end: int | None
) -> None:
    """The pages of a stream from its head are its events with start <= timestamp < end; then the token stays."""
    log = log_of(timestamps)
    seen, token = [], None
    while True:
        page = read_stream(log, start=start, end=end, limit=limit, token=token, from_head=True)
        if page.forward_token == token:
            break
        seen += page.events
        token = page.forward_token
    assert seen == [e for e in log.events if (start or 0) <= e.timestamp and (end is None or e.timestamp < end)]
    assert page.events == []


@given(times, st.integers(1, 7))
def test_paging_backward_gives_every_event_once_and_ends(timestamps: list[int], limit: int) -> None:
    """Without startFromHead the latest page comes first, each page in ascending order."""
    log = log_of(timestamps)
    seen: list[Event] = []
    token = None
    while True:
        page = read_stream(log, limit=limit, token=token)
        if page.backward_token == token:
            break
        seen = [*page.events, *seen]
        token = page.backward_token
    assert seen == log.events


def test_a_stream_can_be_followed_from_the_token_of_its_end() -> None:
    """What is appended later is on the page of the last token, also where the stream was empty at first."""
    log = EventLog()
    token = read_stream(log).forward_token
    assert read_stream(log, token=token).forward_token == token
    log.append([Event(5, 5, "one", 1)])
    page = read_stream(log, token=token)
    assert [event.message for event in page.events] == ["one"]
    assert read_stream(log, token=page.forward_token).forward_token == page.forward_token
    assert [e.message for e in read_stream(log, token=page.backward_token).events] == []
    log.append([Event(5, 5, "two", 2)])
    assert [event.message for event in read_stream(log, token=page.forward_token).events] == ["two"]


@given(st.lists(times, max_size=4), st.integers(1, 7), st.booleans())
def test_a_group_is_read_in_the_order_of_time_over_all_streams(
    streams: list[list[int]], limit: int, newest_first: bool
) -> None:
    """Pages of a group interleave its streams, give every event once, and the last one has no token."""
    logs = [(f"s{number}", log_of(timestamps, 1 + 100 * number)) for number, timestamps in enumerate(streams)]
    seen, token = [], None
    while True:
        page = read_group(logs, limit=limit, token=token, newest_first=newest_first and token is None)
        seen += [event for _, event in page.events]
        assert len(page.events) <= limit
        if page.next_token is None:
            break
        token = page.next_token
    everything = sorted((e for _, log in logs for e in log.events), key=lambda e: e.position, reverse=newest_first)
    assert seen == everything


def test_the_time_range_of_a_group_includes_its_end() -> None:
    """FilterLogEvents returns the events of endTime, GetLogEvents does not."""
    log = log_of([1, 2, 3])
    assert [e.timestamp for _, e in read_group([("s", log)], start=2, end=3).events] == [2, 3]
    assert [e.timestamp for e in read_stream(log, start=2, end=3, from_head=True).events] == [2]


def test_a_page_holds_a_megabyte() -> None:
    """Pages are cut by size too, but one event always fits."""
    log = EventLog()
    log.append([Event(n, n, "x" * 700_000, n) for n in (1, 2)] + [Event(3, 3, "y" * 2_000_000, 3)])
    first = read_group([("s", log)])
    assert len(first.events) == 1
    assert first.next_token is not None
    assert len(read_stream(log, from_head=True).events) == 1


def test_a_search_without_hits_ends() -> None:
    """Pages may be empty, but they go on until all has been searched."""
    log = EventLog()
    log.append([Event(n, n, "dull", n) for n in range(1, 120_001)])
    pages, token = 0, None
    while pages == 0 or token is not None:
        page = read_group([("s", log)], token=token, matches=lambda message: "bright" in message)
        assert not page.events
        pages, token = pages + 1, page.next_token
    assert pages == 3


@pytest.mark.parametrize("token", ["", "x", "f/12", "q/0012/s", "f/-1/s"])
def test_a_foreign_token_is_refused(token: str) -> None:
    """An empty token means none."""
    if token:
        with pytest.raises(InvalidToken):
            read_stream(EventLog(), token=token)
    else:
        assert not read_stream(EventLog(), token=token).events


def test_expired_events_are_gone_with_their_bytes() -> None:
    """What is older than the given time no longer counts."""
    log = log_of([1, 2, 3])
    log.expire(before=3)
    assert [event.timestamp for event in log.events] == [3]
    assert log.stored_bytes == 27
