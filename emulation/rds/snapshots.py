"""What the RDS API does with DB snapshots, apart from moto. All of it runs on the API thread."""

import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from emulation.rds import events, validation
from emulation.rds.failures import RdsError, invalid_value
from emulation.rds.instances import Home, Instances
from emulation.rds.observation import InstanceStatus
from emulation.rds.record import InstanceRecord, SnapshotRecord

_MAY = (InstanceStatus.AVAILABLE, InstanceStatus.STOPPED, InstanceStatus.BACKING_UP)


class Snapshots:
    """`records` is moto's own mapping, by identifier. The `Shelf` of the instances' loops."""

    def __init__(self, home: Home, records: MutableMapping[str, SnapshotRecord], instances: Instances) -> None:
        self._home, self.records, self._instances = home, records, instances
        self._store = home.engine.surroundings.store

    def found(self, name: str) -> SnapshotRecord:
        identifier = name.partition(":snapshot:")[2] if name.startswith("arn:") else name
        if identifier not in self.records:
            raise RdsError("DBSnapshotNotFound", f"DBSnapshot {identifier} not found.")
        return self.records[identifier]

    def create(self, request: Mapping[str, Any]) -> SnapshotRecord:
        record = self._instances.found(validation.required(request, "DBInstanceIdentifier"))
        identifier = validation.identifier(
            "DBSnapshotIdentifier", validation.required(request, "DBSnapshotIdentifier"), 255
        )
        if record.status not in _MAY or record.desired.deletion:
            raise RdsError(
                "InvalidDBInstanceState",
                f"Cannot create a snapshot because the database instance {record.facts.identifier} is not currently "
                "in the available state.",
            )
        snapshot = self.reserve(record, identifier, "manual", request.get("Tags") or ())
        self._instances.want_snapshot(record, identifier)
        return snapshot

    def reserve(
        self, record: InstanceRecord, identifier: str, kind: str, tags: Sequence[Mapping[str, Any]] = ()
    ) -> SnapshotRecord:
        """A record whose data is still to come."""
        if identifier in self.records:
            raise RdsError(
                "DBSnapshotAlreadyExists",
                f"Cannot create the snapshot because a snapshot with the identifier {identifier} already exists.",
            )
        kept = [{"Key": tag["Key"], "Value": tag.get("Value", "")} for tag in tags]
        if not kept and record.facts.shown.get("CopyTagsToSnapshot"):
            kept = list(record.tags)
        settings = record.seen.applied or record.desired.settings
        snapshot = SnapshotRecord(
            identifier, uuid.uuid4().hex, kind, record.facts, settings, self._home.clock.now(), kept
        )
        self.records[identifier] = snapshot
        return snapshot

    def delete(self, name: str) -> SnapshotRecord:
        snapshot = self.found(name)
        if snapshot.kind == "automated":
            raise RdsError("InvalidDBSnapshotState", "Automated snapshots cannot be deleted by DeleteDBSnapshot.")
        if snapshot.status != "available":
            raise RdsError("InvalidDBSnapshotState", f"Snapshot {snapshot.identifier} is currently {snapshot.status}.")
        del self.records[snapshot.identifier]
        self._store.forget_snapshot(snapshot)
        self._home.api.post(self._home.engine.say_of_snapshot, snapshot, events.SNAPSHOT_DELETED)
        snapshot.status = "deleted"
        return snapshot

    def restore(self, request: Mapping[str, Any]) -> InstanceRecord:
        snapshot = self.found(validation.required(request, "DBSnapshotIdentifier"))
        if snapshot.status != "available":
            raise RdsError("InvalidDBSnapshotState", f"Snapshot {snapshot.identifier} is not available.")
        return self._instances.restore(request, snapshot)

    def listed(self, request: Mapping[str, Any]) -> list[SnapshotRecord]:
        instance, kind = request.get("DBInstanceIdentifier"), request.get("SnapshotType")
        if kind not in (None, "manual", "automated", "shared", "public", "awsbackup"):
            raise invalid_value(f"Invalid snapshot type: {kind}")
        if request.get("DBSnapshotIdentifier"):
            chosen = [self.found(request["DBSnapshotIdentifier"])]
        else:
            chosen = list(self.records.values())
        return [
            snapshot
            for snapshot in chosen
            if instance in (None, snapshot.of.identifier, snapshot.of.arn) and kind in (None, snapshot.kind)
        ]

    # ---- Shelf ----

    def snapshot(self, record: InstanceRecord, identifier: str) -> SnapshotRecord | None:
        if identifier:
            return self.records.get(identifier)
        at = self._home.clock.now()
        name = f"rds:{record.facts.identifier}-{at:%Y-%m-%d-%H-%M}"
        return self.records.get(name) or self.reserve(record, name, "automated")

    def snapshot_taken(self, record: InstanceRecord, snapshot: SnapshotRecord, done: bool) -> None:
        left = tuple(name for name in record.desired.snapshots if name != snapshot.identifier)
        record.desired = replace(record.desired, snapshots=left)
        snapshot.status = "available" if done else "failed"
        if done:
            self._store.save_snapshot(snapshot)
            if snapshot.kind == "manual":
                self._home.api.post(self._home.engine.say_of_snapshot, snapshot, events.SNAPSHOT)

    def forget(self, record: InstanceRecord) -> None:
        """With the instance go its record, its secret and its automated backups."""
        if self._instances.records.get(record.facts.identifier) is record:
            del self._instances.records[record.facts.identifier]
        if record.secret is not None:
            self._home.engine.surroundings.secrets.delete(record.facts, record.secret)
        for snapshot in list(self.records.values()):
            unfinished = snapshot.kind == "automated" or snapshot.status != "available"
            if unfinished and snapshot.of.resource_id == record.facts.resource_id:
                del self.records[snapshot.identifier]
                self._store.forget_snapshot(snapshot)
        self._store.forget(record)
