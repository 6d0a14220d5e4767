"""Reading a log group through the API, and following it: what `sunabox logs` prints.

A client's view: everything comes over the endpoint, so it works against any Sunabox, and AWS.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_LATENESS = timedelta(seconds=10)
"""Events may become readable out of the order of their timestamps: as long ago a follower looks again."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """An event of a log group."""

    timestamp: datetime
    stream: str
    message: str


def log_lines(
    client: Any,
    group: str,
    *,
    stream_prefix: str | None = None,
    since: datetime | None = None,
    filter_pattern: str | None = None,
    wait: Callable[[], object] | None = None,
) -> Iterator[LogLine]:
    """Yields the events of a group in order; with `wait`, goes on for ever and calls it before each further look.

    `client` is a boto3 client of CloudWatch Logs. Its errors (no such group) come as they are. To stop following, leave
    the loop or raise from `wait`.
    """
    selection: dict[str, Any] = {"logGroupName": group}
    if stream_prefix:
        selection["logStreamNamePrefix"] = stream_prefix
    if filter_pattern:
        selection["filterPattern"] = filter_pattern
    start = _milliseconds(since) if since else 0
    newest = start
    seen: dict[str, int] = {}
    while True:
        for event in _events(client, {**selection, "startTime": start}):
            if event["eventId"] in seen:
                continue
            seen[event["eventId"]] = event["timestamp"]
            newest = max(newest, event["timestamp"])
            yield LogLine(
                datetime.fromtimestamp(event["timestamp"] / 1000, UTC), event["logStreamName"], event["message"]
            )
        if wait is None:
            return
        wait()
        start = max(start, newest - _LATENESS // timedelta(milliseconds=1))
        seen = {event_id: timestamp for event_id, timestamp in seen.items() if timestamp >= start}


def _events(client: Any, selection: dict[str, Any]) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = client.filter_log_events(**selection, **token)
        yield from page["events"]
        if "nextToken" not in page:
            return
        token = {"nextToken": page["nextToken"]}


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
