"""The routes of a listener: its rules, in Envoy's words. Pure."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from emulation.elbv2 import pages
from emulation.elbv2.conditions import SOURCE_HEADER, route_match
from emulation.elbv2.records import FixedResponse, Forward, Listener, LoadBalancer, Redirect, Rule, TargetGroup

Json = dict[str, Any]

TYPES = "type.googleapis.com/envoy."


def routes(balancer: LoadBalancer, listener: Listener, groups: Mapping[str, TargetGroup]) -> Json:
    hidden = [SOURCE_HEADER, "x-envoy-external-address", "x-envoy-internal"]
    if balancer.xff_mode == "remove":
        hidden.append("x-forwarded-for")
    return {
        "@type": f"{TYPES}config.route.v3.RouteConfiguration",
        "name": listener.id,
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [route for rule in listener.rules for route in _rule_routes(rule, listener, groups)],
                "request_headers_to_add": [set_header("x-forwarded-port", str(listener.port))],
                "request_headers_to_remove": hidden,
            }
        ],
    }


def _rule_routes(rule: Rule, listener: Listener, groups: Mapping[str, TargetGroup]) -> Iterable[Json]:
    match = route_match(rule.conditions)
    match rule.action:
        case Forward() as forward:
            yield from _forward_routes(match, forward, groups)
        case Redirect() as redirect:
            yield _redirect_route(match, redirect, listener)
        case FixedResponse() as fixed:
            yield _fixed_route(match, fixed)


def _forward_routes(match: Json, forward: Forward, groups: Mapping[str, TargetGroup]) -> Iterable[Json]:
    weighted = [(groups[arn], weight) for arn, weight in forward.groups if arn in groups and weight > 0]
    if not weighted:
        yield {"match": match, "direct_response": {"status": 503, "body": {"inline_string": pages.page(503)}}}
        return
    always = {"timeout": "0s"}  # the idle timeout alone ends a request
    if len(weighted) == 1:
        group = weighted[0][0]
        yield {"match": match, "route": {"cluster": group.full_name, **always}, **_sticky(group)}
        return
    if forward.sticky_for is not None:
        for group, _ in weighted:
            cookie = {"name": "cookie", "string_match": {"contains": f"AWSALBTG={group_id(group)}"}}
            sticking = {**match, "headers": [*match.get("headers", ()), cookie]}
            yield {"match": sticking, "route": {"cluster": group.full_name, **always}, **_sticky(group)}
    clusters = [
        {"name": group.full_name, "weight": weight, **_sticky(group), **_group_cookie(group, forward.sticky_for)}
        for group, weight in weighted
    ]
    yield {"match": match, "route": {"weighted_clusters": {"clusters": clusters}, **always}}


def _sticky(group: TargetGroup) -> Json:
    """Source: Sticky sessions for your Application Load Balancer, Duration-based stickiness.

    Emulation: the cookie AWSALBCORS is not set beside AWSALB.
    """
    if group.sticky_for is None:
        return {}
    state = {
        "name": "envoy.http.stateful_session.cookie",
        "typed_config": {
            "@type": f"{TYPES}extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
            "cookie": {"name": "AWSALB", "path": "/", "ttl": seconds(group.sticky_for)},
        },
    }
    route = {
        "@type": f"{TYPES}extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
        "stateful_session": {"session_state": state},
    }
    return {"typed_per_filter_config": {"envoy.filters.http.stateful_session": route}}


def _group_cookie(group: TargetGroup, sticky_for: timedelta | None) -> Json:
    if sticky_for is None:
        return {}
    value = f"AWSALBTG={group_id(group)}; Max-Age={int(sticky_for.total_seconds())}; Path=/"
    header = {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
    return {"response_headers_to_add": [header]}


def group_id(group: TargetGroup) -> str:
    return group.arn.rpartition("/")[2]


def _redirect_route(match: Json, redirect: Redirect, listener: Listener) -> Json:
    query = f"?{redirect.query}" if redirect.query else ""
    told = {
        "location": f"{redirect.protocol}://{redirect.host}:{redirect.port}{redirect.path}{query}",
        "protocol": "http",
        "port": str(listener.published_port),
        "status": str(redirect.status),
        "server": pages.SERVER,
        "page": pages.page(redirect.status),
    }
    return {
        "match": match,
        "direct_response": {"status": redirect.status},  # the script answers before that
        "metadata": {"filter_metadata": {"envoy.filters.http.lua": {"redirect": told}}},
        "typed_per_filter_config": {
            "envoy.filters.http.lua": {
                "@type": f"{TYPES}extensions.filters.http.lua.v3.LuaPerRoute",
                "name": "redirect",
            }
        },
    }


def _fixed_route(match: Json, fixed: FixedResponse) -> Json:
    answer: Json = {"status": fixed.status}
    if fixed.body:
        answer["body"] = {"inline_string": fixed.body}
    headers = [set_header("server", pages.SERVER)]
    if fixed.body:
        headers.append(set_header("content-type", f"{fixed.content_type or 'text/plain'}; charset=utf-8"))
    return {"match": match, "direct_response": answer, "response_headers_to_add": headers}


def set_header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}s"
