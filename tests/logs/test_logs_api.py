"""CloudWatch Logs over the API, as clients see it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.clock import VirtualClock
from emulation.logs import api as logs_api
from emulation.logs.batch import Batch

REGION = "eu-central-1"
START = datetime(2030, 1, 1, tzinfo=UTC)
MS = int(START.timestamp() * 1000)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    clock = VirtualClock(START)
    monkeypatch.setattr(logs_api, "_now", clock.now)
    return clock


@pytest.fixture
def group(client: Any) -> str:
    client.create_log_group(logGroupName="/ecs/web")
    for stream in ("a", "b"):
        client.create_log_stream(logGroupName="/ecs/web", logStreamName=stream)
    return "/ecs/web"


def put(client: Any, stream: str, *events: tuple[int, str]) -> dict[str, Any]:
    records = [{"timestamp": MS + offset, "message": message} for offset, message in events]
    answer: dict[str, Any] = client.put_log_events(logGroupName="/ecs/web", logStreamName=stream, logEvents=records)
    return answer


def test_streams_of_a_group_are_interleaved_by_time(client: Any, group: str, time: VirtualClock) -> None:
    """FilterLogEvents gives the events of all streams in the order of their timestamps, with ids, then no token."""
    put(client, "a", (0, "one"), (20, "three"))
    put(client, "b", (10, "two"), (20, "four"))
    page = client.filter_log_events(logGroupName=group)
    assert [(e["logStreamName"], e["message"]) for e in page["events"]] == [
        ("a", "one"),
        ("b", "two"),
        ("a", "three"),
        ("b", "four"),
    ]
    assert len({e["eventId"] for e in page["events"]}) == 4
    assert all(e["ingestionTime"] == MS for e in page["events"])
    assert "nextToken" not in page
    assert page["searchedLogStreams"] == []


@pytest.mark.parametrize(
    ("selection", "messages"),
    [
        ({"logStreamNames": ["b"]}, ["two"]),
        ({"logStreamNamePrefix": "a"}, ["one ERROR", "three"]),
        ({"filterPattern": "ERROR"}, ["one ERROR"]),
        ({"filterPattern": '?"one E" ?two'}, ["one ERROR", "two"]),
        ({"filterPattern": "e -ERROR"}, ["three"]),
        ({"filterPattern": "%^t.+o$%"}, ["two"]),
        ({"startFromHead": False}, ["three", "two", "one ERROR"]),
        ({"startTime": MS + 1, "endTime": MS + 1}, ["two"]),
        ({"logStreamNames": ["a", "b"], "endTime": MS}, ["one ERROR"]),
    ],
)
def test_a_selection_is_honoured(
    client: Any, group: str, time: VirtualClock, selection: dict[str, Any], messages: list[str]
) -> None:
    """Streams, prefixes, patterns, directions and times choose the events."""
    put(client, "a", (0, "one ERROR"), (2, "three"))
    put(client, "b", (1, "two"))
    page = client.filter_log_events(logGroupName=group, **selection)
    assert [event["message"] for event in page["events"]] == messages


@pytest.mark.parametrize(
    ("operation", "parameters", "code", "words"),
    [
        ("filter_log_events", {"logGroupName": "x"}, "ResourceNotFoundException", logs_api.NO_GROUP),
        (
            "get_log_events",
            {"logGroupName": "/ecs/web", "logStreamName": "x"},
            "ResourceNotFoundException",
            logs_api.NO_STREAM,
        ),
        (
            "create_log_stream",
            {"logGroupName": "/ecs/web", "logStreamName": "a"},
            "ResourceAlreadyExistsException",
            "The specified log stream already exists",
        ),
        (
            "filter_log_events",
            {"logGroupName": "/ecs/web", "nextToken": "x"},
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            "filter_log_events",
            {"logGroupName": "/ecs/web", "filterPattern": '{ $.level = "ERROR" }'},
            "InvalidParameterException",
            "does not emulate JSON",
        ),
        (
            "put_retention_policy",
            {"logGroupName": "/ecs/web", "retentionInDays": 2},
            "InvalidParameterException",
            "Member must satisfy enum value set",
        ),
        ("start_live_tail", {"logGroupIdentifiers": ["/ecs/web"]}, "InvalidOperationException", "not emulated"),
    ],
)
def test_errors_are_those_of_aws(
    client: Any, group: str, operation: str, parameters: dict[str, Any], code: str, words: str
) -> None:
    """Missing groups and streams, foreign tokens and what is not emulated are refused by code and message."""
    with pytest.raises(ClientError, match=code) as raised:
        getattr(client, operation)(**parameters)
    assert words in str(raised.value)


def test_a_group_can_be_named_by_its_arn(client: Any, group: str, account: str, time: VirtualClock) -> None:
    """logGroupIdentifier is a name or an ARN."""
    put(client, "a", (0, "one"))
    arn = f"arn:aws:logs:{REGION}:{account}:log-group:/ecs/web"
    for identifier in (arn, "/ecs/web"):
        assert client.filter_log_events(logGroupIdentifier=identifier)["events"]
        assert client.get_log_events(logGroupIdentifier=identifier, logStreamName="a")["events"]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.filter_log_events(logGroupIdentifier=arn + "2")


def test_streams_tell_when_they_were_written_last(client: Any, group: str, time: VirtualClock) -> None:
    """Times of the first and last event and of the ingestion are given, and the bytes by the group."""
    put(client, "a", (-5, "one"), (3, "two"))
    by_time = client.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]
    assert [stream["logStreamName"] for stream in by_time] == ["a", "b"]
    assert by_time[0]["firstEventTimestamp"] == MS - 5
    assert by_time[0]["lastEventTimestamp"] == MS + 3
    assert by_time[0]["lastIngestionTime"] == MS
    assert by_time[0]["storedBytes"] == 0
    assert "lastEventTimestamp" not in by_time[1]
    assert client.describe_log_groups()["logGroups"][0]["storedBytes"] == 2 * (3 + 26)


def test_events_disappear_when_the_retention_is_over(client: Any, group: str, service: Any) -> None:
    """With a retention of 3 days, events of the first day are gone on the fourth, by the emulated clock."""
    clock = VirtualClock(START)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs_api, "_now", clock.now)
        client.put_retention_policy(logGroupName=group, retentionInDays=3)
        put(client, "a", (0, "old"))
        service.run(clock.advance(timedelta(days=2)))
        put(client, "a", (2 * 86_400_000, "young"))
        assert len(client.filter_log_events(logGroupName=group)["events"]) == 2
        service.run(clock.advance(timedelta(days=1, milliseconds=1)))
        assert [e["message"] for e in client.filter_log_events(logGroupName=group)["events"]] == ["young"]
        assert client.describe_log_streams(logGroupName=group)["logStreams"][0]["firstEventTimestamp"] > MS
        assert put(client, "a", (0, "late"))["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}


def test_events_out_of_the_accepted_time_are_rejected_by_their_index(
    client: Any, group: str, time: VirtualClock
) -> None:
    """The end of the too old ones is exclusive, the beginning of the too new ones inclusive."""
    day = 86_400_000
    answer = put(client, "a", (-15 * day, "old"), (-15 * day, "old"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
    answer = put(client, "a", (0, "good"), (3 * 3_600_000, "new"))
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}
    assert [e["message"] for e in client.filter_log_events(logGroupName=group)["events"]] == ["good"]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([(1, "b"), (0, "a")], "must be in chronological order"),
        ([(0, "x" * 600_000), (0, "x" * 600_000)], "Upload too large"),
        ([(0, "x" * 1_048_576)], "Log event too large"),
        ([(-90_000_000, "a"), (0, "b")], "cannot span more than 24 hours"),
    ],
)
def test_a_batch_over_its_limits_is_refused_as_a_whole(
    client: Any, group: str, time: VirtualClock, events: list[tuple[int, str]], words: str
) -> None:
    """Nothing of it is stored."""
    with pytest.raises(ClientError, match=words):
        put(client, "a", *events)
    assert client.filter_log_events(logGroupName=group)["events"] == []


def test_a_stream_is_read_to_its_end_and_followed_from_there(client: Any, group: str, time: VirtualClock) -> None:
    """At the end GetLogEvents gives the token that it was given, and later what was written since."""
    put(client, "a", *((n, str(n)) for n in range(5)))
    seen, token = [], None
    while True:
        page = client.get_log_events(
            logGroupName=group,
            logStreamName="a",
            startFromHead=True,
            limit=2,
            **({"nextToken": token} if token else {}),
        )
        seen += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert seen == ["0", "1", "2", "3", "4"]
    put(client, "a", (9, "more"))
    page = client.get_log_events(logGroupName=group, logStreamName="a", startFromHead=True, nextToken=token)
    assert [event["message"] for event in page["events"]] == ["more"]


def test_a_group_of_100000_events_is_paged_to_its_end(client: Any, service: Any, account: str) -> None:
    """Every event comes once, in pages that end; a poll of the last moments gives only those."""
    service.run(service.api.call(logs_api.open_stream, account, REGION, "/ecs/web", "a", create_group=True))
    service.run(service.api.call(logs_api.open_stream, account, REGION, "/ecs/web", "b", create_group=True))
    lines = [(MS + n, f"line {n}") for n in range(50_000)]
    batches = [Batch(account, REGION, "/ecs/web", stream, lines) for stream in ("a", "b")]
    assert service.run(service.api.call(logs_api.append, batches)) == [None, None]
    seen, token = [], {}
    while True:
        page = client.filter_log_events(logGroupName="/ecs/web", startTime=MS, **token)
        seen += [event["eventId"] for event in page["events"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert len(seen) == len(set(seen)) == 100_000
    last = client.filter_log_events(logGroupName="/ecs/web", startTime=MS + 49_990)["events"]
    assert [event["message"] for event in last] == [f"line {n}" for n in range(49_990, 50_000) for _ in "ab"]


def test_groups_made_by_other_services_keep_events_too(service: Any, account: str) -> None:
    """Lambda and others make groups through moto's own functions."""

    def make() -> bool:
        backend = logs_api.logs_backends[account][REGION]
        backend.ensure_log_group("/aws/lambda/f")
        backend.ensure_log_stream("/aws/lambda/f", "s")
        backend.put_log_events("/aws/lambda/f", "s", [{"timestamp": logs_api._now_ms(), "message": "START"}])
        return isinstance(backend.groups["/aws/lambda/f"], logs_api.EventLogGroup)

    assert service.run(service.api.call(make))


def test_a_subscription_that_fails_does_not_lose_events(
    service: Any, client: Any, group: str, account: str, time: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The events are stored, and the log says what failed."""

    def subscribe() -> None:
        backend = logs_api.logs_backends[account][REGION]
        nowhere = f"arn:aws:logs:{REGION}:{account}:log-group:/gone:*"
        backend.groups[group].put_subscription_filter("all", "", nowhere, "")

    service.run(service.api.call(subscribe))
    put(client, "a", (0, "kept"))
    assert [event["message"] for event in client.filter_log_events(logGroupName=group)["events"]] == ["kept"]
    assert "Subscription filter all could not deliver" in caplog.text


def test_a_subscription_gets_the_events_that_match(
    service: Any, client: Any, group: str, account: str, time: VirtualClock
) -> None:
    """Only those that its pattern selects."""
    client.create_log_group(logGroupName="/errors")
    client.create_log_stream(logGroupName="/errors", logStreamName="a")

    def subscribe() -> None:
        backend = logs_api.logs_backends[account][REGION]
        destination = f"arn:aws:logs:{REGION}:{account}:log-group:/errors:*"
        backend.groups[group].put_subscription_filter("errors", "ERROR", destination, "")

    service.run(service.api.call(subscribe))
    put(client, "a", (0, "ERROR one"), (1, "fine"), (2, "ERROR two"))
    errors = client.filter_log_events(logGroupName="/errors")["events"]
    assert [event["message"] for event in errors] == ["ERROR one", "ERROR two"]
