"""A client of Valkey's protocol, for the emulator's own few words with its servers.

A library for it would be a dependency of every installation, for twenty lines. Source: RESP2 protocol specification.
"""

import asyncio
from typing import Any

from emulation.errors import SunaboxError

_SECONDS = 15.0


class ServerRefused(SunaboxError):
    """The server answered with an error."""


async def execute(host: str, port: int, user: str, password: str, *commands: tuple[str, ...]) -> list[Any]:
    """Executes commands on one connection, as that user: their answers. Raises ServerRefused, OSError, TimeoutError."""
    async with asyncio.timeout(_SECONDS):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            answers = []
            for command in (("AUTH", user, password), *commands):
                writer.write(_encoded(command))
                answers.append(await _read(reader))
            return answers[1:]
        except (asyncio.IncompleteReadError, ValueError) as problem:
            raise ConnectionResetError(f"{host}:{port} closed the connection") from problem
        finally:
            writer.close()


def _encoded(command: tuple[str, ...]) -> bytes:
    parts = [part.encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


async def _read(reader: asyncio.StreamReader) -> Any:
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:].decode()
    match kind:
        case b"+":
            return rest
        case b"-":
            raise ServerRefused(rest)
        case b":":
            return int(rest)
        case b"$":
            return None if rest == "-1" else (await reader.readexactly(int(rest) + 2))[:-2].decode()
        case b"*":
            return [await _read(reader) for _ in range(int(rest))]
    raise ServerRefused(f"not understood: {line!r}")
