"""Envoy's configuration, rendered from the records. Pure: records in, files (plain dicts for JSON) out.

There are four kinds of files, which Envoy watches: LDS (listeners), RDS (the routes of each listener), CDS (one cluster
a target group) and EDS (the targets of each group that get new requests). Routes and targets change often, and changing
them touches no connection; a listener changes with the attributes of its load balancer only.

Emulation: time-outs of the data plane (idle, connect, cookies) are in the machine's time, as the programs are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from emulation.elbv2 import pages
from emulation.elbv2.conditions import SOURCE_HEADER
from emulation.elbv2.envoy_routes import TYPES, Json, group_id, routes, seconds, set_header
from emulation.elbv2.records import Listener, LoadBalancer, TargetGroup

Endpoint = tuple[str, int]

ADMIN_SOCKET = "admin.sock"
LISTENERS, CLUSTERS = "lds.json", "cds.json"
METRIC = "sunabox_alb"

_CONNECT_TIMEOUT = "10s"
"""Source: Troubleshoot your Application Load Balancers, HTTP 504."""
_TARGET_IDLE = "4s"
# Emulation: connections to targets are kept for 4 s; on AWS for the idle timeout, and a target that closes its side
# first makes the load balancer answer 502 now and then.
_NO_LIMIT = 1 << 20


@dataclass(frozen=True)
class Rendered:
    """Files by their names. `clusters` are there before `listeners` and `routes` speak of them, and go after."""

    listeners: tuple[Json, ...] = ()
    routes: Mapping[str, Json] = field(default_factory=dict)
    clusters: Mapping[str, Json] = field(default_factory=dict)
    targets: Mapping[str, Json] = field(default_factory=dict)


def bootstrap() -> Json:
    """What Envoy starts with; all paths are relative to the folder that it runs in."""
    return {
        "node": {"id": "sunabox", "cluster": "sunabox"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"lds_config": _file(LISTENERS), "cds_config": _file(CLUSTERS)},
        "stats_config": {"use_all_default_tags": False},
        "stats_flush_interval": "1s",  # histograms are seen after that
    }


def render(
    load_balancers: Iterable[LoadBalancer],
    groups: Mapping[str, TargetGroup],
    serving: Mapping[str, Iterable[Endpoint]],
) -> Rendered:
    """`groups` are target groups by ARN; `serving` are the endpoints of each that get new requests, maybe none."""
    balancers = sorted(load_balancers, key=lambda balancer: balancer.arn)
    used = sorted({arn for balancer in balancers for arn in balancer.target_groups if arn in groups})
    return Rendered(
        listeners=tuple(
            made for b in balancers for one in _ordered(b.listeners) for made in _envoy_listeners(b, one, groups)
        ),
        routes={_routes_file(ls): discovery([routes(b, ls, groups)]) for b in balancers for ls in b.listeners},
        clusters={arn: _cluster(groups[arn]) for arn in used},
        targets={targets_file(groups[arn]): _targets(groups[arn], serving.get(arn, ())) for arn in used},
    )


def discovery(resources: Iterable[Json], version: str = "") -> Json:
    """The content of a file. Envoy shows the version once it has taken it."""
    return {"version_info": version, "resources": list(resources)}


def inner_socket(listener: Listener) -> str:
    """Where the emulator itself hands over connections of tasks, each with a PROXY protocol header before it."""
    return f"in-{listener.id}.sock"


def targets_file(group: TargetGroup) -> str:
    return f"eds-{group.arn.rpartition('/')[2]}.json"


def _routes_file(listener: Listener) -> str:
    return f"rds-{listener.id}.json"


# ---- listeners ----


def _envoy_listeners(balancer: LoadBalancer, listener: Listener, groups: Mapping[str, TargetGroup]) -> Iterable[Json]:
    sticky = any(groups[arn].sticky_for is not None for arn in listener.target_groups if arn in groups)
    manager = _connection_manager(balancer, listener, sticky=sticky)
    chain = [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]
    if balancer.address is not None:
        socket = {"address": str(balancer.address), "port_value": listener.published_port}
        yield _listener(f"public-{listener.id}", {"socket_address": socket}, chain)
    proxied = {
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {"@type": f"{TYPES}extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
    }
    inner = {"pipe": {"path": inner_socket(listener), "mode": 0o600}}
    yield {**_listener(f"inner-{listener.id}", inner, chain), "listener_filters": [proxied]}


def _listener(name: str, address: Json, chain: list[Json]) -> Json:
    return {
        "@type": f"{TYPES}config.listener.v3.Listener",
        "name": name,
        "address": address,
        "filter_chains": chain,
        "enable_reuse_port": False,  # one socket a listener, so that one packet filter closes it (network/gate.py)
    }


def _connection_manager(balancer: LoadBalancer, listener: Listener, *, sticky: bool) -> Json:
    """Each filter costs time on every request, so those that no rule or group needs are left out."""
    by_source = any(condition.field == "source-ip" for rule in listener.rules for condition in rule.conditions)
    idle = seconds(balancer.idle_timeout)
    return {
        "@type": f"{TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "alb",
        "codec_type": "HTTP1",
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": balancer.dns_name},
        "rds": {"route_config_name": listener.id, "config_source": _file(_routes_file(listener))},
        "use_remote_address": True,
        "skip_xff_append": balancer.xff_mode != "append",
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "max_request_headers_kb": 64,
        "stream_idle_timeout": idle,
        # When the listener changes, clients that read to the end would wait for these in vain (5 s and 1 s).
        "drain_timeout": "0.05s",
        "delayed_close_timeout": "0.2s",
        "common_http_protocol_options": {
            "idle_timeout": idle,
            "max_connection_duration": seconds(balancer.client_keep_alive),
        },
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "early_header_mutation_extensions": [_remember_source()] if by_source else [],
        "http_filters": [_script_filter(), *([_stickiness_filter()] if sticky else []), _router_filter()],
        "access_log": [_counter(balancer)],
        "local_reply_config": {"mappers": _error_pages()},
    }


def _remember_source() -> Json:
    header = {"key": SOURCE_HEADER, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPES}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}],
        },
    }


def _script_filter() -> Json:
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": f"{TYPES}extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": pages.TRACE_SCRIPT},
            "source_codes": {"redirect": {"inline_string": pages.REDIRECT_SCRIPT}},
        },
    }


def _stickiness_filter() -> Json:
    """Off, unless the route or its cluster gives it a cookie."""
    return {
        "name": "envoy.filters.http.stateful_session",
        "typed_config": {"@type": f"{TYPES}extensions.filters.http.stateful_session.v3.StatefulSession"},
    }


def _router_filter() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{TYPES}extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    }


def _counter(balancer: LoadBalancer) -> Json:
    """Counts requests by target group, status and origin. One tag for all three: each costs time on every request."""
    tag = {"name": "of", "value_format": "%UPSTREAM_CLUSTER% %RESPONSE_CODE% %RESPONSE_FLAGS%"}
    return {
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": f"{TYPES}extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": f"{METRIC}.{balancer.id}"},
            "counters": [{"stat": {"name": "requests", "tags": [tag]}, "value_fixed": 1}],
        },
    }


def _expression(text: str) -> Json:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": f"{TYPES}extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                "expression": text,
            },
        }
    }


def _error_pages() -> list[Json]:
    """Envoy says 503 for much of what an Application Load Balancer tells apart."""
    never_connected = _expression("response.code_details.contains('connection_timeout')")
    return [
        _mapper(504, never_connected),
        _mapper(502, _flags("UF", "UC", "UR", "LR", "UPE")),
        _mapper(504, _flags("UT")),
        _mapper(504, {"and_filter": {"filters": [_flags("SI"), _status(504)]}}),
        _mapper(408, _flags("SI")),
        _mapper(503, _flags("UH", "UO", "NR", "NC")),
        _mapper(400, _status(400)),
    ]


def _mapper(status: int, filter: Json) -> Json:
    return {
        "filter": filter,
        "status_code": status,
        "body_format_override": {
            "text_format_source": {"inline_string": pages.page(status)},
            "content_type": "text/html",
        },
        "headers_to_add": [set_header("server", pages.SERVER)],
    }


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(status: int) -> Json:
    value = {"default_value": status, "runtime_key": "never.set"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


# ---- target groups ----


_POLICIES = {"round_robin": "ROUND_ROBIN", "least_outstanding_requests": "LEAST_REQUEST", "weighted_random": "RANDOM"}


def _cluster(group: TargetGroup) -> Json:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _NO_LIMIT)
    return {
        "@type": f"{TYPES}config.cluster.v3.Cluster",
        "name": group.full_name,
        "alt_stat_name": group_id(group),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _file(targets_file(group)), "service_name": group.full_name},
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": _POLICIES[group.algorithm],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},  # failing open is decided by us
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": _TARGET_IDLE},
            }
        },
    }


def _targets(group: TargetGroup, endpoints: Iterable[Endpoint]) -> Json:
    addresses = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in sorted(endpoints)
    ]
    assignment = {
        "@type": f"{TYPES}config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": group.full_name,
        "endpoints": [{"lb_endpoints": addresses}] if addresses else [],
    }
    return discovery([assignment])


# ---- words of Envoy ----


def _file(name: str) -> Json:
    return {"path_config_source": {"path": f"./{name}"}, "resource_api_version": "V3"}


def _ordered(listeners: Iterable[Listener]) -> list[Listener]:
    return sorted(listeners, key=lambda listener: listener.arn)
