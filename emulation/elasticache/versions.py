"""Engines and their versions as AWS offers them, with their parameter group families.

Source: Amazon ElastiCache user guide, Supported engines and versions; Engine versions and upgrading.
"""

import re
from collections.abc import Mapping

from emulation.elasticache.failures import invalid_combination, invalid_value, not_emulated

ENGINES = ("redis", "valkey")

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "redis": {
        "4.0.10": "redis4.0",
        "5.0.6": "redis5.0",
        "6.0": "redis6.x",
        "6.2": "redis6.x",
        "7.0": "redis7",
        "7.1": "redis7",
    },
    "valkey": {"7.2": "valkey7", "8.0": "valkey8", "8.1": "valkey8", "8.2": "valkey8"},
}


def check_engine(engine: str) -> str:
    """The engine in AWS's spelling. Raises ElastiCacheError."""
    known = engine.lower()
    if known == "memcached":
        raise not_emulated("the engine memcached. Use valkey or redis.")
    if known not in ENGINES:
        raise invalid_value(f"Invalid cache engine: {engine}")
    return known


def resolve_version(engine: str, asked: str) -> str:
    """The version that AWS would run: the asked one, or its latest. Raises ElastiCacheError in AWS's words."""
    offered = FAMILIES[engine]
    if not asked:
        return list(offered)[-1]
    if asked in offered:
        return asked
    if match := re.fullmatch(r"(\d+)\.x", asked):
        of_major = [version for version in offered if version.split(".")[0] == match[1]]
        if of_major and int(match[1]) >= 6:
            return of_major[-1]
    if (match := re.fullmatch(r"(\d+\.\d+)\.\d+", asked)) and match[1] in offered:
        raise invalid_value(f"Specific version selection is not allowed for '{asked}', please use '{match[1]}'")
    raise invalid_combination(f"Cannot find version {asked} for {engine}")


def is_redis_family(family: str) -> bool:
    return family in {name for versions in FAMILIES.values() for name in versions.values()}
