"""Conditions of rules, judged by Python's regular expressions, whose common part with Envoy's (RE2) they are in."""

import re
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.elbv2.conditions import SOURCE_HEADER, network_pattern, route_match
from emulation.elbv2.records import Condition

REQUEST = {":method": "GET", ":authority": "shop.example.com:8080", ":path": "/img/a.png?v=Blue&w=2", "x-user": "Ann"}


def fits(condition: Condition, **changes: str) -> bool:
    headers = {**REQUEST, **{name.replace("_", "-"): value for name, value in changes.items()}}
    match = route_match([condition])
    path = headers[":path"].partition("?")[0]
    if "safe_regex" in match and not re.fullmatch(match["safe_regex"]["regex"], path):
        return False
    return all(
        re.fullmatch(header["string_match"]["safe_regex"]["regex"], headers.get(header["name"], ""))
        for header in match.get("headers", ())
    )


@pytest.mark.parametrize(
    ("condition", "fit"),
    [
        (Condition("path-pattern", ("/img/*",)), True),
        (Condition("path-pattern", ("/IMG/*",)), False),
        (Condition("path-pattern", ("/css/*", "/img/?.png")), True),
        (Condition("path-pattern", ("/img/*?v=Blue*",)), False),
        (Condition("path-pattern", ("/img/aXpng",)), False),
        (Condition("host-header", ("*.EXAMPLE.com",)), True),
        (Condition("host-header", ("example.com",)), False),
        (Condition("http-request-method", ("POST", "GET")), True),
        (Condition("http-request-method", ("get",)), False),
        (Condition("http-header", ("a*",), name="X-User"), True),
        (Condition("http-header", ("b*",), name="X-User"), False),
        (Condition("query-string", ("blue",), keys=("V",)), True),
        (Condition("query-string", ("2",), keys=("",)), True),
        (Condition("query-string", ("blue",), keys=("w",)), False),
        (Condition("query-string", ("*2",), keys=("v",)), False),
    ],
)
def test_a_condition_fits_or_does_not(condition: Condition, fit: bool) -> None:
    """Wildcards, letters' case and where each of them counts, as AWS documents it."""
    assert fits(condition) is fit


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_a_network_fits_its_own_addresses_only(base: int, prefix: int, other: int) -> None:
    """The expression for a CIDR block agrees with arithmetic."""
    network = IPv4Network((base, prefix), strict=False)
    for address in (network[0], network[-1], IPv4Address(other)):
        assert bool(re.fullmatch(network_pattern(str(network)), str(address))) is (address in network)


def test_all_conditions_of_a_rule_must_be_met() -> None:
    """Each becomes a part of one match; a second path is matched together with the query."""
    conditions = [Condition("path-pattern", ("/a*",)), Condition("path-pattern", ("*b",))]
    match = route_match([*conditions, Condition("source-ip", ("10.0.0.1/32",))])
    assert match["safe_regex"]["regex"] == "(?:/a.*)"
    assert [header["name"] for header in match["headers"]] == [":path", SOURCE_HEADER]
    assert re.fullmatch(match["headers"][0]["string_match"]["safe_regex"]["regex"], "/ab?c")
