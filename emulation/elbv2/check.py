"""Makes one HTTP health check, over the same way on which requests reach the target.

Source: Health checks for Application Load Balancer target groups.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

from emulation.elbv2.health import FAILED, TIMED_OUT, Failure, matches, mismatch

_LONGEST_LINE = 1024


async def check_http(
    address: tuple[str, int], host: str, path: str, timeout: timedelta, matcher: str
) -> Failure | None:
    """None when the check passed. `address` is where the host connects, `host` the target's own "ip:port".

    Emulation: `timeout` counts in the machine's time, for the program that has to answer lives in it.
    """
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            code = await _status(address, host, path)
    except TimeoutError:
        return TIMED_OUT
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return FAILED
    return None if matches(matcher, code) else mismatch(code)


async def _status(address: tuple[str, int], host: str, path: str) -> int:
    reader, writer = await asyncio.open_connection(*address, limit=_LONGEST_LINE)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        writer.write(
            f"{request}User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n".encode()
        )
        line = await reader.readuntil(b"\n")
        version, _, rest = line.decode("latin-1").partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"not an HTTP response: {line!r}")
        return int(rest[:3])
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
