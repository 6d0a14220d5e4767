"""How a fork becomes a task's agent: its namespaces, step by step, so that a failure names the step."""

import contextlib
import json
import os
import resource
import signal
import socket
from typing import Any

from . import netlink, system
from .loop import Agent

STEPS = ("user namespace", "id map", "PID and mount namespace", "proc", "network namespace", "veth", "routing rules")
"""What can fail, in this order; `network namespace` and the following only where a network is asked for."""
SERVING = "serving"


class Birth:
    """Runs in two processes: the first unshares and maps ids; its child, process 1 of a PID namespace, is the agent."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._step = STEPS[0]

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        socket.send_fds(self._control, [json.dumps(message).encode()], descriptors or [])

    def run(self) -> None:
        try:
            self._unshare()
        except OSError as error:
            if self._step == SERVING:
                raise
            if isinstance(error, BrokenPipeError | ConnectionResetError):
                return  # the task was closed meanwhile: nobody waits for this agent any more
            self.send({"event": "failed", "step": self._step, "errno": error.errno, "error": system.reason(error)})

    def _unshare(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        system.unshare(system.NEWUSER)
        # Reading our own maps' files is the emulator's business now; it needs a dumpable process if it is not root.
        system.prctl(system.PR_SET_DUMPABLE, 1)
        self.send({"event": "unshared", "pid": os.getpid()})
        self._step = STEPS[1]
        settings = json.loads(self._control.recv(65536) or b"null")
        if settings is None:
            os._exit(0)  # the emulator has gone, or could not write the maps
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        with contextlib.suppress(PermissionError):  # a map of one id does not allow it
            os.setgroups([])
        system.prctl(system.PR_SET_DUMPABLE, 1)
        self._step = STEPS[2]
        system.unshare(system.NEWPID | system.NEWNS)
        told, tell = os.pipe()
        child = os.fork()
        if child:
            self.send({"event": "born"}, [os.pidfd_open(child)])
            os.write(tell, b"x")
            os._exit(0)
        os.read(told, 1)
        os.close(told)
        os.close(tell)
        self._live(settings)

    def _live(self, settings: dict[str, Any]) -> None:
        self._step = STEPS[3]
        system.mount("none", "/", flags=system.MS_REC | system.MS_PRIVATE)
        safe = system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC
        system.mount("proc", "/proc", "proc", safe)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each spliced connection needs six
        agent = Agent(self._control)
        if "eni" in settings:
            agent.eni = settings["eni"]
            agent.router, agent.inside = self._network(settings["eni"], settings["gateway"], settings["mtu"])
            system.setns(agent.inside, system.NEWNET)
            with contextlib.suppress(OSError):  # a container whose /sys is empty runs all the same
                system.mount("sysfs", "/sys", "sysfs", safe | system.MS_RDONLY)
                agent.has_sysfs = True
            system.setns(agent.router, system.NEWNET)
        self._step = SERVING
        self.send({"event": "ready"})
        agent.serve()

    def _network(self, eni: str, gateway: str, mtu: int) -> tuple[int, int]:
        self._step = STEPS[4]
        system.unshare(system.NEWNET)
        router = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        # A new namespace inherits the host's value; with 1, packets to closed addresses would get an ICMP answer.
        _write("/proc/sys/net/ipv4/ip_forward", "0")
        netlink.link_up("lo")
        system.unshare(system.NEWNET)
        inside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        _write("/proc/sys/net/ipv4/ping_group_range", "0 0")
        with contextlib.suppress(OSError):  # no IPv6, or not in the kernel: then nothing needs to be switched off
            _write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
        netlink.link_up("lo")
        self._step = STEPS[5]
        netlink.add_veth("eth0", "uplink", router, mtu)
        netlink.add_address("eth0", eni)
        netlink.link_up("eth0")
        system.setns(router, system.NEWNET)
        netlink.add_address("uplink", gateway)
        netlink.link_up("uplink")
        netlink.route_address("uplink", eni)
        self._step = STEPS[6]
        netlink.deliver_all_locally()
        netlink.rule(True, eni, destination=gateway, port=1)
        netlink.rule(False, eni, destination=gateway, port=1)
        system.setns(inside, system.NEWNET)
        netlink.route_all("eth0", gateway)
        system.setns(router, system.NEWNET)
        return router, inside


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def give_birth(control: socket.socket) -> None:
    Birth(control).run()
