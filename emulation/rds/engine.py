"""All DB instances of all accounts: one reconcile loop each, until they are deleted."""

import asyncio
from datetime import datetime

from emulation.clock import Clock
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Event as BusEvent
from emulation.core.plan import Plan
from emulation.core.reconcile import Reconciler
from emulation.errors import SunaboxError
from emulation.rds.events import Event, Message
from emulation.rds.machine import InstanceMachine
from emulation.rds.observation import Desired, Observed
from emulation.rds.plan import InstanceAction, plan_instance
from emulation.rds.record import InstanceRecord, SnapshotRecord
from emulation.rds.surroundings import Shelf, Surroundings


class RdsEngine:
    """Lives on the event loop. `adopt` and `poke` are called from the API thread, through `ApiThread.post`.

    `events` is what was said, oldest first; it may be read from any thread.
    """

    def __init__(self, api: ApiThread, clock: Clock, surroundings: Surroundings) -> None:
        self._api, self._clock, self.surroundings = api, clock, surroundings
        self.events: list[Event] = []
        self._machines: dict[str, InstanceMachine] = {}
        self._reconciler: Reconciler[str, tuple[Desired, Observed], InstanceAction] = Reconciler(
            observe=self._observe, plan=self._plan, apply=self._apply, clock=clock, name="DB instance"
        )

    def adopt(self, record: InstanceRecord, shelf: Shelf) -> None:
        """Begins an instance's life, or takes it up again after a restart of the emulator."""
        servers = self.surroundings.servers
        if servers is None:
            raise SunaboxError("This runtime has no database servers.")
        key = record.facts.resource_id
        self._machines[key] = InstanceMachine(
            record,
            shelf,
            self.surroundings,
            servers,
            self._api,
            self._clock,
            lambda: self._reconciler.wake(key),
            self.say,
        )
        self._reconciler.wake(key)

    def poke(self, resource_id: str) -> None:
        """Something was asked of the instance: look at it again."""
        machine = self._machines.get(resource_id)
        if machine is not None:
            machine.save()
            self._reconciler.wake(resource_id)

    @property
    def running(self) -> int:
        """How many instances there are."""
        return len(self._machines)

    def say(self, record: InstanceRecord, message: Message) -> None:
        self._publish(Event(record.facts.identifier, "db-instance", record.arn, message, self._clock.now()), record)

    def say_of_snapshot(self, snapshot: SnapshotRecord, message: Message) -> None:
        self._publish(Event(snapshot.identifier, "db-snapshot", snapshot.arn, message, self._clock.now()), snapshot)

    async def close(self) -> None:
        await self._reconciler.close()
        await asyncio.gather(*(machine.close() for machine in self._machines.values()))
        self._machines.clear()

    def _publish(self, event: Event, of: InstanceRecord | SnapshotRecord) -> None:
        self.events.append(event)
        facts = of.facts if isinstance(of, InstanceRecord) else of.of
        self.surroundings.bus.publish(
            BusEvent(
                source="aws.rds",
                detail_type="RDS DB Instance Event" if event.source_type == "db-instance" else "RDS DB Snapshot Event",
                account=facts.account,
                region=facts.region,
                resources=(event.arn,),
                detail=event.detail(),
                time=event.at,
            )
        )

    async def _observe(self, key: str) -> tuple[Desired, Observed] | None:
        machine = self._machines.get(key)
        if machine is None or (machine.record.seen.released and not machine.record.seen.busy):
            self._machines.pop(key, None)
            return None
        return machine.record.desired, machine.record.seen

    @staticmethod
    def _plan(state: tuple[Desired, Observed], now: datetime) -> Plan[InstanceAction]:
        return plan_instance(*state, now)

    async def _apply(self, key: str, action: InstanceAction) -> None:
        await self._machines[key].apply(action)
