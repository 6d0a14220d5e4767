"""Cache parameters: which there are, what they may be, and which settings of the server they become.

Source: Amazon ElastiCache user guide, Valkey and Redis OSS parameters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulation.elasticache.failures import invalid_value, not_emulated
from emulation.elasticache.node_types import MAXMEMORY

_POLICIES = "volatile-lru,allkeys-lru,volatile-lfu,allkeys-lfu,volatile-random,allkeys-random,volatile-ttl,noeviction"
_YES_NO = "yes,no"


@dataclass(frozen=True)
class Parameter:
    """`allowed` is AWS's notation ("0,20-", "yes,no", a regular expression). `reaches` says that the server has it."""

    name: str
    default: str
    kind: str = "integer"
    allowed: str = "0-"
    modifiable: bool = True
    needs_reboot: bool = False
    reaches: bool = True

    def describe(self, value: str, source: str) -> dict[str, Any]:
        return {
            "ParameterName": self.name,
            "ParameterValue": value,
            "Description": self.name,
            "Source": source,
            "DataType": self.kind,
            "AllowedValues": self.allowed,
            "IsModifiable": self.modifiable,
            "MinimumEngineVersion": "4.0.10",
            "ChangeType": "requires-reboot" if self.needs_reboot else "immediate",
        }

    def check(self, value: str) -> None:
        """Raises ElastiCacheError where the value is not allowed."""
        if not self.modifiable:
            raise invalid_value(f"The parameter {self.name} cannot be modified.")
        if self.kind == "integer":
            good = re.fullmatch(r"-?\d+", value) is not None and _in_ranges(int(value), self.allowed)
        elif self.name == "notify-keyspace-events":
            good = re.fullmatch(r"[KEg$lshzxeAtmdn]*", value) is not None
        else:
            good = value in self.allowed.split(",")
        if not good:
            raise invalid_value(
                f"Invalid value {value!r} for parameter {self.name}. Allowed values: {self.allowed or 'any'}."
            )


def _in_ranges(value: int, allowed: str) -> bool:
    for part in allowed.split(","):
        match = re.fullmatch(r"(-?\d+)(-(-?\d+)?)?", part)
        if match and (
            (match[2] is None and value == int(match[1]))
            or (match[2] is not None and value >= int(match[1]) and (match[3] is None or value <= int(match[3])))
        ):
            return True
    return False


def _fixed(name: str, default: str, kind: str = "string", allowed: str = "", *, reaches: bool = False) -> Parameter:
    return Parameter(name, default, kind, allowed, modifiable=False, reaches=reaches)


_PARAMETERS = (
    Parameter("acllog-max-len", "128", allowed="0-"),
    Parameter("active-expire-effort", "1", allowed="1-10"),
    # Emulation: the embedded server is built without jemalloc, so it cannot defragment; changing it is refused.
    Parameter("activedefrag", "no", "string", _YES_NO, reaches=False),
    _fixed("activerehashing", "yes", allowed=_YES_NO, reaches=True),
    _fixed("appendfsync", "everysec", allowed="always,everysec,no"),
    _fixed("appendonly", "no", allowed=_YES_NO),
    Parameter("cluster-allow-reads-when-down", "no", "string", _YES_NO),
    Parameter("cluster-enabled", "no", "string", _YES_NO, needs_reboot=True, reaches=False),
    Parameter("cluster-require-full-coverage", "no", "string", _YES_NO),
    Parameter("databases", "16", allowed="1-1200000", needs_reboot=True),
    Parameter("hash-max-listpack-entries", "512"),
    Parameter("hash-max-listpack-value", "64"),
    Parameter("hll-sparse-max-bytes", "3000", allowed="1-16000"),
    Parameter("latency-tracking", "no", "string", _YES_NO),
    Parameter("lazyfree-lazy-eviction", "yes", "string", _YES_NO),
    Parameter("lazyfree-lazy-expire", "yes", "string", _YES_NO),
    Parameter("lazyfree-lazy-server-del", "yes", "string", _YES_NO),
    Parameter("lazyfree-lazy-user-del", "yes", "string", _YES_NO),
    Parameter("lfu-decay-time", "1"),
    Parameter("lfu-log-factor", "10", allowed="1-"),
    Parameter("list-compress-depth", "0"),
    Parameter("list-max-listpack-size", "-2", allowed="-5--1,1-"),
    _fixed("maxclients", "65000", "integer", "1-65000"),
    Parameter("maxmemory-policy", "volatile-lru", "string", _POLICIES),
    Parameter("maxmemory-samples", "5", allowed="1-"),
    Parameter("min-replicas-max-lag", "10"),
    Parameter("min-replicas-to-write", "0"),
    Parameter("notify-keyspace-events", "", "string", ""),
    Parameter("proto-max-bulk-len", "536870912", allowed="1048576-536870912"),
    Parameter("repl-backlog-size", "1048576", allowed="16384-"),
    Parameter("reserved-memory-percent", "25", allowed="0-100", reaches=False),
    Parameter("set-max-intset-entries", "512"),
    Parameter("slowlog-log-slower-than", "10000", allowed="-1-"),
    Parameter("slowlog-max-len", "128"),
    Parameter("stream-node-max-bytes", "4096"),
    Parameter("stream-node-max-entries", "100"),
    Parameter("tcp-keepalive", "300"),
    Parameter("timeout", "0", allowed="0,20-"),
    Parameter("zset-max-listpack-entries", "128"),
    Parameter("zset-max-listpack-value", "64"),
)

PARAMETERS: Mapping[str, Parameter] = {parameter.name: parameter for parameter in _PARAMETERS}


@dataclass(frozen=True)
class ParameterGroup:
    """`values` holds what differs from the defaults. Default groups (`default.redis7`) are never modified."""

    name: str
    family: str
    description: str
    arn: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        return self.name.startswith("default.")

    @property
    def cluster_enabled(self) -> bool:
        return self.values.get("cluster-enabled") == "yes"

    def value(self, name: str) -> str:
        return self.values.get(name, PARAMETERS[name].default)

    def settings(self, node_type: str) -> dict[str, str]:
        """What the server is to be told, for a node of that type."""
        told = {name: self.value(name) for name, parameter in PARAMETERS.items() if parameter.reaches}
        percent = int(self.value("reserved-memory-percent"))
        told["maxmemory"] = str(MAXMEMORY[node_type] * (100 - percent) // 100)
        # Emulation: as many clients as the machine's limit of open files allows.
        return told


def check_changes(changes: Mapping[str, str]) -> None:
    """Raises ElastiCacheError where a parameter is unknown, cannot be modified, or not to that value."""
    for name, value in sorted(changes.items()):
        parameter = PARAMETERS.get(name)
        if parameter is None:
            raise invalid_value(f"Parameter {name} doesn't exist")
        parameter.check(value)
        if name == "activedefrag" and value != parameter.default:
            raise not_emulated("active defragmentation. The embedded Valkey is built without jemalloc.")
