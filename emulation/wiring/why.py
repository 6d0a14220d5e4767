"""Gathers what is known of a task, a service or a target, for `emulation.why` to explain."""

from collections.abc import Iterable

from emulation.ecs.definition import ContainerDefinition
from emulation.ecs.observation import ContainerObserved, Stop, TaskStatus
from emulation.ecs.record import TaskRecord, container_status
from emulation.ecs.services.record import ServiceRecord
from emulation.elbv2.engine import LoadBalancing
from emulation.elbv2.records import Target, TargetGroup
from emulation.network.security import Party, permitted
from emulation.why.explain import explain_service, explain_target, explain_task
from emulation.why.facts import Answer, ContainerFacts, HealthCheckFacts, ServiceFacts, TargetFacts, TaskFacts
from emulation.wiring.ground import Ground

_STOPPED_SHOWN = 3


class Why:
    """Lives on the event loop. `subject` is a task's id or ARN, a service's name or ARN, a target's address (with or
    without its port), or a target group's name or ARN."""

    def __init__(self, ground: Ground, balancing: LoadBalancing) -> None:
        self._api, self._network, self._groups = ground.api, ground.network, ground.groups
        self._balancing = balancing

    async def about(self, subject: str) -> list[Answer]:
        tasks, services = await self._api.call(_records)
        wanted = subject.rpartition("/")[2]
        if found := [task for task in tasks if wanted == task.request.task_id]:
            return [explain_task(await self._task(task)) for task in found]
        if chosen := [s for s in services if subject in (s.arn, s.name) and s.status != "INACTIVE"]:
            return [explain_service(await self._service(service, tasks)) for service in chosen]
        return [explain_target(await self._target(*one, tasks)) for one in self._targets(subject)]

    def _targets(self, subject: str) -> list[tuple[TargetGroup, Target]]:
        return [
            (group, target)
            for arn, group in sorted(self._balancing.groups().items())
            for target in sorted(self._balancing.health(arn))
            if subject in (arn, arn.split("/")[-2], target.id, str(target))
        ]

    async def _task(self, record: TaskRecord) -> TaskFacts:
        request, attachment = record.request, record.seen.attachment
        details = dict(attachment.details)
        eni_id, stop = (
            details.get("networkInterfaceId", ""),
            record.stop or record.seen.observed.failure or Stop("", ""),
        )
        interface = self._network.interface(eni_id)
        listening = await self._network.listening(eni_id)
        denials = [str(denial) for denial in self._network.denials if str(denial.destination) == attachment.private_ip]
        if interface is not None and interface.public_ip is not None:
            denials += [str(denial) for denial in self._network.denials if denial.destination == interface.public_ip]
        group = request.group.partition("service:")[2]
        return TaskFacts(
            task_id=request.task_id,
            definition=f"{request.family}:{request.revision}",
            status=str(record.last_status),
            containers=tuple(_container(record, container) for container in record.containers),
            stop_code=stop.code,
            stopped_reason=stop.reason,
            service=group,
            private_ip=attachment.private_ip,
            public_ip=str(interface.public_ip or "") if interface is not None else "",
            security_groups=interface.security_groups if interface is not None else (),
            listening=listening.everywhere if listening is not None else None,
            loopback=listening.loopback if listening is not None else frozenset(),
            denials=tuple(dict.fromkeys(denials)),
        )

    async def _target(self, group: TargetGroup, target: Target, tasks: Iterable[TaskRecord]) -> TargetFacts:
        health = self._balancing.health(group.arn)[target]
        check = group.health_check
        record = next((t for t in tasks if _is_at(t, target.id) and t.last_status is not TaskStatus.STOPPED), None)
        facts = await self._task(record) if record is not None else None
        return TargetFacts(
            group=group.arn.split("/")[-2],
            address=target.id,
            port=target.port,
            state=str(health.state),
            reason=health.reason or "",
            description=health.description or "",
            check=HealthCheckFacts(
                check.path,
                str(check.port or "traffic-port"),
                check.matcher,
                check.interval,
                check.timeout,
                check.unhealthy_threshold,
            ),
            denied=self._denied(group, facts, check.port or target.port),
            security_groups=facts.security_groups if facts is not None else (),
            task=facts,
        )

    def _denied(self, group: TargetGroup, task: TaskFacts | None, port: int) -> str:
        caller = self._balancing.caller(group.arn)
        interface = self._network.interface_at(group.vpc_id, task.private_ip) if task is not None else None
        if caller is None or interface is None:
            return ""
        party = Party(interface.private_ip, interface.vpc_id, interface.security_groups, interface.eni_id)
        return permitted(caller, party, "tcp", port, self._groups).reason

    async def _service(self, service: ServiceRecord, tasks: Iterable[TaskRecord]) -> ServiceFacts:
        own = [
            t for t in tasks if t.request.group == f"service:{service.name}" and t.cluster_arn == service.cluster_arn
        ]
        running = [t for t in own if t.last_status is TaskStatus.RUNNING]
        stopped = [t for t in own if t.last_status is TaskStatus.STOPPED]
        stopped.sort(key=lambda t: t.seen.times["stoppedAt"], reverse=True)
        addresses = {t.seen.attachment.private_ip for t in own if t.last_status is not TaskStatus.STOPPED}
        arns = {target.target_group_arn for target in service.release.targets}
        groups = [group for arn, group in sorted(self._balancing.groups().items()) if arn in arns]
        targets = [
            (group, target)
            for group in groups
            for target in sorted(self._balancing.health(group.arn))
            if target.id in addresses
        ]
        primary = service.desired.primary
        return ServiceFacts(
            name=service.name,
            status=service.status,
            desired=service.desired.desired_count,
            running=len(running),
            pending=len(own) - len(running) - len(stopped),
            definition=service.release.definition_arn.rpartition("/")[2],
            rollout=str(primary.rollout),
            rollout_reason=primary.rollout_reason,
            grace_period=service.desired.grace_period,
            events=tuple(event["message"] for event in service.events),
            tasks=tuple([await self._task(task) for task in running]),
            stopped=tuple([await self._task(task) for task in stopped[:_STOPPED_SHOWN]]),
            targets=tuple([await self._target(*one, tasks) for one in targets]),
        )


def _is_at(record: TaskRecord, address: str) -> bool:
    return record.seen.attachment.private_ip == address


def _records() -> tuple[list[TaskRecord], list[ServiceRecord]]:
    """All accounts' tasks and services; on the API thread."""
    import sys

    if "moto.ecs.models" not in sys.modules:
        return [], []  # nobody has used ECS yet
    from emulation.ecs.api import all_backends

    backends = all_backends()
    tasks = [record for backend in backends for record in backend.list_tasks()]
    services: list[object] = [record for backend in backends for record in backend.services.values()]
    return tasks, [record for record in services if isinstance(record, ServiceRecord)]


def _container(record: TaskRecord, container: ContainerDefinition) -> ContainerFacts:
    observed = record.seen.observed.containers.get(container.name, ContainerObserved())
    options = container.log.options if container.log is not None else {}
    prefix = options.get("awslogs-stream-prefix", "")
    return ContainerFacts(
        name=container.name,
        image=container.image,
        status=container_status(observed, record.last_status),
        essential=container.essential,
        exit_code=observed.exit_code,
        reason=observed.reason,
        health=str(observed.health),
        health_command=" ".join(container.health_check.command) if container.health_check is not None else "",
        ports=container.ports,
        log_group=options.get("awslogs-group", ""),
        log_stream=f"{prefix}/{container.name}/{record.request.task_id}" if prefix else "",
    )
