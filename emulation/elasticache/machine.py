"""One cache's loop body: does what the plan says, and writes down what came of it. It carries no decisions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any, assert_never

from emulation.clock import Clock, monotonic
from emulation.core.states import Lifecycle
from emulation.elasticache import plan as actions
from emulation.elasticache import states, steps
from emulation.elasticache.files import Files
from emulation.elasticache.observation import CacheStatus, NodeSeen, Role, Server
from emulation.elasticache.record import CacheRecord, names
from emulation.elasticache.servers import CacheServer, ServerSpec
from emulation.elasticache.surroundings import Surroundings
from emulation.errors import SunaboxError
from emulation.network.endpoint import Endpoint, Placement

log = logging.getLogger(__name__)

_RETRY = timedelta(seconds=5)
_TOO_SOON_SECONDS = 0.5
"""A server that ends so soon after its start is not started again at once."""

Say = Callable[[str, str], None]
"""Records an event: of a node or the cache, with its message."""


class CacheMachine:
    """`wake` asks for another pass of the loop; `say` records an event; `snapshot_taken` is told of its outcome."""

    def __init__(
        self,
        record: CacheRecord,
        surroundings: Surroundings,
        files: Files,
        clock: Clock,
        wake: Callable[[], None],
        say: Say,
        snapshot_taken: Callable[[str, bool], None],
    ) -> None:
        self.record = record
        self._surroundings, self._files, self._clock = surroundings, files, clock
        self._wake, self._say, self._snapshot_taken = wake, say, snapshot_taken
        self._lifecycle = Lifecycle(states.CACHE, f"cache {record.facts.cache_id}")
        self._servers: dict[str, CacheServer] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._placements: dict[str, Placement] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}

    # ---- what was seen ----

    def _see(self, **changes: Any) -> None:
        self.record.seen = replace(self.record.seen, **changes)

    def _see_node(self, node_id: str, **changes: Any) -> None:
        nodes = self.record.seen.nodes
        self._see(nodes={**nodes, node_id: replace(nodes.get(node_id, NodeSeen()), **changes)})

    def _place(self, key: str, address: IPv4Address, zone: str = "") -> None:
        places = self.record.places
        zones = {**places.zones, key: zone} if zone else places.zones
        self.record.places = replace(places, addresses={**places.addresses, key: address}, zones=zones)

    # ---- what is done ----

    async def apply(self, action: actions.CacheAction) -> None:
        match action:
            case actions.StartNode(node=node, follows=follows, cause=cause):
                self._begin(self._start(node, follows, cause), node)
            case actions.RebootNode(node=node):
                self._begin(self._reboot(node), node)
            case actions.Configure(node=node):
                self._begin(self._configure(node), node)
            case actions.Follow(node=node, primary=primary):
                self._begin(self._follow(node, primary), node)
            case actions.Promote(node=node, shard=shard, cause=cause):
                self._begin(self._promote(node, shard, cause))
            case actions.FormCluster():
                self._begin(self._form())
            case actions.Serve(node=node, roles=roles):
                self._begin(self._serve(node, roles), node)
            case actions.TakeSnapshot(snapshot=name):
                self._begin(self._snapshot(name))
            case actions.DropNode(node=node):
                self._begin(self._drop(node), node)
            case actions.Release():
                self._begin(self._release())
            case actions.Move(event=event, cause=cause):
                self._move(event, cause)
            case _:
                assert_never(action)

    def _begin(self, work: Awaitable[None], node: str = "") -> None:
        """Runs a step beside the loop, of one node or of the whole cache; its end wakes the loop."""
        self._see_node(node, busy=True) if node else self._see(busy=True)
        cache_id = self.record.facts.cache_id

        async def step() -> None:
            try:
                with self._clock.working(f"cache {cache_id}"):
                    await work
            except asyncio.CancelledError:
                raise
            except Exception as problem:
                known = isinstance(problem, SunaboxError)
                log.error("Cache %s: %s", node or cache_id, problem, exc_info=None if known else problem)
                self._failed(node, str(problem) if known else f"Sunabox failed inside: {problem}")
            finally:
                if node in self.record.seen.nodes:
                    self._see_node(node, busy=False)
                elif not node:
                    self._see(busy=False)
                self._wake()

        job = asyncio.get_running_loop().create_task(step(), name=f"cache {cache_id}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _failed(self, node: str, why: str) -> None:
        if self.record.seen.status in (CacheStatus.CREATING, CacheStatus.DELETING):
            self._see(failure=why)
        retry_at = self._clock.now() + _RETRY
        if not node:
            self._see(retry_at=retry_at)
        elif node in self.record.seen.nodes:
            self._see_node(node, how=why, retry_at=retry_at)

    def _move(self, event: str, cause: str) -> None:
        after = self._lifecycle.happen(event, self._clock.now())
        log.info("Cache %s is %s: %s", self.record.facts.cache_id, after, cause)
        self._see(status=after, failure="" if event == states.DONE else self.record.seen.failure)
        facts = self.record.facts
        if event == states.CREATED:
            self.record.restored = False
            if facts.is_group:
                self._say(facts.cache_id, f"Replication group {facts.cache_id} created")
        if event == states.FAIL:
            self._say(facts.cache_id, f"Failed to create cache {facts.cache_id}: {cause}")
        self._wake()

    async def close(self) -> None:
        """Ends the servers as the emulator ends: durable data is written."""
        for task in (*self._jobs, *self._watches.values()):
            task.cancel()
        await asyncio.gather(*self._jobs, *self._watches.values(), return_exceptions=True)
        await asyncio.gather(*(server.stop(save=True) for server in self._servers.values()), return_exceptions=True)
        for endpoint in self._endpoints.values():
            await endpoint.release()

    # ---- steps ----

    async def _start(self, node: str, follows: str, cause: str) -> None:
        facts, wanted, before = self.record.facts, self.record.wanted, self.record.seen.node(node)
        settings = self.record.desired.settings
        if before.server is Server.ENDED:
            self._say(node, "Recovering cache nodes 0001")
        await self._end(node)
        placement = await self._locate(node)
        folder = self._files.node(facts, node)
        await asyncio.to_thread(
            self._files.prepare,
            folder,
            keep=self.record.restored and not before.started_once,
            load=self._files.snapshot(facts, facts.from_snapshot)
            if facts.from_snapshot and not before.started_once and not follows
            else None,
        )
        primary = self._servers.get(follows)
        spec = ServerSpec(
            name=node,
            folder=folder,
            engine=facts.engine,
            version=facts.version,
            addresses=(self._endpoints[node].address,),
            port=facts.port,
            settings=settings,
            password=facts.password,
            tls_names=tuple(names(facts, wanted).values()) if facts.tls else (),
            follows=primary.upstream if primary is not None and not facts.clustered else None,
            clustered=facts.clustered,
            durable=self._surroundings.durable,
        )
        server = self._servers[node] = await self._surroundings.servers.start(spec)
        started = monotonic()
        self._see_node(node, server=Server.RUNNING, settings=settings, retry_at=None, how="", started_once=True)
        self._watches[node] = asyncio.get_running_loop().create_task(self._watch(node, server, started))
        if facts.clustered:
            follows = await self._rejoin(node, follows)
        elif follows:
            await steps.wait_for_sync(server)
        await self._announce(node, placement)
        self._see_node(node, follows=follows, roles=frozenset())
        if self.record.seen.formed or not facts.clustered:
            self._seen_primary(node, follows)
        if before.server is Server.ENDED:
            self._say(node, "Finished recovery for cache nodes 0001")
        elif before.started_once:
            self._say(node, "Cache node 0001 restarted")
        else:
            self._say(node, f"Added cache node 0001 in availability zone {self.record.places.zones[node]}")
            self._say(node, "Cache cluster created")

    def _seen_primary(self, node: str, follows: str) -> None:
        shard = next((n.shard for n in self.record.wanted.nodes if n.node_id == node), 0)
        if not follows and shard not in self.record.seen.primaries:
            self._see(primaries={**self.record.seen.primaries, shard: node})

    async def _rejoin(self, node: str, follows: str) -> str:
        """A node that comes back into a formed cluster finds it by its own file; new ones wait to be met."""
        if not self.record.seen.formed:
            return ""
        other = next((server for name, server in self._servers.items() if name != node), None)
        if other is not None:
            await steps.meet(self._servers[node], other)
        if follows:
            await steps.replicate(self._servers[node], self._servers[follows])
        return follows

    async def _locate(self, node: str) -> Placement:
        """The node's interface and address, made once."""
        facts, interfaces = self.record.facts, self._surroundings.interfaces
        if node not in self._placements:
            index = self.record.node_ids().index(node)
            subnet, zone = facts.subnets[index % len(facts.subnets)]
            self._placements[node] = await interfaces.attach(
                facts, node, subnet, self.record.wanted.groups, self.record.rules
            )
            self._endpoints[node] = interfaces.endpoint(facts.port, self.record.places.addresses.get(node))
            self._place(node, self._endpoints[node].address, zone)
        return self._placements[node]

    async def _announce(self, node: str, placement: Placement, roles: tuple[Role, ...] = ()) -> None:
        groups = self.record.wanted.groups
        if placement.security_groups != groups:
            placement = await self._surroundings.interfaces.set_groups(self.record.facts, placement, groups)
            self._placements[node] = placement
        server, known = self._servers[node], names(self.record.facts, self.record.wanted)
        served = tuple(known[key] for key in (node, *map(str, roles)) if key in known)
        await self._endpoints[node].announce(placement, served, server.entrance, server.admit)
        for role in roles:
            await self._endpoints[role].announce(replace(placement, private_ip=None), (), server.entrance)
        self._see_node(node, groups=groups)

    async def _watch(self, node: str, server: CacheServer, started: float) -> None:
        how = await server.ended()
        log.warning("The server of cache node %s has ended by itself: %s", node, how)
        await server.stop(save=False)  # what is left of it gives its addresses free
        retry_at = self._clock.now() + _RETRY if monotonic() - started < _TOO_SOON_SECONDS else None
        self._see_node(node, server=Server.ENDED, how=how, roles=frozenset(), retry_at=retry_at)
        self._say(node, f"Cache node 0001 failed ({how})")
        self._wake()

    async def _end(self, node: str, *, save: bool = False) -> None:
        watch = self._watches.pop(node, None)
        if watch is not None:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        server = self._servers.pop(node, None)
        if server is not None:
            await server.stop(save=save)

    async def _reboot(self, node: str) -> None:
        await self._end(node)
        self._see_node(
            node, server=Server.NONE, reboots=self.record.wanted.reboots.get(node, 0), roles=frozenset(), retry_at=None
        )

    async def _configure(self, node: str) -> None:
        wanted, applied = self.record.desired, dict(self.record.seen.node(node).settings)
        changes = {
            name: value
            for name, value in sorted(wanted.settings.items())
            if applied.get(name) != value and name not in self.record.boot_settings
        }
        if changes:
            refused = await steps.configure(self._servers[node], changes)
            for why in refused:
                self._say(node, f"A parameter could not be applied: {why}")
            self._see_node(node, settings={**applied, **changes})
        roles = tuple(sorted(self.record.seen.node(node).roles))
        await self._announce(node, self._placements[node], roles)

    async def _follow(self, node: str, primary: str) -> None:
        if self.record.facts.clustered:
            await steps.replicate(self._servers[node], self._servers[primary])
        else:
            await steps.follow(self._servers[node], self._servers[primary].upstream)
        self._see_node(node, follows=primary)

    async def _promote(self, node: str, shard: int, cause: str) -> None:
        before = self.record.primary(shard)
        alive = self.record.seen.node(before).server is Server.RUNNING
        test = self.record.wanted.failover
        if test is not None and test.number > self.record.seen.failover and self.record.wanted.automatic_failover:
            self._say(self.record.facts.cache_id, f"Test Failover API called for node group {shard + 1:04}")
        await steps.promote(self._servers[node], self._servers[before] if alive else None, self.record.facts.clustered)
        self._see_node(node, follows="")
        request = self.record.wanted.failover
        answered = request.number if request is not None and request.shard == shard else self.record.seen.failover
        self._see(primaries={**self.record.seen.primaries, shard: node}, failover=answered)
        log.info("Cache %s: %s is the primary now: %s", self.record.facts.cache_id, node, cause)
        self._say(self.record.facts.cache_id, f"Failover from master node {before} to replica node {node} completed")

    async def _form(self) -> None:
        shards: dict[int, list[CacheServer]] = {}
        for desired in sorted(self.record.wanted.nodes, key=lambda n: (n.shard, n.node_id)):
            members = shards.setdefault(desired.shard, [])
            server = self._servers[desired.node_id]
            members.insert(0, server) if desired.node_id == self.record.primary(desired.shard) else members.append(
                server
            )
        await steps.form_cluster([shards[number] for number in sorted(shards)])
        for desired in self.record.wanted.nodes:
            primary = self.record.primary(desired.shard)
            self._see_node(desired.node_id, follows="" if desired.node_id == primary else primary)
        self._see(formed=True, primaries={n: self.record.primary(n) for n in shards})

    async def _serve(self, node: str, roles: tuple[Role, ...]) -> None:
        for role in roles:
            if role not in self._endpoints:
                self._endpoints[role] = self._surroundings.interfaces.endpoint(
                    self.record.facts.port, self.record.places.addresses.get(role)
                )
                self._place(role, self._endpoints[role].address)
        served = (node, *roles)
        await self._servers[node].serve(tuple(self._endpoints[key].address for key in served))
        await self._announce(node, self._placements[node], roles)
        self._see_node(node, roles=frozenset(roles))

    async def _snapshot(self, name: str) -> None:
        """Emulation: of the primary; AWS takes it of a replica where there is one."""
        node = self.record.primary()
        done = False
        try:
            await steps.save(self._servers[node])
            await asyncio.to_thread(self._files.keep_snapshot, self.record.facts, node, name)
            done = True
            self._say(self.record.facts.cache_id, f"Snapshot succeeded for snapshot with ID '{name}'")
        finally:
            self._see(snapshots=self.record.seen.snapshots | {name})
            self._snapshot_taken(name, done)

    async def _drop(self, node: str) -> None:
        await self._give_back(node)
        self._see(nodes={name: seen for name, seen in self.record.seen.nodes.items() if name != node})
        self._say(node, "Cache cluster deleted")

    async def _release(self) -> None:
        for node in sorted({*self.record.seen.nodes, *self.record.node_ids()}):
            await self._give_back(node)
            self._say(node, "Cache cluster deleted")
        for role in Role:
            if role in self._endpoints:
                await self._endpoints.pop(role).release()
        await asyncio.to_thread(self._files.remove, self.record.facts)
        if self.record.facts.is_group:
            self._say(self.record.facts.cache_id, f"Replication group {self.record.facts.cache_id} deleted")
        self._see(released=True)

    async def _give_back(self, node: str) -> None:
        await self._end(node)
        if node in self._endpoints:
            await self._endpoints.pop(node).release()
        if node in self._placements:
            await self._surroundings.interfaces.release(self.record.facts, self._placements.pop(node))
        await asyncio.to_thread(self._files.remove_node, self.record.facts, node)
