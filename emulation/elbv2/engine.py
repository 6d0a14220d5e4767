"""All load balancers and target groups of all accounts: one reconcile loop a target, one configuration for all.

Lives on the event loop. The API hands over values (`put_…`, `remove_…`, through `ApiThread.post`), and reads what came
of them (`state`, `health`), which are frozen values, replaced as a whole.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from emulation.clock import Clock
from emulation.core.plan import Plan
from emulation.core.reconcile import Reconciler
from emulation.elbv2 import envoy_config, metrics
from emulation.elbv2.announcements import Announcements
from emulation.elbv2.health import describe, receiving
from emulation.elbv2.machine import TargetMachine
from emulation.elbv2.plan import TargetAction, TargetDesired, TargetObserved, plan_target
from emulation.elbv2.records import LoadBalancer, Target, TargetGroup, TargetHealth
from emulation.elbv2.states import State
from emulation.elbv2.surroundings import Surroundings
from emulation.errors import SunaboxError
from emulation.network.security import Party

log = logging.getLogger(__name__)

_REPORT_EVERY = timedelta(minutes=1)

Key = tuple[str, Target]
Changed = Callable[[str], object]
"""Called on the event loop with the ARN of a target group in which some target's health has changed."""


class LoadBalancing:
    def __init__(self, clock: Clock, surroundings: Surroundings) -> None:
        self._clock, self._surroundings = clock, surroundings
        self._balancers: dict[str, LoadBalancer] = {}
        self._groups: dict[str, TargetGroup] = {}
        self._machines: dict[str, dict[Target, TargetMachine]] = {}
        self._health: dict[str, Mapping[Target, TargetHealth]] = {}
        self._states: dict[str, tuple[str, str]] = {}
        self._subscribers: list[Changed] = []
        self._announcements = Announcements(surroundings.network, surroundings.data_plane)
        self._configuring: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._dirty = self._closed = False
        self._counted: metrics.Counters = {}
        self._reconciler: Reconciler[Key, tuple[TargetDesired, TargetObserved], TargetAction] = Reconciler(
            observe=self._observe, plan=self._plan, apply=self._apply, clock=clock, name="target"
        )

    # ---- what the API asks for ----

    def put_load_balancer(self, balancer: LoadBalancer) -> None:
        before = self._balancers.get(balancer.arn)
        self._balancers[balancer.arn] = balancer
        self._states.setdefault(balancer.arn, ("provisioning", ""))
        self._changed(balancer.target_groups | (before.target_groups if before else frozenset()))

    def remove_load_balancer(self, arn: str) -> None:
        before = self._balancers.pop(arn, None)
        self._states.pop(arn, None)
        if before is not None:
            self._changed(before.target_groups)

    def put_target_group(self, group: TargetGroup) -> None:
        self._groups[group.arn] = group
        self._changed({group.arn})

    def remove_target_group(self, arn: str) -> None:
        if self._groups.pop(arn, None) is not None:
            self._changed({arn})

    # ---- what it reads; from any thread ----

    def state(self, load_balancer_arn: str) -> tuple[str, str]:
        """AWS's state code, and a reason in words."""
        return self._states.get(load_balancer_arn, ("provisioning", ""))

    def health(self, target_group_arn: str) -> Mapping[Target, TargetHealth]:
        return self._health.get(target_group_arn, MappingProxyType({}))

    # ---- for other services ----

    def groups(self) -> Mapping[str, TargetGroup]:
        """All target groups, by ARN. On the event loop."""
        return MappingProxyType(self._groups)

    def caller(self, target_group_arn: str) -> Party | None:
        """The load balancer that forwards to a group, as security groups see it. On the event loop."""
        balancer = self._user(target_group_arn)
        return None if balancer is None else _party(balancer)

    def attached(self, target_group_arn: str) -> bool:
        """Whether a listener of a load balancer forwards to the group."""
        return self._user(target_group_arn) is not None

    def subscribe(self, changed: Changed) -> Callable[[], None]:
        """`changed` is called from now on, until the function that is given back is."""
        self._subscribers.append(changed)
        return lambda: self._subscribers.remove(changed) if changed in self._subscribers else None

    async def close(self) -> None:
        self._closed = True
        await self._reconciler.close()
        for task in (self._configuring, self._reporting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for machine in self._all_machines():
            machine.close()
        await self._announcements.close()
        await self._surroundings.data_plane.close()

    # ---- targets ----

    def _user(self, group_arn: str) -> LoadBalancer | None:
        """The load balancer that forwards to a group; AWS lets there be one only."""
        return next((b for b in self._balancers.values() if group_arn in b.target_groups), None)

    def _changed(self, group_arns: set[str] | frozenset[str]) -> None:
        for arn in sorted(group_arns):
            group = self._groups.get(arn)
            machines = self._machines.setdefault(arn, {})
            for target in sorted(group.targets - machines.keys()) if group else ():
                machines[target] = self._machine(arn, target)
            self._settle(arn)
            self._publish(arn)
        self._configure_soon()

    def _machine(self, arn: str, target: Target) -> TargetMachine:
        key = (arn, target)
        surroundings, clock = self._surroundings, self._clock
        return TargetMachine(
            arn, target, surroundings.network, clock, lambda: self._reconciler.wake(key), self._target_moved
        )

    def _settle(self, arn: str) -> None:
        group, balancer = self._groups.get(arn), self._user(arn)
        source = _party(balancer) if balancer is not None else None
        for target, machine in self._machines.get(arn, {}).items():
            if group is not None:
                machine.settle(source, group.health_check, group.deregistration_delay)
            self._reconciler.wake((arn, target))

    async def _observe(self, key: Key) -> tuple[TargetDesired, TargetObserved] | None:
        machine = self._machines.get(key[0], {}).get(key[1])
        return None if machine is None else (self._desired(key, machine), machine.observed)

    def _desired(self, key: Key, machine: TargetMachine) -> TargetDesired:
        arn, target = key
        group, balancer = self._groups.get(arn), self._user(arn)
        zone = group.zone(target) if group is not None else ""
        return TargetDesired(
            registered=group is not None and target in group.targets,
            in_use=balancer is not None,
            zone_enabled=balancer is None or not zone or zone in balancer.zones,
            check=machine.check,
        )

    @staticmethod
    def _plan(state: tuple[TargetDesired, TargetObserved], now: datetime) -> Plan[TargetAction]:
        return plan_target(*state, now)

    async def _apply(self, key: Key, action: TargetAction) -> None:
        self._machines[key[0]][key[1]].apply(action)

    def _target_moved(self, machine: TargetMachine) -> None:
        if machine.observed.state is State.GONE:
            self._machines[machine.group_arn].pop(machine.target, None)
        self._publish(machine.group_arn)
        self._configure_soon()

    def _publish(self, arn: str) -> None:
        """Replaces what is shown of a group's targets, and tells who wants to know where it is another."""
        before = self._health.get(arn)
        in_use = self.attached(arn)
        now = {
            target: describe(
                machine.observed.state,
                configured=machine.configured,
                failure=machine.observed.failure,
                in_use=in_use,
            )
            for target, machine in sorted(self._machines.get(arn, {}).items())
        }
        if arn in self._groups or now:
            self._health[arn] = MappingProxyType(now)
        else:
            self._health.pop(arn, None)
            self._machines.pop(arn, None)
        if now != before:
            for changed in tuple(self._subscribers):
                changed(arn)

    # ---- the data plane ----

    def _configure_soon(self) -> None:
        if self._closed or not (self._balancers or self._reporting):
            return
        self._dirty = True
        if self._configuring is None:
            self._configuring = asyncio.get_running_loop().create_task(self._configure(), name="load balancers")
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().create_task(self._report(), name="load balancer metrics")

    async def _configure(self) -> None:
        try:
            with self._clock.working("load balancers are configured"):
                while self._dirty:
                    self._dirty = False
                    await self._configure_once()
        finally:
            self._configuring = None

    async def _configure_once(self) -> None:
        balancers, machines = dict(self._balancers), self._all_machines()
        rendered = envoy_config.render(balancers.values(), self._groups, self._serving())
        try:
            await self._surroundings.data_plane.apply(rendered)
            outcome = ("active", "")
        except (SunaboxError, OSError) as problem:
            log.error("The load balancers could not be configured: %s", problem)
            outcome = ("failed", str(problem))
        await self._announcements.settle(balancers.values())
        for arn, balancer in balancers.items():
            if arn in self._balancers:
                self._states[arn] = (outcome[0], outcome[1] or _moved_ports(balancer))
        if outcome[0] == "active":
            for machine in machines:
                if machine.endpoint is not None and not machine.configured:
                    machine.configured = True
                    self._publish(machine.group_arn)

    def _serving(self) -> dict[str, list[tuple[str, int]]]:
        return {
            arn: receiving({m.endpoint: m.observed.state for m in machines.values() if m.endpoint is not None})
            for arn, machines in self._machines.items()
        }

    def _all_machines(self) -> list[TargetMachine]:
        return [machine for machines in self._machines.values() for machine in machines.values()]

    async def _report(self) -> None:
        while True:
            await self._clock.sleep(_REPORT_EVERY, exact=False)
            with self._clock.working("metrics of load balancers"):
                now = await self._surroundings.data_plane.counters()
                counted, self._counted = metrics.since(self._counted, now), now
                data = metrics.requests(counted, self._balancers.values())
                for balancer in self._balancers.values():
                    for group in sorted(balancer.target_groups & self._groups.keys()):
                        name = self._groups[group].full_name
                        pair = (("LoadBalancer", balancer.full_name), ("TargetGroup", name))
                        processed = sum(d.total for d in data if d.name == "RequestCount" and d.dimensions == pair)
                        data += metrics.hosts(balancer, name, self.health(group).values(), processed)
                if data:
                    try:
                        await self._surroundings.report(data)
                    except Exception:
                        log.exception("The metrics of the load balancers could not be reported")


def _party(balancer: LoadBalancer) -> Party:
    return Party(balancer.private_ips[0], balancer.vpc_id, balancer.security_groups, balancer.full_name)


def _moved_ports(balancer: LoadBalancer) -> str:
    """What an internet-facing load balancer's state says where it does not listen on the port that it was given."""
    moved = [listener for listener in balancer.listeners if listener.published_port != listener.port]
    if not moved or balancer.address is None:
        return ""
    ports = ", ".join(f"port {one.port} is at {balancer.address}:{one.published_port}" for one in moved)
    return f"This user may not listen on ports below 1024: {ports}."
