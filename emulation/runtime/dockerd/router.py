"""The router of a task: R's end of the veth pair, in a process of ours. It runs with the standard library only.

One small interpreter is forked for each task. What a router makes is gone when it ends, and it ends when the emulator
does: then the socket to it ends. It is root's, in the host's user namespace, to whom the daemon's containers belong.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import traceback
from typing import Any

from emulation.runtime.sandbox.agent import netlink, system
from emulation.runtime.sandbox.agent.loop import Agent


def main(control: int) -> None:
    """Each message carries the control socket of a new router and T. Ends with the emulator."""
    server = socket.socket(fileno=control)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches us too; the emulator decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each spliced connection needs six
    while True:
        data, descriptors, _, _ = socket.recv_fds(server, 16, 2)
        if not data:
            return
        if os.fork() == 0:
            try:
                server.close()
                _run(socket.socket(fileno=descriptors[0]), descriptors[1])
            except BaseException:
                traceback.print_exc()  # a mistake of ours: what the machine refuses was reported
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)


def _run(control: socket.socket, inside: int) -> None:
    def send(message: dict[str, Any], descriptors: list[int]) -> None:
        socket.send_fds(control, [json.dumps(message).encode()], descriptors)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    own = os.pidfd_open(os.getpid())
    send({"event": "born"}, [own])
    os.close(own)
    settings = json.loads(control.recv(65536) or b"null")
    if settings is None:
        return
    agent = Agent(control)
    agent.eni, agent.inside = settings["eni"], inside
    try:
        agent.router = _connect(inside, settings["eni"], settings["gateway"], settings["mtu"])
    except OSError as error:
        send({"event": "failed", "step": "network", "errno": error.errno, "error": system.reason(error)}, [])
        return
    send({"event": "ready"}, [])
    agent.serve()


def _connect(inside: int, eni: str, gateway: str, mtu: int) -> int:
    """Makes R, in which this process stays, and joins it to T (`inside`). As agent.birth does it for both."""
    system.unshare(system.NEWNET)
    router = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    # A new namespace inherits the host's value; with 1, packets to closed addresses would get an ICMP answer.
    _write("/proc/sys/net/ipv4/ip_forward", "0")
    netlink.link_up("lo")
    system.setns(inside, system.NEWNET)
    # As Docker has both for networks of its own.
    _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
    _write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
    with contextlib.suppress(OSError):  # no IPv6, or not in the kernel: then nothing needs to be switched off
        _write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
    netlink.link_up("lo")
    netlink.add_veth("eth0", "uplink", router, mtu)
    netlink.add_address("eth0", eni)
    netlink.link_up("eth0")
    system.setns(router, system.NEWNET)
    netlink.add_address("uplink", gateway)
    netlink.link_up("uplink")
    netlink.route_address("uplink", eni)
    netlink.deliver_all_locally()
    netlink.rule(True, eni, destination=gateway, port=1)
    netlink.rule(False, eni, destination=gateway, port=1)
    system.setns(inside, system.NEWNET)
    netlink.route_all("eth0", gateway)
    system.setns(router, system.NEWNET)
    return router


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
