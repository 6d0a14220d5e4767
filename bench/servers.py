"""The servers that are measured: Sunabox and moto_server, each as a program of its own, as people start them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ACCOUNT = "111122223333"
REGION = "us-east-1"
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """A server that serves. `started` is when its program was started, on `time.perf_counter`."""

    url: str
    pid: int
    started: float

    def client(self, service: str, account: str = ACCOUNT) -> Any:
        """A boto3 client as people make it, but one that waits for a slow machine rather than to try again."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=account,
            aws_secret_access_key="test",
            config=Config(read_timeout=120, retries={"total_max_attempts": 1}, max_pool_connections=20),
        )


@contextmanager
def sunabox(runtime: str, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`sunabox up` on a free port; returns as soon as it says where it serves."""
    command = [_tool("sunabox"), "up", "--port", "0", "--runtime", runtime]
    started = time.perf_counter()
    # Its log goes where this program's goes: an error there explains the figures.
    with _program(command, stdout=subprocess.PIPE, environment=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("sunabox did not start; its log is above.")
        yield Running(url, process.pid, started)


@contextmanager
def moto_server() -> Iterator[Running]:
    """Plain `moto_server` on a free port, as its manual starts it; returns as soon as it takes connections."""
    port = _free_port()
    started = time.perf_counter()
    command = [_tool("moto_server"), "--port", str(port)]
    with _program(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.perf_counter() - started > _PATIENCE_SECONDS:
                    raise RuntimeError("moto_server did not start; try it by hand.") from None
                time.sleep(0.002)
        yield Running(f"http://127.0.0.1:{port}", process.pid, started)


def memory_mib(pid: int) -> float:
    """What a process and all its descendants take, in MiB: the PSS, in which shared pages are counted once."""
    return sum(_pss_kib(each) for each in (pid, *descendants(pid))) / 1024


def descendants(pid: int) -> tuple[int, ...]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found: list[int] = []
    left = [pid]
    while left:
        born = children.get(left.pop(), [])
        found += born
        left += born
    return tuple(found)


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


@contextmanager
def _program(
    command: list[str], *, environment: Mapping[str, str] | None = None, **streams: Any
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(command, text=True, env={**os.environ, **(environment or {})}, **streams)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _tool(name: str) -> str:
    """A command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
