"""What this machine lets the process runtime do, found out by doing it, and what people can do about the rest."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulation.runtime.sandbox.agent.birth import STEPS
from emulation.runtime.sandbox.cgroups import Hierarchy, find
from emulation.runtime.sandbox.forkserver import AgentFailed, AgentProcess, ForkServer, Ids
from emulation.runtime.sandbox.program import LaunchReport, Programs
from emulation.runtime.sandbox.rootfs import make_folder, remove_tree

SHIFTED = Ids(0x60000000, 65536)
"""Ids that nobody on the host has, of the range for containers. Source: systemd, "Users, Groups, UIDs and GIDs"."""
IDENTICAL = Ids(0, 65536)
SINGLE = Ids(os.geteuid(), 1)

_NETWORK_STEPS = STEPS[STEPS.index("network namespace") :]
_TRIAL = {"eni": "10.255.255.2", "gateway": "10.255.255.1", "mtu": 65535}
_SYSCTLS = (
    "user/max_user_namespaces",
    "user/max_net_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a probe found. An empty string means that it works, everything else is the kernel's reason.

    `namespaces` and `network` begin with the step that failed. `ids` None: not even one id could be mapped.
    """

    ids: Ids | None = None
    namespaces: str = ""
    network: str = ""
    overlay: str = ""
    hierarchy: Hierarchy | None = None
    cgroups: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`missing` rules the runtime out; `warnings` say what it does without. Sentences for people."""

    missing: tuple[str, ...]
    warnings: tuple[str, ...]


def read_sysctl(name: str) -> str:
    """The value of a kernel setting, "" where this kernel does not have it."""
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def explain(findings: Findings, sysctl: Callable[[str], str] = read_sysctl) -> Verdict:
    """Puts findings into words, with what to do."""
    if findings.ids is None or findings.namespaces:
        return Verdict((f"{_namespaces_reason(findings.namespaces)} {_namespaces_remedy(sysctl)}",), ())
    warnings = []
    if findings.ids == IDENTICAL:
        warnings.append(
            "Containers run with the host's user ids: root inside is root for the files it sees. Run Sunabox where all "
            "user ids may be mapped (not inside another container), or as an ordinary user."
        )
    if findings.network:
        few = "; sysctl user.max_net_namespaces is 0" if sysctl("user/max_net_namespaces") == "0" else ""
        warnings.append(
            "Tasks share this machine's network, because network namespaces do not work here "
            f"({findings.network}{few}). Each declared port is another one on the host, which the program finds in the "
            "variable PORT; two tasks "
            "cannot listen on the same port, private addresses and names of other tasks do not answer inside of tasks, "
            "and security groups decide on connections from outside only. Load the kernel module veth, allow "
            "CONFIG_IP_MULTIPLE_TABLES, or use --runtime docker."
        )
    if findings.overlay:
        warnings.append(
            f"Each container gets a full copy of its image, because overlay file systems do not work here "
            f"({findings.overlay}). Linux 5.11 or later and a --data-dir on ext4, xfs or btrfs make starts faster."
        )
    if findings.hierarchy is None:
        why = f" ({findings.cgroups})" if findings.cgroups else ""
        warnings.append(
            f"Memory limits are watched ten times a second instead of by the kernel, and there are no CPU limits: no "
            f"control group may be made here{why}. Run as root, or in a systemd user session "
            "(systemd-run --user --scope)."
        )
    return Verdict((), tuple(warnings))


def _namespaces_reason(reason: str) -> str:
    return f"The process runtime needs user, PID and mount namespaces, which this machine refuses ({reason})."


def _namespaces_remedy(sysctl: Callable[[str], str]) -> str:
    values = {name: sysctl(name) for name in _SYSCTLS}
    if values["user/max_user_namespaces"] == "0":
        return "Allow them: sudo sysctl user.max_user_namespaces=15000"
    if values["kernel/unprivileged_userns_clone"] == "0":
        return "Allow them: sudo sysctl kernel.unprivileged_userns_clone=1"
    if values["kernel/apparmor_restrict_unprivileged_userns"] == "1":
        return (
            "Ubuntu's AppArmor forbids them to programs without a profile. Allow them: "
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run Sunabox as root."
        )
    return (
        "Inside a container, start that with --security-opt seccomp=unconfined --security-opt "
        "systempaths=unconfined; or use --runtime docker, or --runtime memory, which runs no programs."
    )


async def probe(forkserver: ForkServer, folder: Path) -> Findings:
    """Tries everything once. `folder` is the runtime's, the working directory of the fork server."""
    failures = []
    for ids in (SHIFTED, IDENTICAL, SINGLE) if os.geteuid() == 0 else (SINGLE,):
        try:
            agent, network = await _first_agent(forkserver, ids)
        except AgentFailed as error:
            failures.append(str(error))
            continue
        try:
            overlay = await _try_overlay(agent, folder, ids)
            hierarchy, cgroups = await _try_cgroups(agent, ids)
        finally:
            await agent.close()
        return Findings(ids, "", network, overlay, hierarchy, cgroups)
    return Findings(namespaces=failures[-1])


async def _first_agent(forkserver: ForkServer, ids: Ids) -> tuple[AgentProcess, str]:
    try:
        return await forkserver.spawn(_TRIAL, ids), ""
    except AgentFailed as error:
        if error.step not in _NETWORK_STEPS:
            raise
        return await forkserver.spawn({}, ids), str(error)


async def _try_overlay(agent: AgentProcess, folder: Path, ids: Ids) -> str:
    trial = folder / "tasks" / "trial"
    make_folder(trial, ids)
    try:
        names = {"lower": "lower", "upper": "upper", "work": "work", "root": "root"}
        for name in names:
            make_folder(trial / name, ids)
        settings = {key: f"tasks/trial/{name}" for key, name in names.items()}
        return await _trial(agent, ids, settings, [])
    finally:
        remove_tree(trial)


async def _try_cgroups(agent: AgentProcess, ids: Ids) -> tuple[Hierarchy | None, str]:
    hierarchy = find(
        Path("/proc/self/mounts").read_text(), Path("/proc/self/cgroup").read_text(), may_write=os.geteuid() == 0
    )
    if hierarchy is None:
        return None, ""
    try:
        group = hierarchy.group(f"sunabox-trial-{os.getpid()}")
    except OSError as error:
        return None, str(error)
    descriptors: list[int] = []
    try:
        group.limit_memory(64 << 20)
        descriptors = group.open()
        reason = await _trial(agent, ids, {}, descriptors)
    except OSError as error:
        reason = str(error)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            await group.remove()
    return (None, reason) if reason else (hierarchy, "")


async def _trial(agent: AgentProcess, ids: Ids, settings: dict[str, str], descriptors: list[int]) -> str:
    try:
        await Programs(agent.channel, ids).launch(
            "try", {**settings, "ids": ids.count, "cgroups": len(descriptors)}, descriptors
        )
    except LaunchReport as report:
        return str(report)
    return ""
