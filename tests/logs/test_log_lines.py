"""Splitting and joining: whatever a container prints arrives whole and in order."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.clock import monotonic
from emulation.logs.lines import LineSplitter, MultilineJoiner

texts = st.text(st.characters(codec="utf-8", exclude_characters="\n"))


def parts_of(data: bytes, size: int) -> list[tuple[bytes, bool]]:
    pieces = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
    return [(piece, index == len(pieces) - 1) for index, piece in enumerate(pieces)]


@given(st.lists(texts), st.integers(1, 7), st.integers(4, 9))
def test_split_lines_put_together_are_what_was_printed(lines: list[str], part_size: int, limit: int) -> None:
    """Splitting loses and moves no byte, whatever parts lines arrive in, and no piece is over the limit."""
    splitter = LineSplitter(limit)
    received, line = [], ""
    for printed in lines:
        for data, complete in parts_of(printed.encode(), part_size):
            for piece, line_ends in splitter.feed(data, complete):
                assert len(piece.encode()) <= limit
                line += piece
                if line_ends:
                    received.append(line)
                    line = ""
    assert received == lines
    assert not splitter.pending


@given(st.binary(), st.integers(1, 5))
def test_bytes_that_are_no_utf8_are_replaced_alike_in_parts_and_whole(data: bytes, part_size: int) -> None:
    """Each invalid sequence becomes U+FFFD, wherever the parts of the line end."""
    splitter = LineSplitter()
    pieces = [piece for part, complete in parts_of(data, part_size) for piece, _ in splitter.feed(part, complete)]
    assert "".join(pieces) == data.decode("utf-8", "replace")


@given(st.lists(texts), st.integers(30, 60))
def test_joined_events_put_together_are_all_lines_with_their_ends(lines: list[str], limit: int) -> None:
    """Joining keeps every line and every empty one, in order."""
    joiner = MultilineJoiner(re.compile("^[A-Z]"), limit)
    splitter = LineSplitter(limit - 1)
    events = []
    for number, printed in enumerate(lines):
        for piece, line_ends in splitter.feed(printed.encode(), True):
            events += joiner.feed(piece, line_ends, number)
    events += joiner.flush()
    assert "".join(message for _, message in events) == "".join(line + "\n" for line in lines)
    assert all(len(message.encode()) <= limit for _, message in events)
    assert [timestamp for timestamp, _ in events] == sorted(timestamp for timestamp, _ in events)


def test_a_stack_trace_is_one_event_with_the_time_of_its_first_line() -> None:
    """A line that the pattern matches begins an event, all others continue it."""
    joiner = MultilineJoiner(re.compile(r"^\d{4}-"))
    events = []
    for number, line in enumerate(["2024-01-01 failed", "Traceback:", "", "  ValueError", "2024-01-02 fine"]):
        events += joiner.feed(line, True, number)
    assert events == [(0, "2024-01-01 failed\nTraceback:\n\n  ValueError\n")]
    assert list(joiner.flush()) == [(4, "2024-01-02 fine\n")]
    assert list(joiner.flush()) == []


def test_a_50_megabyte_line_is_cut_in_linear_time() -> None:
    """A line of 50 MB becomes events of the size limit, without a byte less."""
    part = "Grüße ".encode() * 32768
    splitter = LineSplitter()
    begin, size, pieces = monotonic(), 0, 0
    for number in range(200):
        for piece, _ in splitter.feed(part, number == 199):
            size += len(piece.encode())
            pieces += 1
    assert size == 200 * len(part)
    assert pieces == -(-size // (1024 * 1024 - 29))
    assert monotonic() - begin < 10


@pytest.mark.parametrize("data", [b"", "€".encode()[:2]])
def test_a_line_that_ends_within_a_character_leaves_nothing_to_the_next(data: bytes) -> None:
    """The next line is decoded afresh."""
    splitter = LineSplitter()
    list(splitter.feed(data, True))
    assert list(splitter.feed(b"next", True)) == [("next", True)]
