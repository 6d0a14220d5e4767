"""Starts routers: the emulator's side of `router`."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from emulation.clock import real_sleep
from emulation.runtime.sandbox.channel import Channel
from emulation.runtime.sandbox.forkserver import AgentFailed, AgentProcess, Ids

_IMPORT = "from emulation.runtime.dockerd.router import main"
_PROGRAM = f"import sys; sys.path.append(sys.argv[1]); {_IMPORT}; main(int(sys.argv[2]))"
_PACKAGES = Path(__file__).parents[3]
_HANDSHAKE_SECONDS = 30


class RouterProcess(AgentProcess):
    """A running router. It is spoken to as to the process runtime's agents, and born otherwise."""

    async def handshake(self, settings: dict[str, Any], ids: Ids | None = None) -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await self._expect("born")
                self.channel.send(settings)
                await self._expect("ready")
        except TimeoutError:
            await self.close()
            raise AgentFailed("start", f"no answer within {_HANDSHAKE_SECONDS} s", 0) from None
        except BaseException:
            await self.close()
            raise


class Routers:
    """The interpreter that routers are forks of."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_PACKAGES), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd="/",
                env={},
                stdin=subprocess.DEVNULL,
            )

    async def spawn(self, namespace: int, settings: dict[str, Any]) -> RouterProcess:
        """A router for the network namespace of that descriptor. `settings`: eni, gateway, mtu. Raises AgentFailed."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        router = RouterProcess()
        router.channel = Channel(ours, router.receive, router.disconnected)
        with theirs:
            try:
                socket.send_fds(self._control, [b"new"], [theirs.fileno(), namespace])
            except OSError as error:
                router.channel.close()
                raise AgentFailed("start", f"the routers' interpreter has gone: {error}", error.errno or 0) from None
        await router.handshake(settings)
        return router

    async def close(self) -> None:
        self._control.close()
        while self._process.poll() is None:
            await real_sleep(0.005)


def network_namespace(pid: int) -> int:
    """A descriptor of a process's network namespace. Raises OSError."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
