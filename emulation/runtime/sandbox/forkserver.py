"""Starts agents: the interpreter that they are forks of, and the handshake in which each gets its namespaces."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulation.clock import real_sleep
from emulation.runtime.sandbox.channel import Channel

_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from agent.forkserver import main; main(int(sys.argv[2]))"
_HANDSHAKE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Ids:
    """Which of the host's user and group ids a task's ids 0 to `count` - 1 really are: `first` and the following."""

    first: int
    count: int

    @property
    def single(self) -> bool:
        return self.count == 1


class AgentFailed(Exception):
    """An agent could not be started. `step` is one of agent.birth.STEPS."""

    def __init__(self, step: str, error: str, errno: int) -> None:
        super().__init__(f"{step}: {error}")
        self.step, self.errno = step, errno


class AgentProcess:
    """A running agent. `on_event` gets the exits of its children, `on_end` tells that it and all of them have gone."""

    def __init__(self) -> None:
        self.channel: Channel
        self.on_event: Callable[[dict[str, Any]], None] = lambda _: None
        self.on_end: Callable[[], None] = lambda: None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handshake: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._pidfd = -1

    @property
    def pid(self) -> int:
        """As the host sees it; -1 when it has gone."""
        try:
            lines = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text().splitlines()
        except OSError:
            return -1
        return next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), -1)

    async def close(self) -> None:
        """Kills the agent; returns when the kernel has removed every process of its namespaces."""
        if self._pidfd >= 0 and not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.channel.close()
        if self._pidfd >= 0:
            await asyncio.shield(self.ended)

    async def handshake(self, settings: dict[str, Any], ids: Ids) -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                first = await self._expect("unshared")
                try:
                    _write_maps(first["pid"], ids)
                except OSError as error:
                    raise AgentFailed("id map", str(error), error.errno or 0) from None
                self.channel.send(settings)
                await self._expect("born")
                await self._expect("ready")
        except TimeoutError:
            await self.close()
            raise AgentFailed("start", f"no answer within {_HANDSHAKE_SECONDS} s", 0) from None
        except BaseException:
            await self.close()
            raise

    async def _expect(self, event: str) -> dict[str, Any]:
        message = await self._handshake.get()
        if message["event"] == "failed":
            raise AgentFailed(message["step"], message["error"], message["errno"])
        if message["event"] != event:
            raise AgentFailed("start", f"the agent ended before it was {event}", 0)
        return message

    def receive(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["event"] == "born":
            self._pidfd = descriptors[0]
            asyncio.get_running_loop().add_reader(self._pidfd, self._gone)
        if message["event"] == "exit":
            self.on_event(message)
        else:
            self._handshake.put_nowait(message)

    def disconnected(self) -> None:
        self._handshake.put_nowait({"event": "disconnected"})

    def _gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self.channel.close()
        self.ended.set_result(None)
        self.on_end()


def _write_maps(pid: int, ids: Ids) -> None:
    process = Path(f"/proc/{pid}")
    if ids.single:
        (process / "setgroups").write_text("deny")
        (process / "uid_map").write_text(f"0 {os.geteuid()} 1")
        (process / "gid_map").write_text(f"0 {os.getegid()} 1")
    else:
        (process / "uid_map").write_text(f"0 {ids.first} {ids.count}")
        (process / "gid_map").write_text(f"0 {ids.first} {ids.count}")


class ForkServer:
    """One for each runtime. `folder` becomes the working directory of every agent, to which its paths are relative:

    a container's root may not be allowed to walk down to it from "/".
    """

    def __init__(self, folder: Path) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parent), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # signals from a terminal are the emulator's to handle
            )

    async def spawn(self, settings: dict[str, Any], ids: Ids) -> AgentProcess:
        """A new agent with namespaces of its own. `settings`: eni, gateway and mtu, or nothing for the host's network.

        Raises AgentFailed.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        agent = AgentProcess()
        agent.channel = Channel(ours, agent.receive, agent.disconnected)
        with theirs:
            try:
                socket.send_fds(self._control, [b"new"], [theirs.fileno()])
            except OSError as error:
                agent.channel.close()
                raise AgentFailed("start", f"the agents' interpreter has gone: {error}", error.errno or 0) from None
        await agent.handshake(settings, ids)
        return agent

    async def close(self) -> None:
        """Ends the interpreter. Agents that still run are not its children's business: close them first."""
        self._control.close()
        while self._process.poll() is None:
            await real_sleep(0.005)
