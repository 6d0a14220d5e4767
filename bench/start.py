"""From the start of the program to the first answer of the AWS API, and the memory that it takes when it is idle."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.client import HTTPConnection
from statistics import median

from bench.figures import Figure, compared, spread
from bench.servers import ACCOUNT, REGION, Running, memory_mib, moto_server, sunabox

_TARGET_SECONDS = 0.6
_TARGET_MIB = 120.0
_SETTLES_SECONDS = 0.5

REQUESTS = {
    "STS GetCallerIdentity": (
        "sts",
        "POST",
        "Action=GetCallerIdentity&Version=2011-06-15",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    ),
    "S3 ListBuckets": ("s3", "GET", "", {}),
    "ECS DescribeClusters": (
        "ecs",
        "POST",
        "{}",
        {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.DescribeClusters",
        },
    ),
}
"""First requests: service, method, body, headers. Made by hand, so that no client's own start is measured."""

Server = Callable[[], AbstractContextManager[Running]]


def measure(rounds: int) -> Iterator[Figure]:
    servers: dict[str, Server] = {
        "memory": partial(sunabox, "memory"),
        "process": partial(sunabox, "process"),
        "moto_server": moto_server,
    }
    for request in REQUESTS:
        seconds: dict[str, list[float]] = {name: [] for name in servers}
        mib: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                one, idle = first_answer(server, request)
                seconds[name].append(one)
                mib[name].append(idle)
        for runtime in ("memory", "process"):
            what = f"start on {runtime} → first answer, {request}"
            yield Figure(what, median(seconds[runtime]), "s", _TARGET_SECONDS, remark=spread(seconds[runtime], "s"))
            yield compared("  beside moto_server's", seconds[runtime], seconds["moto_server"], target=None)
            remark = f"moto_server {median(mib['moto_server']):.0f} MiB"
            yield Figure("  idle memory after it", median(mib[runtime]), "MiB", _TARGET_MIB, remark=remark)


def first_answer(server: Server, request: str) -> tuple[float, float]:
    """The seconds from the start of a program to its first answer, and its MiB some time after that."""
    service, method, body, headers = REQUESTS[request]
    with server() as running:
        connection = HTTPConnection(running.url.removeprefix("http://"))
        scope = f"{ACCOUNT}/20250101/{REGION}/{service}/aws4_request"
        signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
        connection.request(method, "/", body, {**headers, **signed})
        answer = connection.getresponse()
        answer.read()
        seconds = time.perf_counter() - running.started
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{running.url} answered {answer.status} to {request}")
        time.sleep(_SETTLES_SECONDS)
        return seconds, memory_mib(running.pid)
