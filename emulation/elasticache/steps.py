"""What servers are told, in Valkey's own commands: replication, clusters, settings, snapshots.

Source: Valkey commands; Redis OSS and Valkey, Replication; Cluster specification.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from emulation.clock import monotonic, real_sleep
from emulation.elasticache.resp import ServerRefused
from emulation.elasticache.servers import CacheServer
from emulation.errors import SunaboxError

_SECONDS = 30.0
_LOOK_SECONDS = 0.02
SLOTS = 16384


async def configure(server: CacheServer, settings: Mapping[str, str]) -> list[str]:
    """Sets what can be set: what the server refused, in its words."""
    refused = []
    for name, value in settings.items():
        try:
            if name == "requirepass":
                tokens = [f">{token}" for token in value.split()] or ["nopass"]
                await server.execute(("ACL", "SETUSER", "default", "resetpass", *tokens))
            else:
                await server.execute(("CONFIG", "SET", name, value))
        except ServerRefused as problem:
            refused.append(f"{name}={value}: {problem}")
    return refused


async def follow(server: CacheServer, primary: tuple[str, int]) -> None:
    """Makes it a replica; returns when it has the primary's data."""
    await server.execute(("REPLICAOF", primary[0], str(primary[1])))
    await wait_for_sync(server)


async def wait_for_sync(server: CacheServer) -> None:
    await _until(server, "master_link_status:up", ("INFO", "replication"))


async def promote(server: CacheServer, before: CacheServer | None, clustered: bool) -> None:
    """Makes a replica the primary. `before`, if it lives, takes no writes meanwhile, so that none is lost."""
    if clustered:
        await server.execute(("CLUSTER", "FAILOVER") if before is not None else ("CLUSTER", "FAILOVER", "TAKEOVER"))
        await _until(server, "role:master", ("INFO", "replication"))
        return
    if before is not None:
        await before.execute(("CLIENT", "PAUSE", "10000", "WRITE"))
        (offset,) = _facts(await before.execute(("INFO", "replication")), "master_repl_offset")
        deadline = monotonic() + _SECONDS
        while int(_facts(await server.execute(("INFO", "replication")), "slave_repl_offset")[0]) < int(offset):
            if monotonic() > deadline:
                break
            await real_sleep(_LOOK_SECONDS)
    await server.execute(("REPLICAOF", "NO", "ONE"))
    if before is not None:
        host, port = server.upstream
        await before.execute(("REPLICAOF", host, str(port)), ("CLIENT", "UNPAUSE"))


async def save(server: CacheServer) -> None:
    """Writes `dump.rdb`, beside the server's work."""
    await server.execute(("BGSAVE", "SCHEDULE"))
    await _until(server, "rdb_bgsave_in_progress:0", ("INFO", "persistence"))
    (status,) = _facts(await server.execute(("INFO", "persistence")), "rdb_last_bgsave_status")
    if status != "ok":
        raise SunaboxError("The server could not write its snapshot; its log says why.")


async def meet(server: CacheServer, other: CacheServer) -> None:
    host, port = other.upstream
    await server.execute(("CLUSTER", "MEET", host, str(port)))


async def replicate(server: CacheServer, primary: CacheServer) -> None:
    """In a cluster: makes it a replica, as soon as it has heard of the primary."""
    (primary_id,) = await primary.execute(("CLUSTER", "MYID"))
    deadline = monotonic() + _SECONDS
    while True:
        try:
            await server.execute(("CLUSTER", "REPLICATE", primary_id))
            break
        except ServerRefused:
            if monotonic() > deadline:
                raise
            await real_sleep(_LOOK_SECONDS)
    await wait_for_sync(server)


async def form_cluster(shards: Sequence[Sequence[CacheServer]]) -> None:
    """Makes the servers one cluster: each shard's first one its primary, the slots divided evenly among them."""
    every = [server for shard in shards for server in shard]
    for number, shard in enumerate(shards):
        first, last = slots(number, len(shards))
        (info,) = await shard[0].execute(("CLUSTER", "INFO"))
        if "cluster_slots_assigned:0" in str(info):
            await shard[0].execute(
                ("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)), ("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            )
    for server in every[1:]:
        await meet(every[0], server)
    for server in every:
        await _until(server, f"cluster_known_nodes:{len(every)}\r", ("CLUSTER", "INFO"))
    await asyncio.gather(*(replicate(replica, shard[0]) for shard in shards for replica in shard[1:]))
    for server in every:
        await _until(server, "cluster_state:ok", ("CLUSTER", "INFO"))


def slots(shard: int, shards: int) -> tuple[int, int]:
    """The first and the last slot of a shard (0 is the first)."""
    return SLOTS * shard // shards, SLOTS * (shard + 1) // shards - 1


async def _until(server: CacheServer, said: str, command: tuple[str, ...]) -> None:
    deadline = monotonic() + _SECONDS
    while said not in str((await server.execute(command))[0]):
        if monotonic() > deadline:
            raise SunaboxError(f"The server at {server.upstream[0]} did not come to {said.strip()} in {_SECONDS:g} s.")
        await real_sleep(_LOOK_SECONDS)


def _facts(answers: list[Any], *wanted: str) -> tuple[str, ...]:
    facts = dict(line.split(":", 1) for line in str(answers[0]).splitlines() if ":" in line)
    return tuple(facts.get(name, "0") for name in wanted)
