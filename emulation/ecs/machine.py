"""One task's loop body: does what the plan says, and writes down what came of it. It carries no decisions."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address, ip_address
from typing import Any, assert_never

from emulation.clock import Clock
from emulation.core.states import Lifecycle
from emulation.ecs import plan as actions
from emulation.ecs import states
from emulation.ecs.definition import ContainerDefinition
from emulation.ecs.health import check_health
from emulation.ecs.observation import ContainerObserved, Health, Progress, Stop, TaskObserved, TaskStatus
from emulation.ecs.record import OUT_OF_MEMORY, TaskRecord
from emulation.ecs.surroundings import LogStream, Surroundings
from emulation.errors import ContainerStartError, ImageError, SunaboxError
from emulation.network.base import Interface
from emulation.runtime.base import Container, ContainerSpec, Line, PulledImage, Task, TaskSpec

log = logging.getLogger(__name__)

_TIMES = {
    TaskStatus.PENDING: "connectivityAt",
    TaskStatus.RUNNING: "startedAt",
    TaskStatus.DEACTIVATING: "stoppingAt",
    TaskStatus.STOPPING: "stoppingAt",
    TaskStatus.DEPROVISIONING: "executionStoppedAt",
    TaskStatus.STOPPED: "stoppedAt",
}


class TaskMachine:
    """`wake` asks for another pass of the loop; `moved` is told of every change of the task's status.

    `changed` is told whenever a container's health has changed, or its targets have been registered or deregistered.
    """

    def __init__(
        self,
        record: TaskRecord,
        surroundings: Surroundings,
        clock: Clock,
        wake: Callable[[], None],
        moved: Callable[["TaskMachine"], None],
        changed: Callable[["TaskMachine"], None] = lambda _machine: None,
    ) -> None:
        self.record = record
        self._surroundings, self._clock, self._wake, self._moved = surroundings, clock, wake, moved
        self._changed = changed
        self._lifecycle = Lifecycle(states.TASK, f"task {record.request.task_id}")
        self._interface: Interface | None = None
        self._task: Task | None = None
        self._environment: Mapping[str, Mapping[str, str]] = {}
        self._secrets: dict[str, Mapping[str, str]] = {}
        self._images: dict[str, PulledImage] = {}
        self._streams: dict[str, LogStream] = {}
        self._containers: dict[str, Container] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._preparation: asyncio.Task[None] | None = None

    # ---- what was seen ----

    @property
    def observed(self) -> TaskObserved:
        return self.record.seen.observed

    def _see(self, **changes: Any) -> None:
        seen = self.record.seen
        self.record.seen = replace(seen, observed=replace(seen.observed, **changes), version=seen.version + 1)

    def _see_container(self, name: str, **changes: Any) -> None:
        known = self.observed.containers.get(name, ContainerObserved())
        self._see(containers={**self.observed.containers, name: replace(known, **changes)})

    def _see_fact(self, name: str, **changes: Any) -> None:
        seen = self.record.seen
        facts = {**seen.facts, name: replace(seen.facts[name], **changes)}
        self.record.seen = replace(seen, facts=facts)

    def _see_time(self, name: str) -> datetime:
        now, seen = self._clock.now(), self.record.seen
        self.record.seen = replace(seen, times={**seen.times, name: now})
        return now

    # ---- what is done ----

    async def apply(self, action: actions.TaskAction) -> None:
        match action:
            case actions.AttachInterface():
                self._see(interface=Progress.UNDER_WAY)
                self._begin(self._attach(), "attaching the interface", interface=Progress.DONE)
            case actions.PrepareTask():
                self._see(preparation=Progress.UNDER_WAY)
                self._preparation = self._begin(self._prepare(), "preparing")
            case actions.StartContainer(container=name):
                self._see_container(name, start=Progress.UNDER_WAY)
                self._begin(self._start(self._definition(name)), f"starting {name}", container=name)
            case actions.StopContainer(container=name, timeout=timeout):
                self._see_container(name, stopping=True)
                if name in self._containers:
                    # Not `working`: a container that ignores SIGTERM is waited for on the clock, which must go on.
                    self._begin(self._containers[name].stop(timeout), container=name)
            case actions.SkipContainer(container=name, cause=cause):
                self._see_container(name, stopped=True, reason=cause)
                self._wake()
            case actions.StopTask(code=code, cause=cause):
                self._see(failure=Stop(code, cause))
                self._wake()
            case actions.RegisterTargets():
                self._see(registration=Progress.UNDER_WAY)
                self._begin(self._register(), "registering targets", registration=Progress.DONE)
            case actions.DeregisterTargets():
                self._see(deregistration=Progress.UNDER_WAY)
                # Not `working`: the targets drain on the clock.
                self._begin(self._deregister(), deregistration=Progress.DONE)
            case actions.Move(event=event):
                self._move(event)
            case actions.Release():
                self._see(released=Progress.UNDER_WAY)
                self._begin(self._release(), "releasing", released=Progress.DONE)
            case _:
                assert_never(action)

    def _begin(
        self, work: Awaitable[object], working: str = "", *, container: str = "", **over: Progress
    ) -> asyncio.Task[None]:
        """Runs a slow step beside the loop; its end wakes the loop. Virtual time waits for a step that is `working`.

        Where it fails inside, `over` is what is seen then, and `container` has stopped: a task never waits for ever.
        """

        async def step() -> None:
            try:
                if working:
                    with self._clock.working(f"task {self.record.request.task_id}: {working}"):
                        await work
                else:
                    await work
            except asyncio.CancelledError:
                raise
            except Exception as problem:
                log.exception("task %s failed inside while %s", self.record.task_arn, working or "stopping")
                reason = f"Sunabox failed inside: {type(problem).__name__}: {problem}"
                self._see(failure=self.observed.failure or Stop("TaskFailedToStart", reason), **over)
                if container:
                    self._see_container(container, stopped=True, reason=reason)
            finally:
                self._wake()

        job = asyncio.create_task(step(), name=f"{self.record.request.task_id} {working}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def _move(self, event: str) -> None:
        status = self._lifecycle.happen(event, self._clock.now())
        if event == states.STOP and self._preparation is not None:
            self._preparation.cancel()
        self._see(status=status)
        if status in _TIMES:
            self._see_time(_TIMES[status])
        self._moved(self)
        self._wake()

    # ---- the steps ----

    async def _attach(self) -> None:
        attachment = self.record.seen.attachment
        try:
            self._interface, attachment = await self._surroundings.interfaces.attach(
                self.record.request, attachment.attachment_id
            )
        except SunaboxError as problem:
            self._fail(f"Unexpected EC2 error while attempting to attach network interface: {problem}")
            self._see(interface=Progress.DONE)
            return
        self.record.seen = replace(self.record.seen, attachment=attachment)
        self._see(interface=Progress.DONE)

    def _fail(self, reason: str) -> None:
        self._see(failure=Stop("TaskFailedToStart", reason))

    async def _prepare(self) -> None:
        request, containers = self.record.request, self.record.containers
        where = {"account": request.account, "region": request.region}
        try:
            self._environment = self._surroundings.agent.introduce(self.record)
            for container in containers:
                self._secrets[container.name] = await self._surroundings.secrets.resolve(container.secrets, **where)
            for container in containers:
                if container.log is not None:
                    stream = self._streams[container.name] = await self._surroundings.logs.open(
                        container.log.options, task_id=request.task_id, container_name=container.name, **where
                    )
                    self._see_fact(container.name, log_stream=stream.name)
            self._see_time("pullStartedAt")
            for container in containers:
                await self._pull(container)
            self._see_time("pullStoppedAt")
            self._task = await self._surroundings.runtime.create_task(self._task_spec())
        except SunaboxError as problem:
            self._fail(str(problem))
        finally:
            self._see(preparation=Progress.DONE, prepared_at=self._clock.now())

    async def _pull(self, container: ContainerDefinition) -> None:
        try:
            image = await self._surroundings.runtime.pull(container.image, self.record.request.account)
        except ImageError as problem:
            reason = f"CannotPullContainerError: {problem}"
            self._see_container(container.name, stopped=True, reason=reason)
            raise SunaboxError(reason) from problem
        self._images[container.name] = image
        self._see_fact(container.name, image_digest=image.digest)

    def _task_spec(self) -> TaskSpec:
        request, interface = self.record.request, self._interface
        hostname = f"ip-{str(interface.private_ip).replace('.', '-')}.ec2.internal" if interface else request.task_id
        return TaskSpec(
            task_id=request.task_id,
            hostname=hostname,
            interface=interface,
            ports=tuple(sorted({port for c in self.record.containers for port in c.ports})),
            cpus=int(request.cpu) / 1024 if request.cpu else None,
            memory_mib=int(request.memory) if request.memory else None,
        )

    def _definition(self, name: str) -> ContainerDefinition:
        return next(c for c in self.record.containers if c.name == name)

    async def _start(self, definition: ContainerDefinition) -> None:
        name = definition.name
        assert self._task is not None, "a container is started only after the task was prepared"
        try:
            container = await self._task.start_container(self._container_spec(definition), self._output(name))
        except ContainerStartError as problem:
            self._see_container(name, stopped=True, reason=str(problem))
            return
        self._containers[name] = container
        self._see_fact(name, runtime_id=container.runtime_id)
        self._see_container(name, start=Progress.DONE, started_at=self._clock.now())
        self._begin(self._watch(name, container), container=name)

    def _container_spec(self, d: ContainerDefinition) -> ContainerSpec:
        # Emulation: a container's cpu, which is a share and no limit, is shown and does nothing.
        environment = {
            **self._surroundings.environment,
            "AWS_REGION": self.record.request.region,
            "AWS_DEFAULT_REGION": self.record.request.region,
            **self._environment.get(d.name, {}),
            **d.environment,
            **self._secrets.get(d.name, {}),
        }
        return ContainerSpec(
            name=d.name,
            image=self._images[d.name],
            entry_point=d.entry_point,
            command=d.command,
            environment=environment,
            working_directory=d.working_directory,
            user=d.user,
            memory_mib=d.memory_mib,
            read_only_root=d.read_only_root,
            init=d.init,
            added_capabilities=d.added_capabilities,
            dropped_capabilities=d.dropped_capabilities,
            ulimits=d.ulimits,
            mounts=d.mounts,
            tmpfs=d.tmpfs,
            extra_hosts={host: _address(address) for host, address in d.extra_hosts.items()},
        )

    def _output(self, name: str) -> Callable[[Line], Awaitable[None]]:
        stream = self._streams.get(name)
        return stream.write if stream is not None else _discard

    async def _watch(self, name: str, container: Container) -> None:
        check = self._definition(name).health_check
        checking: asyncio.Task[None] | None = None
        if check is not None:
            checking = asyncio.create_task(
                check_health(check, container, self._clock, lambda health: self._healthy(name, health))
            )
        try:
            end = await container.wait()
        finally:
            if checking is not None:
                checking.cancel()
                with suppress(asyncio.CancelledError):
                    await checking
        if name in self._streams:
            await self._streams.pop(name).close()
        reason = OUT_OF_MEMORY if end.oom_killed else ""
        self._see_container(name, stopped=True, exit_code=end.code, reason=reason, health=Health.UNKNOWN)

    def _healthy(self, name: str, health: Health) -> None:
        self._see_container(name, health=health)
        self._wake()
        self._changed(self)

    @property
    def targets(self) -> tuple[tuple[str, str, int], ...]:
        """Target group, address and port of each target that the task is to be."""
        address = self.record.seen.attachment.private_ip
        return tuple((t.target_group_arn, address, t.port) for t in self.record.request.targets)

    async def _register(self) -> None:
        try:
            for target in self.targets:
                await self._surroundings.target_groups.register(*target)
        except SunaboxError as problem:
            self._fail(f"Targets could not be registered: {problem}")
        self._see(registration=Progress.DONE)
        self._changed(self)

    async def _deregister(self) -> None:
        groups = self._surroundings.target_groups
        with self._clock.working(f"task {self.record.request.task_id}: deregistering targets"):
            for target in self.targets:
                await groups.deregister(*target)
            self._changed(self)
            self._wake()  # where nobody is left to answer, nobody waits
        for target in self.targets:
            await groups.deregistered(*target)
        self._see(deregistration=Progress.DONE)

    async def _release(self) -> None:
        if self._task is not None:
            await self._task.close()
        for stream in self._streams.values():
            await stream.close()
        self._streams.clear()
        self._surroundings.agent.forget(self.record)
        if self._interface is not None:
            await self._surroundings.interfaces.release(self.record.request, self._interface)
            attachment = replace(self.record.seen.attachment, status="DELETED")
            self.record.seen = replace(self.record.seen, attachment=attachment)
        self._see(released=Progress.DONE)

    async def close(self) -> None:
        """Ends every step; the runtime itself ends what runs. For the end of the emulator."""
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)


async def _discard(_line: Line) -> None:
    """Output of a container without a log driver. On Fargate it is lost as well."""


def _address(text: str) -> IPv4Address:
    address = ip_address(text)
    if not isinstance(address, IPv4Address):
        raise SunaboxError(f"extraHosts: {text} is not an IPv4 address")
    return address
