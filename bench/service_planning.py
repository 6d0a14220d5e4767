"""What it costs to look at all services once: 200 of 10 tasks each, of which nothing has changed."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from statistics import median
from typing import Any

from bench.figures import Figure, spread
from emulation.clock import VirtualClock, monotonic
from emulation.core.api_thread import ApiThread
from emulation.core.bus import Bus
from emulation.ecs.observation import TaskObserved, TaskStatus
from emulation.ecs.record import Attachment, ContainerFacts, Seen, TaskRecord, TaskRequest
from emulation.ecs.services.engine import ServiceEngine
from emulation.ecs.services.record import Release, ServiceRecord
from emulation.ecs.surroundings import NoTargetGroups

_SERVICES, _TASKS = 200, 10
_TARGET_MS = 100.0
_DEFINITION = {"family": "web", "containerDefinitions": [{"name": "app", "image": "app"}]}


def measure(rounds: int) -> Iterator[Figure]:
    seconds = asyncio.run(_measure(max(rounds, 3)))
    name = f"one look at {_SERVICES} services of {_TASKS} tasks"
    yield Figure(name, median(seconds) * 1000, "ms", _TARGET_MS, remark=spread(seconds, "ms", 1000))


async def _measure(rounds: int) -> list[float]:
    clock, api = VirtualClock(), ApiThread()
    await api.start()
    bus = Bus(clock)
    engine = ServiceEngine(api, clock, bus, NoTargetGroups(), poke=lambda _arn: None)
    try:
        records = [_service(engine, clock, api, number) for number in range(_SERVICES)]
        for record in records:
            engine.adopt(record)
        await clock.advance(timedelta(minutes=1))
        assert all(record.desired.steady_at is not None for record in records), "every service is to be steady"
        return [await _round(engine, clock, records) for _ in range(rounds)]
    finally:
        await engine.close()
        await bus.close()
        api.close()


async def _round(engine: ServiceEngine, clock: VirtualClock, records: list[ServiceRecord]) -> float:
    begun = monotonic()
    for record in records:
        engine.wake(record.arn)
    await clock.advance(timedelta(0))  # returns when nothing is under way any more
    return monotonic() - begun


def _service(engine: ServiceEngine, clock: VirtualClock, api: ApiThread, number: int) -> ServiceRecord:
    def launch(service: ServiceRecord, deployment: str, provider: str) -> TaskRecord:
        task_id = f"{number}-{len(service.tasks)}"
        arn = f"arn:aws:ecs:us-east-1:123456789012:task/c/{task_id}"
        settings: dict[str, Any] = {"service_arn": service.arn, "started_by": deployment, "capacity_provider": provider}
        request = TaskRequest(
            account="123456789012",
            region="us-east-1",
            arn=arn,
            task_id=task_id,
            cluster_arn="arn:aws:ecs:us-east-1:123456789012:cluster/c",
            cluster_name="c",
            definition_arn="arn:aws:ecs:us-east-1:123456789012:task-definition/web:1",
            definition=_DEFINITION,
            created_at=clock.now(),
            **settings,
        )
        seen = Seen(TaskObserved(TaskStatus.RUNNING), Attachment("a"), {"app": ContainerFacts(f"{arn}/app")})
        record = TaskRecord(request, replace(seen, times={"startedAt": clock.now()}), [])
        api.post(engine.watch, record)
        return record

    return ServiceRecord(
        account="123456789012",
        region="us-east-1",
        arn=f"arn:aws:ecs:us-east-1:123456789012:service/c/web-{number}",
        name=f"web-{number}",
        cluster_arn="arn:aws:ecs:us-east-1:123456789012:cluster/c",
        cluster_name="c",
        settings={},
        desired_count=_TASKS,
        release=Release("web:1", _DEFINITION, "256", "512", "FARGATE"),
        launch=launch,
        now=clock.now(),
    )
