"""What a cache keeps in the emulator's data folder: its servers' files, its record, its snapshots.

    <folder>/<account>/<region>/caches/<cluster|group>-<id>/{record.json, <node id>/}
    <folder>/<account>/<region>/snapshots/<name>.{rdb,json}
    <folder>/<account>/<region>/parameter-groups.json

moto's records are gone at a restart, so a record holds all that is needed to make a cache again. The administrator's
password is in it, so nobody but its owner may read it.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from emulation.elasticache.observation import CacheSeen, NodeDesired
from emulation.elasticache.record import CacheRecord, Facts, Places, SnapshotRecord, Wanted

_DATA = "dump.rdb"


class Files:
    """`folder` is made when the first file is written. Files are small, so records are written where they change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def regions(self) -> Iterator[tuple[str, str]]:
        """(account, region) of all that is kept."""
        for path in sorted(self._folder.glob("*/*")):
            yield path.parent.name, path.name

    # Nodes

    def node(self, facts: Facts, node: str) -> Path:
        return self._cache(facts) / node

    def prepare(self, folder: Path, *, keep: bool, load: Path | None) -> None:
        """Makes the folder what a server is to start with: its own data, a snapshot's, or none."""
        folder.mkdir(parents=True, exist_ok=True)
        if keep:
            return
        (folder / _DATA).unlink(missing_ok=True)
        if load is not None:
            shutil.copyfile(load, folder / _DATA)

    def remove_node(self, facts: Facts, node: str) -> None:
        shutil.rmtree(self.node(facts, node), ignore_errors=True)

    def remove(self, facts: Facts) -> None:
        shutil.rmtree(self._cache(facts), ignore_errors=True)

    # Snapshots

    def snapshot(self, facts: Facts, name: str) -> Path:
        return self._snapshots(facts.account, facts.region) / f"{name}.rdb"

    def keep_snapshot(self, facts: Facts, node: str, name: str) -> None:
        """Keeps what the node's server has just written."""
        kept = self.snapshot(facts, name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.node(facts, node) / _DATA, kept)

    def save_snapshot(self, snapshot: SnapshotRecord) -> None:
        path = self._snapshots(snapshot.account, snapshot.region) / f"{snapshot.name}.json"
        _write(path, asdict(snapshot))

    def forget_snapshot(self, snapshot: SnapshotRecord) -> None:
        for ending in ("json", "rdb"):
            (self._snapshots(snapshot.account, snapshot.region) / f"{snapshot.name}.{ending}").unlink(missing_ok=True)

    def snapshots(self, account: str, region: str) -> Iterator[SnapshotRecord]:
        for path in sorted(self._snapshots(account, region).glob("*.json")):
            read = json.loads(path.read_text())
            yield SnapshotRecord(**{**read, "at": datetime.fromisoformat(read["at"])})

    # Caches

    def save(self, record: CacheRecord) -> None:
        written = {
            "facts": asdict(record.facts),
            "wanted": asdict(record.wanted),
            "boot_settings": sorted(record.boot_settings),
            "primaries": record.seen.primaries,
            "addresses": record.places.addresses,
            "rules": record.rules,
        }
        _write(self._cache(record.facts) / "record.json", written)

    def caches(self, account: str, region: str) -> Iterator[CacheRecord]:
        """As they are after a restart: creating, with their data, and what was asked for meanwhile forgotten."""
        for path in sorted((self._folder / account / region / "caches").glob("*/record.json")):
            read = json.loads(path.read_text())
            facts, wanted = read["facts"], read["wanted"]
            record = CacheRecord(
                Facts(
                    **{
                        **facts,
                        "subnets": tuple(map(tuple, facts["subnets"])),
                        "created_at": datetime.fromisoformat(facts["created_at"]),
                        "from_snapshot": "",
                    }
                ),
                Wanted(
                    **{
                        **wanted,
                        "nodes": tuple(NodeDesired(**node) for node in wanted["nodes"]),
                        "groups": tuple(wanted["groups"]),
                        "tokens": tuple(wanted["tokens"]),
                        "reboots": {},
                        "failover": None,
                        "snapshots": (),
                    }
                ),
                frozenset(read["boot_settings"]),
                CacheSeen(primaries={int(shard): node for shard, node in read["primaries"].items()}),
                restored=True,
            )
            record.places = Places({key: IPv4Address(address) for key, address in read["addresses"].items()})
            record.rules = tuple(
                (group, protocol, low, high, peer) for group, protocol, low, high, peer in read["rules"]
            )
            yield record

    # Parameter groups

    def save_parameter_groups(self, account: str, region: str, groups: Mapping[str, Any]) -> None:
        _write(self._folder / account / region / "parameter-groups.json", groups)

    def parameter_groups(self, account: str, region: str) -> Mapping[str, Any]:
        path = self._folder / account / region / "parameter-groups.json"
        groups: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return groups

    def _cache(self, facts: Facts) -> Path:
        kind = "group" if facts.is_group else "cluster"
        return self._folder / facts.account / facts.region / "caches" / f"{kind}-{facts.cache_id}"

    def _snapshots(self, account: str, region: str) -> Path:
        return self._folder / account / region / "snapshots"


def _write(path: Path, value: object) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, default=str, indent=1)
    beside.replace(path)
