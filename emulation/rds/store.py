"""Instances and snapshots in the emulator's data folder, so that both outlive it.

    <folder>/<account>/<region>/instances/<resource id>/{record.json, data/}
    <folder>/<account>/<region>/snapshots/<name>/{record.json, data/}
    <folder>/<account>/<region>/parameter-groups.json

moto's records are gone at a restart, so a record holds all that is needed to make an instance again. Passwords are in
it, so nobody but its owner may read it.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

from emulation.rds.observation import Deletion, Desired, InstanceStatus, Observed, Settings
from emulation.rds.record import Facts, InstanceRecord, Place, Secret, SnapshotRecord, SubnetGroup

log = logging.getLogger(__name__)

T = TypeVar("T")

_RECORD = "record.json"


class Store:
    """`folder` is made when the first record is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def accounts(self) -> Iterator[tuple[str, str]]:
        """(account, region) of all records."""
        for path in sorted(self.folder.glob("*/*")):
            yield path.parent.name, path.name

    def data(self, facts: Facts) -> Path:
        return self._instance(facts) / "data"

    def snapshot_data(self, snapshot: SnapshotRecord) -> Path:
        return self._snapshot(snapshot) / "data"

    # Instances

    def save(self, record: InstanceRecord) -> None:
        written = {
            "facts": asdict(record.facts),
            "desired": asdict(record.desired),
            "seen": asdict(record.seen),
            "place": asdict(record.place) if record.place else None,
            "secret": asdict(record.secret) if record.secret else None,
            "tags": record.tags,
        }
        self._write(self._instance(record.facts) / _RECORD, written)

    def forget(self, record: InstanceRecord) -> None:
        shutil.rmtree(self._instance(record.facts), ignore_errors=True)

    def instances(self, account: str, region: str) -> Iterator[InstanceRecord]:
        return self._read(account, region, "instances", _instance)

    # Snapshots

    def save_snapshot(self, snapshot: SnapshotRecord) -> None:
        written = {
            "identifier": snapshot.identifier,
            "folder_name": snapshot.folder_name,
            "kind": snapshot.kind,
            "of": asdict(snapshot.of),
            "settings": asdict(snapshot.settings),
            "at": snapshot.at,
            "tags": snapshot.tags,
        }
        self._write(self._snapshot(snapshot) / _RECORD, written)

    def forget_snapshot(self, snapshot: SnapshotRecord) -> None:
        shutil.rmtree(self._snapshot(snapshot), ignore_errors=True)

    def snapshots(self, account: str, region: str) -> Iterator[SnapshotRecord]:
        return self._read(account, region, "snapshots", _snapshot)

    # Parameter groups

    def save_parameter_groups(self, account: str, region: str, groups: Mapping[str, Any]) -> None:
        self._write(self.folder / account / region / "parameter-groups.json", groups)

    def parameter_groups(self, account: str, region: str) -> Mapping[str, Any]:
        path = self.folder / account / region / "parameter-groups.json"
        if not path.exists():
            return {}
        groups: Mapping[str, Any] = json.loads(path.read_text())
        return groups

    # Files

    def _instance(self, facts: Facts) -> Path:
        return self.folder / facts.account / facts.region / "instances" / facts.resource_id

    def _snapshot(self, snapshot: SnapshotRecord) -> Path:
        return self.folder / snapshot.of.account / snapshot.of.region / "snapshots" / snapshot.folder_name

    def _write(self, path: Path, value: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file, default=str, indent=1)
        beside.replace(path)

    def _read(self, account: str, region: str, kind: str, make: Callable[[Any], T]) -> Iterator[T]:
        for path in sorted((self.folder / account / region / kind).glob(f"*/{_RECORD}")):
            try:
                made = make(json.loads(path.read_text()))
            except (OSError, ValueError, KeyError, TypeError) as problem:
                log.error("%s cannot be read and is left as it is: %r", path, problem)
            else:
                yield made


def _instance(read: dict[str, Any]) -> InstanceRecord:
    record = InstanceRecord(_facts(read["facts"]), _desired(read["desired"]), _observed(read["seen"]), read["tags"])
    record.place = _made(read["place"], _place)
    record.secret = _made(read["secret"], lambda values: Secret(**values))
    return record


def _snapshot(read: dict[str, Any]) -> SnapshotRecord:
    of, settings = _facts(read["of"]), _settings(read["settings"])
    at = datetime.fromisoformat(read["at"])
    snapshot = SnapshotRecord(read["identifier"], read["folder_name"], read["kind"], of, settings, at, read["tags"])
    snapshot.status = "available"  # the record is written once the data is there
    return snapshot


def _made(value: Any, make: Callable[[Any], Any]) -> Any:
    return None if value is None else make(value)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _facts(read: dict[str, Any]) -> Facts:
    group = read["subnet_group"]
    subnets = tuple((subnet, zone) for subnet, zone in group["subnets"])
    return Facts(
        **{
            **read,
            "created_at": datetime.fromisoformat(read["created_at"]),
            "subnet_group": SubnetGroup(**{**group, "subnets": subnets}),
        }
    )


def _settings(read: dict[str, Any]) -> Settings:
    pairs = {name: tuple((key, value) for key, value in read[name]) for name in ("parameters", "static_parameters")}
    return Settings(**{**read, **pairs, "security_groups": tuple(read["security_groups"])})


def _desired(read: dict[str, Any]) -> Desired:
    return Desired(
        **{
            **read,
            "settings": _settings(read["settings"]),
            "later": _made(read["later"], _settings),
            "window": _time(read["window"]),
            "snapshots": (),  # those that were not taken are gone with the emulator
            "deletion": _made(read["deletion"], lambda deletion: Deletion(**deletion)),
        }
    )


def _observed(read: dict[str, Any]) -> Observed:
    """As the instance is found after a restart: without a server, and as if it had been started just now."""
    status = InstanceStatus(read["status"])
    kept = (
        InstanceStatus.CREATING,
        InstanceStatus.STOPPED,
        InstanceStatus.FAILED,
        InstanceStatus.DELETING,
        InstanceStatus.INCOMPATIBLE_PARAMETERS,
    )
    if status is InstanceStatus.STOPPING:
        status = InstanceStatus.STOPPED
    elif status not in kept:
        status = InstanceStatus.STARTING
    return Observed(
        status,
        applied=_made(read["applied"], _settings),
        reboots=read["reboots"],
        backed_up=read["backed_up"],
        stopped_at=_time(read["stopped_at"]),
    )


def _place(read: dict[str, Any]) -> Place:
    rules = tuple((group, protocol, low, high, peer) for group, protocol, low, high, peer in read["rules"])
    addresses = {name: IPv4Address(read[name]) for name in ("address", "private_ip")}
    return Place(**{**read, **addresses, "rules": rules})
