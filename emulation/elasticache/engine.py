"""All caches of all accounts: one reconcile loop each, until they are gone."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Event as BusEvent
from emulation.core.plan import Plan
from emulation.core.reconcile import Reconciler
from emulation.elasticache.files import Files
from emulation.elasticache.machine import CacheMachine
from emulation.elasticache.observation import CacheDesired, CacheSeen, CacheStatus
from emulation.elasticache.plan import CacheAction, plan_cache
from emulation.elasticache.record import CacheRecord
from emulation.elasticache.surroundings import Surroundings

log = logging.getLogger(__name__)

EVENTS_ARE_KEPT = timedelta(days=14)
"""Source: Amazon ElastiCache API reference, DescribeEvents."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a cache. `source_type` is cache-cluster or replication-group."""

    account: str
    region: str
    source: str
    source_type: str
    message: str
    at: datetime

    def describe(self) -> dict[str, Any]:
        return {
            "SourceIdentifier": self.source,
            "SourceType": self.source_type,
            "Message": self.message,
            "Date": self.at,
        }


class Shelf(Protocol):
    """Where the API keeps caches and snapshots; on the API thread."""

    def forget(self, record: CacheRecord) -> None:
        """The cache is gone."""
        ...

    def snapshot_taken(self, record: CacheRecord, name: str, done: bool) -> None: ...


class ElastiCacheEngine:
    """Lives on the event loop. `adopt` and `poke` are called from the API thread, through `ApiThread.post`.

    `events` is what happened, oldest first; it may be read from any thread.
    """

    def __init__(self, api: ApiThread, clock: Clock, surroundings: Surroundings) -> None:
        self._api, self._clock, self.surroundings = api, clock, surroundings
        self.files = Files(surroundings.folder)
        self.events: deque[Event] = deque(maxlen=10_000)
        self._machines: dict[str, tuple[CacheMachine, Shelf]] = {}
        self._reconciler: Reconciler[str, tuple[CacheDesired, CacheSeen], CacheAction] = Reconciler(
            observe=self._observe, plan=self._plan, apply=self._apply, clock=clock, name="cache"
        )

    def adopt(self, record: CacheRecord, shelf: Shelf) -> None:
        """Begins a cache's life, or takes it up again after a restart of the emulator."""
        key = record.facts.arn
        machine = CacheMachine(
            record,
            self.surroundings,
            self.files,
            self._clock,
            lambda: self._reconciler.wake(key),
            lambda source, message: self.say(record, source, message),
            lambda name, done: self._snapshot_taken(record, shelf, name, done),
        )
        self._machines[key] = machine, shelf
        self._reconciler.wake(key)

    def poke(self, arn: str) -> None:
        """Something was asked of the cache: look at it again."""
        if arn in self._machines:
            self._reconciler.wake(arn)

    @property
    def running(self) -> int:
        """How many caches there are."""
        return len(self._machines)

    def say(self, record: CacheRecord, source: str, message: str) -> None:
        """Records an event, of the group itself or of one of its cache clusters."""
        facts, now = record.facts, self._clock.now()
        of_group = facts.is_group and source == facts.cache_id
        kind = "replication-group" if of_group else "cache-cluster"
        self.events.append(Event(facts.account, facts.region, source, kind, message, now))
        arn = facts.arn_of("replicationgroup" if of_group else "cluster", source)
        # Emulation: on AWS these messages go to an SNS topic; on the event bus they are ours.
        self.surroundings.bus.publish(
            BusEvent(
                source="aws.elasticache",
                detail_type="ElastiCache Event",
                account=facts.account,
                region=facts.region,
                resources=(arn,),
                detail={"SourceIdentifier": source, "SourceType": kind, "Message": message},
                time=now,
            )
        )

    def warn(self, record: CacheRecord, message: str) -> None:
        """Something that is not as it was asked for: an event, and a line of the log."""
        log.warning("Cache %s: %s", record.facts.cache_id, message)
        self.say(record, record.facts.cache_id, message)

    async def close(self) -> None:
        await self._reconciler.close()
        if self.surroundings.durable:
            for machine, _ in self._machines.values():
                if machine.record.seen.status is not CacheStatus.DELETED:
                    self._save(machine.record)
        await asyncio.gather(*(machine.close() for machine, _ in self._machines.values()))
        self._machines.clear()

    def _snapshot_taken(self, record: CacheRecord, shelf: Shelf, name: str, done: bool) -> None:
        job = asyncio.ensure_future(self._api.call(shelf.snapshot_taken, record, name, done))
        job.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _observe(self, key: str) -> tuple[CacheDesired, CacheSeen] | None:
        known = self._machines.get(key)
        if known is None:
            return None
        machine, shelf = known
        if machine.record.seen.status is CacheStatus.DELETED:
            del self._machines[key]
            await self._api.call(shelf.forget, machine.record)
            return None
        return machine.record.desired, machine.record.seen

    @staticmethod
    def _plan(state: tuple[CacheDesired, CacheSeen], now: datetime) -> Plan[CacheAction]:
        return plan_cache(*state, now)

    async def _apply(self, key: str, action: CacheAction) -> None:
        machine, _ = self._machines[key]
        await machine.apply(action)
        if self.surroundings.durable and machine.record.seen.status is CacheStatus.AVAILABLE:
            self._save(machine.record)

    def _save(self, record: CacheRecord) -> None:
        record.rules = self.surroundings.interfaces.rules(record.wanted.groups) or record.rules
        try:
            self.files.save(record)
        except OSError as problem:
            log.error("The record of cache %s could not be written: %s", record.facts.cache_id, problem)
