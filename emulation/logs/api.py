"""The seam into moto's CloudWatch Logs: groups and streams that keep their events well, and the driver's way to them.

Everything here runs on the API thread. `install` makes every account and region use these records.

moto sorts and filters all events of a group at each call, and keeps every event for ever; with 100,000 events `awslogs
--watch` would hold the API thread for most of the time. Also put right: tokens and their ends, the exclusive end time
of GetLogEvents, retention, the messages of missing streams, and which events of a PutLogEvents are rejected.
"""

import itertools
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from moto.core.utils import unix_time_millis
from moto.logs import urls
from moto.logs.exceptions import InvalidParameterException, LogsClientError, ResourceNotFoundException
from moto.logs.models import LogGroup, LogsBackend, LogStream, SubscriptionFilter, logs_backends
from moto.logs.responses import LogsResponse

from emulation.logs.batch import Batch, LogsApiError
from emulation.logs.events import Event, EventLog, InvalidToken, StreamPage, read_group, read_stream
from emulation.logs.lines import EVENT_OVERHEAD_BYTES, MAXIMUM_MESSAGE_BYTES
from emulation.logs.patterns import InvalidFilterPattern, Matcher, compile_pattern

NO_GROUP = "The specified log group does not exist."
NO_STREAM = "The specified log stream does not exist."
_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
_MILLISECOND = timedelta(milliseconds=1)

log = logging.getLogger(__name__)

_sequence = itertools.count(1)


def _not_installed() -> datetime:
    raise RuntimeError("emulation.logs.api.install must come before the first use of CloudWatch Logs")


_now: Callable[[], datetime] = _not_installed


def install(now: Callable[[], datetime]) -> None:
    """Puts these records in the place of moto's, for accounts and regions that have not been used yet.

    `now` is the clock's; it decides which events have expired.
    """
    global _now
    _now = now
    logs_backends.backend = EventLogsBackend
    urls.url_paths["{0}/$"] = EventLogsResponse.dispatch


def _now_ms() -> int:
    return int(_now().timestamp() * 1000)


def open_stream(account: str, region: str, group: str, stream: str, *, create_group: bool) -> None:
    """Makes the stream, and the group where that is asked for, as far as they do not exist. Raises LogsApiError."""
    accounts = logs_backends[account]
    if region not in accounts:
        raise LogsApiError("UnknownRegion", f"lookup logs.{region}.amazonaws.com: no such host")
    backend = accounts[region]
    try:
        if create_group:
            backend.ensure_log_group(group)
        backend.ensure_log_stream(group, stream)
    except LogsClientError as error:
        raise LogsApiError(str(error.error_type), str(error.message)) from error


def append(batches: Sequence[Batch]) -> list[LogsApiError | None]:
    """Stores what containers printed. For each batch None, or why it is lost (its stream was deleted meanwhile)."""
    return [_append(batch) for batch in batches]


def _append(batch: Batch) -> LogsApiError | None:
    backend = logs_backends[batch.account][batch.region]
    group = backend.groups.get(batch.group)
    stream = group.streams.get(batch.stream) if group else None
    if stream is None:
        return LogsApiError("ResourceNotFoundException", NO_STREAM if group else NO_GROUP)
    assert isinstance(stream, EventLogStream)
    stream.store(batch.events)
    return None


class EventLogStream(LogStream):
    """A log stream whose events are an EventLog."""

    def __init__(self, log_group: LogGroup, name: str) -> None:
        self.log = EventLog()
        super().__init__(log_group, name)

    # moto's attribute, which CloudWatch Logs Insights and export tasks read. An Event has what they look at.
    @property  # type: ignore[override]
    def events(self) -> list[Event]:
        return self.log.events

    @events.setter
    def events(self, value: list[Event]) -> None:
        """Only moto's constructor sets it, to nothing."""

    def store(self, events: Sequence[tuple[int, str]]) -> None:
        """Takes (timestamp in ms, message), in order, and hands them to the subscriptions of the group."""
        if not events:
            return
        now = _now_ms()
        records = [Event(timestamp, now, message, next(_sequence)) for timestamp, message in events]
        self.log.append(records)
        self.upload_sequence_token += 1
        for subscription in self.log_group.subscription_filters.values():
            try:
                self._deliver(subscription, records)
            except Exception:  # whatever the destination does, the events are stored
                log.exception("Subscription filter %s could not deliver", subscription.name)

    def _deliver(self, subscription: SubscriptionFilter, events: list[Event]) -> None:
        matches = compile_pattern(subscription.filter_pattern)
        wanted = [
            {"id": event.event_id, "timestamp": event.timestamp, "message": event.message}
            for event in events
            if matches is None or matches(event.message)
        ]
        if wanted:
            self._send_log_events(
                service=subscription.destination_arn.split(":")[2],
                destination_arn=subscription.destination_arn,
                filter_name=subscription.name,
                log_events=wanted,
            )

    def put_log_events(self, log_events: list[dict[str, Any]]) -> str:
        self.store([(event["timestamp"], event["message"]) for event in log_events])
        return f"{self.upload_sequence_token:056d}"

    def to_describe_dict(self) -> dict[str, Any]:
        # AWS reports storedBytes of streams as zero since 2019; those of groups are real.
        described = {
            "arn": self.arn,
            "creationTime": int(unix_time_millis(self.creation_time)),
            "logStreamName": self.log_stream_name,
            "storedBytes": 0,
        }
        if self.log.events:
            described["firstEventTimestamp"] = self.log.events[0].timestamp
            described["lastEventTimestamp"] = self.log.events[-1].timestamp
        if self.log.last_ingestion_time is not None:
            described["lastIngestionTime"] = self.log.last_ingestion_time
            described["uploadSequenceToken"] = f"{self.upload_sequence_token:056d}"
        return described


class EventLogGroup(LogGroup):
    """A log group of EventLogStreams."""

    streams: dict[str, EventLogStream]  # type: ignore[assignment]

    def create_log_stream(self, log_stream_name: str) -> None:
        if log_stream_name in self.streams:
            raise LogsClientError("ResourceAlreadyExistsException", "The specified log stream already exists")
        self.streams[log_stream_name] = EventLogStream(self, log_stream_name)

    def stream(self, name: str) -> EventLogStream:
        if name not in self.streams:
            raise ResourceNotFoundException(NO_STREAM)
        return self.streams[name]

    def delete_log_stream(self, log_stream_name: str) -> None:
        del self.streams[self.stream(log_stream_name).log_stream_name]

    def expire(self) -> None:
        """Forgets the events that are older than the retention. AWS takes up to 72 hours for it."""
        if self.retention_in_days:
            before = _now_ms() - timedelta(days=int(self.retention_in_days)) // _MILLISECOND
            for stream in self.streams.values():
                stream.log.expire(before)

    def selected(self, names: Sequence[str], prefix: str | None) -> list[tuple[str, EventLog]]:
        """The streams that FilterLogEvents is asked for, by name and events."""
        if names and prefix:
            raise InvalidParameterException("Either logStreamNames or logStreamNamePrefix can be given, not both.")
        chosen = [self.stream(name) for name in dict.fromkeys(names)] if names else self.streams.values()
        return [(s.log_stream_name, s.log) for s in chosen if s.log_stream_name.startswith(prefix or "")]

    def to_describe_dict(self) -> dict[str, Any]:
        self.expire()
        return {**super().to_describe_dict(), "storedBytes": sum(s.log.stored_bytes for s in self.streams.values())}


class EventLogsBackend(LogsBackend):
    """The log groups of an account in a region."""

    groups: dict[str, EventLogGroup]  # type: ignore[assignment]

    @property
    def _url_module(self) -> Any:
        return urls

    def create_log_group(self, log_group_name: str, tags: dict[str, str], **kwargs: Any) -> LogGroup:
        super().create_log_group(log_group_name, tags, **kwargs)
        return self._ours(log_group_name, **kwargs)

    def ensure_log_group(self, log_group_name: str) -> None:
        if log_group_name not in self.groups:
            self._ours(log_group_name)

    def _ours(self, name: str, **kwargs: Any) -> EventLogGroup:
        # moto's metaclass is none of abc's: what CloudFormation would need is abstract on paper only.
        group = EventLogGroup(self.account_id, self.region_name, name, **kwargs)  # type: ignore[abstract]
        self.groups[name] = group
        return group

    def _find_log_group(self, log_group_id: str | None = None, log_group_name: str | None = None) -> EventLogGroup:
        """The group of a name, or of an identifier: its name or its ARN."""
        if bool(log_group_id) == bool(log_group_name):
            raise InvalidParameterException("Exactly one of logGroupName and logGroupIdentifier must be given.")
        name = log_group_name or str(log_group_id).removesuffix(":*").rpartition(":log-group:")[2]
        if name not in self.groups:
            raise ResourceNotFoundException(NO_GROUP)
        group = self.groups[name]
        group.expire()
        return group

    def put_retention_policy(self, log_group_name: str, retention_in_days: Any) -> None:
        if retention_in_days not in _RETENTION_DAYS:
            raise InvalidParameterException(
                parameter="retentionInDays",
                value=retention_in_days,
                constraint=f"Member must satisfy enum value set: {list(_RETENTION_DAYS)}",
            )
        super().put_retention_policy(log_group_name, retention_in_days)

    def put_log_events(
        self, log_group_name: str, log_stream_name: str, log_events: list[dict[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        group = self._find_log_group(log_group_name=log_group_name)
        stream = group.stream(log_stream_name)
        # moto's own services come here too (Lambda, flow logs), and are less strict than clients have to be.
        log_events = sorted((event for event in log_events if event["message"]), key=itemgetter("timestamp"))
        now = _now_ms()
        oldest = now - timedelta(days=14) // _MILLISECOND
        newest = now + timedelta(hours=2) // _MILLISECOND
        kept = now - timedelta(days=int(group.retention_in_days)) // _MILLISECOND if group.retention_in_days else 0
        too_old = sum(event["timestamp"] < oldest for event in log_events)
        expired = sum(event["timestamp"] < kept for event in log_events)
        accepted = sum(event["timestamp"] <= newest for event in log_events)
        rejected = {
            **({"tooOldLogEventEndIndex": too_old} if too_old else {}),
            **({"expiredLogEventEndIndex": expired} if expired else {}),
            **({"tooNewLogEventStartIndex": accepted} if accepted < len(log_events) else {}),
        }
        return stream.put_log_events(log_events[max(too_old, expired) : accepted]), rejected


def _check_batch(events: list[dict[str, Any]]) -> None:
    """Raises what PutLogEvents answers to a batch that breaks one of its documented limits."""
    sizes = [len(event["message"].encode()) for event in events]
    if not 1 <= len(events) <= 10_000:
        raise InvalidParameterException(
            parameter="logEvents", value=len(events), constraint="Member must have length between 1 and 10000"
        )
    if min(sizes) < 1:
        raise InvalidParameterException("Log event message must have a length of at least 1.")
    if max(sizes) > MAXIMUM_MESSAGE_BYTES:
        raise InvalidParameterException(
            f"Log event too large: {max(sizes)} bytes exceeds limit of {MAXIMUM_MESSAGE_BYTES}"
        )
    if (total := sum(sizes) + EVENT_OVERHEAD_BYTES * len(sizes)) > 1_048_576:
        raise InvalidParameterException(f"Upload too large: {total} bytes exceeds limit of 1048576")
    times = [event["timestamp"] for event in events]
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise InvalidParameterException("Log events in a single PutLogEvents request must be in chronological order.")
    if times[-1] - times[0] > timedelta(hours=24) // _MILLISECOND:
        raise InvalidParameterException(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        )


class EventLogsResponse(LogsResponse):
    """The operations that moto answers otherwise than AWS, or without all of the parameters."""

    @property
    def _group(self) -> EventLogGroup:
        backend = self.logs_backend
        assert isinstance(backend, EventLogsBackend)
        return backend._find_log_group(self._get_param("logGroupIdentifier"), self._get_param("logGroupName"))

    def _limit(self) -> int | None:
        limit = self._get_int_param("limit")
        if limit is not None and not 1 <= limit <= 10_000:
            bound = "less than or equal to 10000" if limit > 1 else "greater than or equal to 1"
            raise InvalidParameterException(
                parameter="limit", value=limit, constraint=f"Member must have value {bound}"
            )
        return limit

    def put_log_events(self) -> str:
        self._group.stream(self._get_param("logStreamName"))
        _check_batch(self._get_param("logEvents"))
        return super().put_log_events()

    def get_log_events(self) -> str:
        stream = self._group.stream(self._get_param("logStreamName"))
        try:
            page: StreamPage = read_stream(
                stream.log,
                start=self._get_int_param("startTime"),
                end=self._get_int_param("endTime"),
                limit=self._limit(),
                token=self._get_param("nextToken"),
                from_head=bool(self._get_param("startFromHead", False)),
            )
        except InvalidToken as error:
            raise InvalidParameterException(str(error)) from error
        return json.dumps(
            {
                "events": [_described(event) for event in page.events],
                "nextBackwardToken": page.backward_token,
                "nextForwardToken": page.forward_token,
            }
        )

    def filter_log_events(self) -> str:
        group = self._group
        try:
            page = read_group(
                group.selected(self._get_param("logStreamNames") or (), self._get_param("logStreamNamePrefix")),
                start=self._get_int_param("startTime"),
                end=self._get_int_param("endTime"),
                limit=self._limit(),
                token=self._get_param("nextToken"),
                matches=self._pattern(),
                newest_first=self._get_param("startFromHead") is False,
            )
        except InvalidToken as error:
            raise InvalidParameterException(str(error)) from error
        events = [
            {**_described(event), "logStreamName": stream, "eventId": event.event_id} for stream, event in page.events
        ]
        token = {"nextToken": page.next_token} if page.next_token else {}
        return json.dumps({"events": events, "searchedLogStreams": [], **token})

    def _pattern(self) -> Matcher | None:
        try:
            return compile_pattern(self._get_param("filterPattern"))
        except InvalidFilterPattern as error:
            raise InvalidParameterException(str(error)) from error

    def put_subscription_filter(self) -> str:
        self._pattern()
        return super().put_subscription_filter()

    def start_live_tail(self) -> Any:
        # Emulation: a session would outlive its API call. moto answers with what is there and ends the session.
        raise LogsClientError(
            "InvalidOperationException",
            "StartLiveTail is not emulated by Sunabox. Follow the log group with FilterLogEvents: "
            "awslogs get GROUP --watch, or sunabox logs GROUP --follow.",
        )


def _described(event: Event) -> dict[str, Any]:
    return {"ingestionTime": event.ingestion_time, "message": event.message, "timestamp": event.timestamp}
