"""What RDS says of an instance, in its words. Source: Amazon RDS event categories and event messages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from emulation.rds.failures import invalid_combination

_SHOWN_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Message:
    """`number` is the event's id, RDS-EVENT-0005; `category` is by which subscriptions choose."""

    number: str
    category: str
    text: str


CREATED = Message("RDS-EVENT-0005", "creation", "DB instance created")
BACKING_UP = Message("RDS-EVENT-0001", "backup", "Backing up DB instance")
BACKED_UP = Message("RDS-EVENT-0002", "backup", "Finished DB Instance backup")
DELETED = Message("RDS-EVENT-0003", "deletion", "DB instance deleted")
SHUTDOWN = Message("RDS-EVENT-0004", "availability", "DB instance shutdown")
RESTARTED = Message("RDS-EVENT-0006", "availability", "DB instance restarted")
RESET = Message("RDS-EVENT-0016", "configuration change", "Reset master credentials")
STOPPED = Message("RDS-EVENT-0087", "notification", "DB instance stopped")
STARTED = Message("RDS-EVENT-0088", "notification", "DB instance started")
STARTED_AFTER_LIMIT = Message(
    "RDS-EVENT-0154",
    "notification",
    "DB instance is being started due to it exceeding the maximum allowed time being stopped.",
)
RECOVERING = Message(
    "RDS-EVENT-0020",
    "recovery",
    "Recovery of the DB instance has started. Recovery time will vary with the amount of data to be recovered.",
)
RECOVERED = Message("RDS-EVENT-0021", "recovery", "Recovery of the DB instance is complete.")
APPLYING_CLASS = Message("RDS-EVENT-0012", "configuration change", "Applying modification to database instance class.")
APPLIED_CLASS = Message(
    "RDS-EVENT-0014", "configuration change", "Finished applying modification to DB instance class."
)
APPLYING_STORAGE = Message("RDS-EVENT-0018", "configuration change", "Applying modification to allocated storage.")
APPLIED_STORAGE = Message(
    "RDS-EVENT-0017", "configuration change", "Finished applying modification to allocated storage."
)
SNAPSHOT = Message("RDS-EVENT-0042", "creation", "Manual snapshot created")
SNAPSHOT_DELETED = Message("RDS-EVENT-0041", "deletion", "Deleted user snapshot")


def restored(snapshot: str) -> Message:
    return Message("RDS-EVENT-0043", "restoration", f"Restored from snapshot {snapshot}")


def put_into(state: str, why: str) -> Message:
    return Message("RDS-EVENT-0035", "failure", f"Database instance put into {state}. {why}")


def failed(why: str) -> Message:
    return Message("RDS-EVENT-0031", "failure", f"The DB instance has failed. {why}")


def uses_group(name: str) -> Message:
    return Message("RDS-EVENT-0092", "configuration change", f"Finished updating DB parameter group to {name}")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was said of an instance or a snapshot. `source_type` is db-instance or db-snapshot."""

    source: str
    source_type: str
    arn: str
    message: Message
    at: datetime

    def describe(self) -> dict[str, Any]:
        return {
            "SourceIdentifier": self.source,
            "SourceType": self.source_type,
            "SourceArn": self.arn,
            "Message": self.message.text,
            "EventCategories": [self.message.category],
            "Date": self.at.replace(tzinfo=None),
        }

    def detail(self) -> dict[str, object]:
        """As EventBridge gets it. Source: Creating a rule that triggers on an Amazon RDS event."""
        return {
            "EventCategories": [self.message.category],
            "SourceType": "DB_INSTANCE" if self.source_type == "db-instance" else "SNAPSHOT",
            "SourceArn": self.arn,
            "Date": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "SourceIdentifier": self.source,
            "Message": self.message.text,
            "EventID": self.message.number,
        }


def selected(events: Iterable[Event], request: Mapping[str, Any], now: datetime) -> list[Event]:
    """Those that a DescribeEvents request asks for; without a time, those of the last hour. Raises RdsError."""
    if request.get("SourceIdentifier") and not request.get("SourceType"):
        raise invalid_combination("Cannot specify source identifier without source type")
    duration = timedelta(minutes=int(request["Duration"])) if request.get("Duration") else _SHOWN_FOR
    end = _aware(request.get("EndTime")) or now
    begin = _aware(request.get("StartTime")) or end - duration
    categories = request.get("EventCategories")
    return [
        event
        for event in events
        if begin <= event.at <= end
        and request.get("SourceType") in (None, event.source_type)
        and request.get("SourceIdentifier") in (None, event.source)
        and (not categories or event.message.category in categories)
    ]


def _aware(when: Any) -> datetime | None:
    if not isinstance(when, datetime):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
