"""The few routing requests that a task's network needs, so that no `ip` program has to be there.

Source: rtnetlink(7), linux/rtnetlink.h, linux/fib_rules.h, linux/if_link.h.
"""

import contextlib
import os
import socket
import struct

TCP = 6
TABLE = 100
"""The routing table by which a packet of the task is delivered inside R."""

_REQUEST_ACK, _CREATE_EXCLUSIVE = 5, 0x600
_NEWLINK, _NEWADDR, _NEWROUTE, _NEWRULE, _DELRULE = 16, 20, 24, 32, 33
_NESTED = 0x8000
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST, _UNICAST, _LOCAL = 254, 4, 0, 253, 254, 1, 2
_FRA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 1, 2, 6, 22, 23, 24
_RULE_TO_TABLE, _PRIORITY = 1, 50


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _name(kind: int, name: str) -> bytes:
    return _attribute(kind, name.encode() + b"\0")


def _request(kind: int, body: bytes, flags: int = _CREATE_EXCLUSIVE) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_ACK | flags, 1, 0) + body)
        error = int(struct.unpack_from("=i", sock.recv(65536), 16)[0])
    if error:
        raise OSError(-error, f"netlink request {kind}: {os.strerror(-error)}")


def link_up(name: str) -> None:
    _request(_NEWLINK, struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), 1, 1), 0)


def add_veth(name: str, peer: str, peer_namespace: int, mtu: int) -> None:
    head, size = struct.pack("=BxHiII", 0, 0, 0, 0, 0), _number(_IFLA_MTU, mtu)
    other = head + _name(_IFLA_IFNAME, peer) + _number(_IFLA_NET_NS_FD, peer_namespace) + size
    peer_info = _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_INFO_PEER | _NESTED, other))
    info = _attribute(_IFLA_LINKINFO | _NESTED, _attribute(_INFO_KIND, b"veth") + peer_info)
    _request(_NEWLINK, head + _name(_IFLA_IFNAME, name) + size + info)


def add_address(device: str, address: str) -> None:
    raw, index = socket.inet_aton(address), socket.if_nametoindex(device)
    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index)
    _request(_NEWADDR, body + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw))


def _route(device: str, prefix: int, table: int, scope: int, kind: int, extra: bytes = b"") -> None:
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, table, _PROTOCOL_STATIC, scope, kind, 0)
    _request(_NEWROUTE, head + _number(_RTA_OIF, socket.if_nametoindex(device)) + extra)


def route_address(device: str, address: str) -> None:
    destination = _attribute(_RTA_DST, socket.inet_aton(address))
    _route(device, 32, _TABLE_MAIN, _SCOPE_LINK, _UNICAST, destination)


def route_all(device: str, gateway: str) -> None:
    """The default route. The gateway need not be in a subnet of the device: it is reachable over it."""
    route_address(device, gateway)
    _route(device, 0, _TABLE_MAIN, _SCOPE_UNIVERSE, _UNICAST, _attribute(_RTA_GATEWAY, socket.inet_aton(gateway)))


def deliver_all_locally() -> None:
    """Whatever a rule sends to TABLE is for this namespace itself."""
    _route("lo", 0, TABLE, _SCOPE_HOST, _LOCAL)


def rule(add: bool, source: str, *, destination: str = "", port: int = 0, source_port: int = 0) -> None:
    """In R, deliver TCP packets from `source` (to destination:port, or answers of source_port) locally. Idempotent."""
    prefix = 32 if destination else 0
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 32, 0, TABLE, 0, 0, _RULE_TO_TABLE, 0)
    body += _attribute(_FRA_SRC, socket.inet_aton(source)) + _number(_FRA_PRIORITY, _PRIORITY)
    body += _attribute(_FRA_IP_PROTO, bytes([TCP]))
    if destination:
        body += _attribute(_FRA_DST, socket.inet_aton(destination))
    if port:
        body += _attribute(_FRA_DPORT_RANGE, struct.pack("=HH", port, port))
    if source_port:
        body += _attribute(_FRA_SPORT_RANGE, struct.pack("=HH", source_port, source_port))
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        _request(_NEWRULE if add else _DELRULE, body, _CREATE_EXCLUSIVE if add else 0)
