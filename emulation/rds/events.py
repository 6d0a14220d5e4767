"""What RDS says of an instance, in its words. Source: Amazon RDS event categories and event messages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
