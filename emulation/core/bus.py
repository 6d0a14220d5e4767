"""The event bus on which services tell each other what happened, as AWS services do on the default event bus.

Source: AWS events reference, Structure of events.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from emulation.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `detail_type` "ECS Task State Change" of the `source` "aws.ecs".

    `resources` are ARNs; `detail` has the form that AWS documents for the type, ready for JSON; `time` is aware.
    """

    source: str
    detail_type: str
    account: str
    region: str
    resources: tuple[str, ...]
    detail: Mapping[str, object]
    time: datetime


Subscriber = Callable[[Event], Awaitable[None] | None]


class Subscription:
    """Events for one subscriber, one after the other in the order of their publication."""

    def __init__(self, bus: "Bus", subscriber: Subscriber) -> None:
        self._bus = bus
        self._subscriber = subscriber
        self._waiting: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Nothing is delivered any more, apart from an event whose delivery has begun."""
        self._waiting.clear()
        self._bus._forget(self)

    def _put(self, event: Event) -> None:
        self._waiting.append(event)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._deliver())

    async def _deliver(self) -> None:
        try:
            with self._bus._clock.working(f"events for {_name(self._subscriber)}"):
                while self._waiting:
                    await self._deliver_one(self._waiting.popleft())
        finally:
            self._task = None

    async def _deliver_one(self, event: Event) -> None:
        try:
            delivery = self._subscriber(event)
            if inspect.isawaitable(delivery):
                await delivery
        except Exception:
            log.exception("%s could not take %s of %s", _name(self._subscriber), event.detail_type, event.source)


class Bus:
    """Hands events to subscribers. All methods belong to the event loop's thread; subscribers are called on it.

    A slow or failing subscriber does not hold up the others; virtual time waits until all have taken what there is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._subscriptions: list[Subscription] = []

    def publish(self, event: Event) -> None:
        """Every subscriber is called with the event, soon and in order. Returns before that."""
        for subscription in self._subscriptions:
            subscription._put(event)

    def subscribe(self, subscriber: Subscriber) -> Subscription:
        """Calls `subscriber` (a function or a coroutine function) with every event published from now on."""
        subscription = Subscription(self, subscriber)
        self._subscriptions.append(subscription)
        return subscription

    async def close(self, patience: float = 5.0) -> None:
        """Delivers what was published, within `patience` real seconds, and forgets every subscriber."""
        subscriptions, self._subscriptions = self._subscriptions, []
        tasks = [subscription._task for subscription in subscriptions if subscription._task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)


def _name(subscriber: Subscriber) -> str:
    return getattr(subscriber, "__qualname__", repr(subscriber))
