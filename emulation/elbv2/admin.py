"""Envoy's administration interface, over its Unix socket. All functions block; for a thread."""

import http.client
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

_SECONDS = 5.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([\d.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What Envoy says of its configuration: the versions that it runs with, and what it is still at."""

    versions: Mapping[str, str]
    rejected: int
    warming: int


def ask(path: str, query: str) -> str:
    """Raises OSError, http.client.HTTPException."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", query)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


TAKEN_QUERY = (
    "/stats?filter=^(cluster_manager%5C.cds|listener_manager%5C.lds)%5C.(version_text|update_rejected)$"
    "|^cluster_manager%5C.warming_clusters$|^listener_manager%5C.total_listeners_warming$"
)


def parse_taken(text: str) -> Taken:
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    numbers = {name: int(value) for name, value in values.items() if value.isdigit()}
    return Taken(
        versions={
            "cds": values.get("cluster_manager.cds.version_text", "").strip('"'),
            "lds": values.get("listener_manager.lds.version_text", "").strip('"'),
        },
        rejected=sum(value for name, value in numbers.items() if name.endswith("update_rejected")),
        warming=sum(value for name, value in numbers.items() if "warming" in name),
    )


COUNTERS_QUERY = "/stats/prometheus?usedonly&filter=sunabox_alb|upstream_rq_time"


def parse_counters(text: str) -> dict[tuple[str, Labels], float]:
    """Counters in the format of Prometheus, by name and labels."""
    return {(name, tuple(_LABEL.findall(labels))): float(value) for name, labels, value in _SAMPLE.findall(text)}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)
