"""One DB instance's loop body: does what the plan says, and writes down what came of it. It carries no decisions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from emulation.clock import Clock, real_sleep
from emulation.core.api_thread import ApiThread
from emulation.core.states import Lifecycle
from emulation.errors import SunaboxError
from emulation.rds import events, states
from emulation.rds import plan as actions
from emulation.rds.events import Message
from emulation.rds.observation import InstanceStatus, Server, Settings
from emulation.rds.parameters import FORCE_SSL
from emulation.rds.record import InstanceRecord
from emulation.rds.servers import DatabaseServer, DatabaseServers, ServerSpec
from emulation.rds.surroundings import Shelf, Surroundings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
"""How often it is looked whether the server lives."""

_SAID: dict[str, tuple[Message, ...]] = {
    states.CREATED: (events.CREATED,),
    states.BACKED_UP: (),
    states.STOPPED: (events.STOPPED,),
    states.STARTED: (events.RESTARTED, events.STARTED),
    states.REBOOTED: (events.RESTARTED,),
}
Say = Callable[[InstanceRecord, Message], None]


class InstanceMachine:
    """`wake` asks for another pass of the loop, `say` records an event."""

    def __init__(
        self,
        record: InstanceRecord,
        shelf: Shelf,
        surroundings: Surroundings,
        servers: DatabaseServers,
        api: ApiThread,
        clock: Clock,
        wake: Callable[[], None],
        say: Say,
    ) -> None:
        self.record = record
        self._shelf, self._surroundings, self._servers, self._api = shelf, surroundings, servers, api
        self._clock, self._wake, self._say = clock, wake, say
        self._lifecycle = Lifecycle(states.INSTANCE, f"DB instance {record.facts.identifier}", record.status)
        self._attached = False
        self._server: DatabaseServer | None = None
        self._step: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    # ---- what was seen ----

    def _see(self, **changes: Any) -> None:
        self.record.seen = replace(self.record.seen, **changes)
        self.save()

    def save(self) -> None:
        """Writes the record, so that it outlives the emulator."""
        if self.record.seen.released:
            return
        try:
            self._surroundings.store.save(self.record)
        except OSError as problem:
            log.error("The record of %s could not be written: %s", self.record.facts.identifier, problem)

    # ---- what is done ----

    async def apply(self, action: actions.InstanceAction) -> None:
        match action:
            case actions.StartServer(settings=settings):
                self._begin("starting the server", self._start(settings))
            case actions.StopServer():
                self._begin("stopping the server", self._stop())
            case actions.RestartServer(settings=settings):
                self._begin("restarting the server", self._restart(settings))
            case actions.ApplySettings(settings=settings):
                self._begin("applying settings", self._change(settings))
            case actions.TakeSnapshot(snapshot=snapshot):
                self._begin("taking a snapshot", self._back_up(snapshot))
            case actions.Release():
                self._begin("releasing", self._release())
            case actions.AdoptLater():
                await self._api.call(self._adopt_later)
                self._wake()
            case actions.WantToRun():
                self._say(self.record, events.STARTED_AFTER_LIMIT)
                await self._api.call(self._want_to_run)
                self._wake()
            case actions.Move(event=event, cause=cause):
                self._move(event, cause)
            case _:
                assert_never(action)

    def _begin(self, what: str, work: Awaitable[None]) -> None:
        """Runs a slow step beside the loop; its end wakes the loop. Virtual time waits for it."""
        self._see(busy=what)

        async def step() -> None:
            try:
                with self._clock.working(f"DB instance {self.record.facts.identifier}: {what}"):
                    await work
            except asyncio.CancelledError:
                raise
            except SunaboxError as problem:
                log.error("DB instance %s: %s failed: %s", self.record.facts.identifier, what, problem)
                died = self._server is not None and not self._server.alive()
                self._see(server=Server.DEAD, failure="") if died else self._see(failure=str(problem))
            except Exception as problem:
                log.exception("DB instance %s failed inside while %s", self.record.facts.identifier, what)
                self._see(failure=f"Sunabox failed inside: {problem}")
            finally:
                self._see(busy="")
                self._wake()

        self._step = asyncio.get_running_loop().create_task(step())

    def _move(self, event: str, cause: str) -> None:
        now = self._clock.now()
        before = self.record.status
        after = self._lifecycle.happen(event, now)
        self._see(status=after, failure="", stopped_at=now if after is InstanceStatus.STOPPED else None)
        for message in _SAID.get(event, ()):
            self._say(self.record, message)
        if event == states.CREATED and self.record.facts.from_snapshot:
            self._say(self.record, events.restored(self.record.facts.from_snapshot))
        if event == states.MODIFIED and before is InstanceStatus.RESETTING:
            self._say(self.record, events.RESET)
        if event == states.FAIL:
            self._say(self.record, events.failed(cause))
        if event == states.MISFIT:
            log.warning("DB instance %s does not start: %s", self.record.facts.identifier, cause)
            self._say(self.record, events.put_into(str(after), cause))
        self._wake()

    # ---- steps ----

    async def _start(self, settings: Settings) -> None:
        record, facts = self.record, self.record.facts
        surroundings = self._surroundings
        if self._server is not None:
            await self._stop()  # one that died before it was stopped
        if not self._attached:  # a place that is known from before a restart of the emulator has to be taken again
            record.place = await surroundings.interfaces.attach(facts, settings.security_groups, record.place)
            self._attached = True
        assert record.place is not None
        applied = record.seen.applied
        data = surroundings.store.data(facts)
        if applied is None:
            await self._servers.remove(data)  # of a creation that did not come to its end
        copy_of = await self._api.call(self._restored_from) if applied is None else None
        parameters = dict((*settings.parameters, *settings.static_parameters))
        certificate = None
        if parameters.pop(FORCE_SSL, ""):
            names, addresses = [facts.host_name], [record.place.address, record.place.private_ip]
            certificate = surroundings.authority.issue(data.parent, names, addresses)
        spec = ServerSpec(
            name=facts.identifier,
            folder=data,
            version=facts.version,
            parameters=parameters,
            certificate=certificate,
            address=record.place.address,
            port=settings.port,
            master_username=facts.master_username,
            master_password=settings.master_password,
            database=facts.database,
            copy_of=copy_of,
        )
        server = self._server = await self._servers.start(spec)
        if applied is not None and applied.master_password != settings.master_password:
            await server.set_password(facts.master_username, settings.master_password)
        await self._publish(settings)
        self._see(server=Server.RUNNING, applied=settings, failure="")
        self._watch = asyncio.get_running_loop().create_task(self._look_after(server))

    def _restored_from(self) -> Path | None:
        """Where the data of a new instance comes from."""
        name = self.record.facts.from_snapshot
        if not name:
            return None
        snapshot = self._shelf.snapshot(self.record, name)
        if snapshot is None:
            raise SunaboxError(f"The snapshot {name} was deleted while it was restored.")
        return self._surroundings.store.snapshot_data(snapshot)

    async def _look_after(self, server: DatabaseServer) -> None:
        while server.alive():
            await real_sleep(_LOOK_SECONDS)
        log.warning("The server of DB instance %s died", self.record.facts.identifier)
        self._see(server=Server.DEAD)
        self._wake()

    async def _stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._server is not None:
            await self._server.stop()
            self._server = None
        self._see(server=Server.ABSENT)

    async def _restart(self, settings: Settings) -> None:
        died = self.record.seen.server is Server.DEAD
        reboots = self.record.desired.reboots
        applied = self.record.seen.applied
        if died:
            self._say(self.record, events.RECOVERING)
        else:
            self._say(self.record, events.SHUTDOWN)
        if self.record.status is InstanceStatus.REBOOTING:
            self._see(reboots=reboots)
        await self._stop()
        await self._start(settings)
        if died:
            self._say(self.record, events.RESTARTED)
            self._say(self.record, events.RECOVERED)
        elif applied is not None:
            self._tell(applied, settings)

    async def _change(self, settings: Settings) -> None:
        applied = self.record.seen.applied
        server = self._server
        assert applied is not None and server is not None, "settings are changed while the server runs"
        if settings.master_password != applied.master_password:
            await server.set_password(self.record.facts.master_username, settings.master_password)
            await self._api.call(self._secret_is_active)
        if settings.parameters != applied.parameters:
            parameters = dict((*settings.parameters, *settings.static_parameters))
            parameters.pop(FORCE_SSL, "")
            await server.apply(parameters)
        if settings.security_groups != applied.security_groups:
            await self._publish(settings)
        self._see(applied=settings)
        self._tell(applied, settings)

    def _tell(self, before: Settings, after: Settings) -> None:
        if before.instance_class != after.instance_class:
            self._say(self.record, events.APPLYING_CLASS)
            self._say(self.record, events.APPLIED_CLASS)
        if before.allocated_storage != after.allocated_storage:
            self._say(self.record, events.APPLYING_STORAGE)
            self._say(self.record, events.APPLIED_STORAGE)
        if before.parameter_group != after.parameter_group:
            self._say(self.record, events.uses_group(after.parameter_group))

    async def _publish(self, settings: Settings) -> None:
        server, place = self._server, self.record.place
        assert server is not None and place is not None

        def admit(host: bool) -> None:
            server.admit(host)
            if self.record.place is not None:
                rules = self._surroundings.interfaces.rules(settings.security_groups)
                self.record.place = replace(self.record.place, rules=rules)
                self.save()

        await self._surroundings.interfaces.publish(
            self.record.facts, place, settings.security_groups, settings.port, server.upstream, admit
        )

    async def _back_up(self, identifier: str) -> None:
        snapshot = await self._api.call(self._shelf.snapshot, self.record, identifier)
        automated = identifier == actions.AUTOMATED
        if snapshot is not None:
            if automated:
                self._say(self.record, events.BACKING_UP)
            folder = self._surroundings.store.snapshot_data(snapshot)
            done = False
            try:
                if self._server is not None:
                    await self._server.copy_to(folder)
                else:
                    await self._servers.copy(self._surroundings.store.data(self.record.facts), folder)
                done = True
            except SunaboxError as problem:
                log.error("The snapshot %s failed: %s", snapshot.identifier, problem)
            await self._api.call(self._shelf.snapshot_taken, self.record, snapshot, done)
            if automated:
                self._say(self.record, events.BACKED_UP)
        self._see(backed_up=True)

    async def _release(self) -> None:
        await self._stop()
        if self.record.place is not None:
            await self._surroundings.interfaces.withdraw(self.record.place)
            await self._surroundings.interfaces.release(self.record.facts, self.record.place)
        await self._servers.remove(self._surroundings.store.data(self.record.facts))
        self._say(self.record, events.DELETED)
        self._see(released=True)
        await self._api.call(self._shelf.forget, self.record)

    # ---- on the API thread ----

    def _adopt_later(self) -> None:
        desired = self.record.desired
        if desired.later is not None:
            self.record.desired = replace(desired, settings=desired.later, later=None, window=None)

    def _want_to_run(self) -> None:
        self.record.desired = replace(self.record.desired, running=True)

    def _secret_is_active(self) -> None:
        if self.record.secret is not None:
            self.record.secret = replace(self.record.secret, status="active")

    async def close(self) -> None:
        """Stops the server; the instance and its data stay. For the end of the emulator."""
        if self._step is not None and not self._step.done():
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        await self._stop()
