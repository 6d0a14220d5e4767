"""Conditions of listener rules as Envoy's route matches. Pure.

AWS's patterns know * (any characters) and ? (one); hosts, headers and queries are compared without regard to case,
paths with. The values of one condition are alternatives; all conditions of a rule must be met.

Source: Listener rules for your Application Load Balancer, Condition types.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any

from emulation.elbv2.records import Condition

SOURCE_HEADER = "x-sunabox-source-ip"
"""Envoy puts the client's address here before it looks for a route, and takes it out before the target sees it."""


def route_match(conditions: Iterable[Condition]) -> dict[str, Any]:
    """The `match` of a route. Without conditions, everything."""
    match: dict[str, Any] = {}
    headers: list[dict[str, Any]] = []
    for condition in conditions:
        match_path = _alternatives(map(_pattern, condition.values)) if condition.field == "path-pattern" else ""
        if match_path and "safe_regex" not in match:
            match["safe_regex"] = {"regex": match_path}
        elif match_path:  # a rule may have one only; a second one is matched on the path with its query
            headers.append(_header(":path", rf"(?:{match_path})(?:\?.*)?"))
        else:
            headers.append(_header_match(condition))
    if "safe_regex" not in match:
        match["prefix"] = "/"
    if headers:
        match["headers"] = headers
    return match


def _header_match(condition: Condition) -> dict[str, Any]:
    values = condition.values
    match condition.field:
        case "host-header":
            return _header(":authority", rf"(?i)(?:{_alternatives(map(_pattern, values))})(?::\d+)?")
        case "http-header":
            return _header(condition.name.lower(), f"(?i){_alternatives(map(_pattern, values))}")
        case "http-request-method":
            return _header(":method", _alternatives(map(re.escape, values)))
        case "query-string":
            pairs = zip(condition.keys, values, strict=True)
            return _header(":path", rf"(?i)[^?]*\?(?:.*&)?(?:{_alternatives(_pair(*pair) for pair in pairs)})(?:&.*)?")
        case "source-ip":
            return _header(SOURCE_HEADER, _alternatives(map(network_pattern, values)))
    raise ValueError(f"There is no condition {condition.field!r}.")


def network_pattern(cidr: str) -> str:
    """A regular expression for the addresses of an IPv4 network: "10.1.0.0/16" → 10\\.1\\.…"""
    network = IPv4Network(cidr, strict=False)
    first, last = network.network_address.packed, network.broadcast_address.packed
    return r"\.".join(_octet(low, high) for low, high in zip(first, last, strict=True))


def _octet(low: int, high: int) -> str:
    if (low, high) == (0, 255):
        return r"\d+"
    return _alternatives(str(value) for value in range(low, high + 1))


def _pair(key: str, value: str) -> str:
    name = _pattern(key, "[^&=]") if key else "[^&=]*"
    return f"{name}={_pattern(value, '[^&]')}"


def _pattern(text: str, anything: str = ".") -> str:
    """AWS's wildcards as a regular expression. A backslash takes the special meaning of the character after it."""
    parts, characters = [], iter(text)
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append({"*": f"{anything}*", "?": anything}.get(character) or re.escape(character))
    return "".join(parts)


def _alternatives(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(patterns)})"


def _header(name: str, regex: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}
