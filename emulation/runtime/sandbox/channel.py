"""The emulator's end of an agent's control socket: requests, answers, events, and descriptors with them."""

import asyncio
import contextlib
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

_MOST_DESCRIPTORS = 64
_LARGEST_MESSAGE = 1 << 16
_RETRY_SECONDS = 0.01


class AgentGone(ConnectionError):
    """The task's agent ended: the task was closed, or the agent was killed."""


class RequestFailed(OSError):
    """The agent could not do what it was asked to do."""


Event = Callable[[dict[str, Any], list[int]], None]


class Channel:
    """To be used on the event loop only. Takes `sock`, whose messages keep their bounds (SOCK_SEQPACKET).

    `on_event` gets what is no answer, and owns the descriptors that come with it. `on_end` is called once, when the
    agent has gone or the channel was closed.
    """

    def __init__(self, sock: socket.socket, on_event: Event, on_end: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock, self._on_event, self._on_end = sock, on_event, on_end
        self._loop = asyncio.get_running_loop()
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._open = True
        self._loop.add_reader(sock.fileno(), self._readable)

    async def call(self, operation: str, descriptors: Sequence[int] = (), **arguments: Any) -> list[int]:
        """Asks and waits; gives the descriptors that came back. The caller keeps its own.

        Raises RequestFailed with the agent's errno, AgentGone where there is no agent any more.
        """
        if not self._open:
            raise AgentGone(f"{operation}: the task is closed")
        key = next(self._ids)
        answer: asyncio.Future[tuple[dict[str, Any], list[int]]] = self._loop.create_future()
        self._waiting[key] = answer
        self.send({"op": operation, "id": key, **arguments}, descriptors)
        try:
            message, received = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _close_all(answer.result()[1])
            raise
        if "error" in message:
            raise RequestFailed(message.get("errno") or errno.EIO, f"{operation}: {message['error']}")
        return received

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Sends without waiting; keeps the order; duplicates `descriptors` where they have to wait."""
        if not self._open:
            return
        data = json.dumps(message).encode()
        if self._unsent or not self._try_to_send(data, descriptors):
            self._unsent.append((data, [os.dup(descriptor) for descriptor in descriptors]))
            self._send_later()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        if self._retry is not None:
            self._retry.cancel()
        self._sock.close()
        for _, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(AgentGone("the task's agent has gone"))
        self._waiting.clear()
        self._on_end()

    def _try_to_send(self, data: bytes, descriptors: Sequence[int]) -> bool:
        try:
            socket.send_fds(self._sock, [data], descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            # ETOOMANYREFS: more descriptors are on their way than the user may have; they will arrive.
            if error.errno == errno.ETOOMANYREFS:
                return False
            self._loop.call_soon(self.close)
        return True

    def _send_later(self) -> None:
        if self._retry is None:
            self._retry = self._loop.call_later(_RETRY_SECONDS, self._send_queue)
            self._loop.add_writer(self._sock.fileno(), self._send_queue)

    def _send_queue(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._loop.remove_writer(self._sock.fileno())
        while self._open and self._unsent:
            data, descriptors = self._unsent[0]
            if not self._try_to_send(data, descriptors):
                self._retry = self._loop.call_later(_RETRY_SECONDS, self._send_queue)
                return
            self._unsent.popleft()
            _close_all(descriptors)

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._sock, _LARGEST_MESSAGE, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self.close()
            return
        message = json.loads(data)
        if "event" in message:
            self._on_event(message, descriptors)
            return
        answer = self._waiting.pop(message["id"], None)
        if answer is None or answer.done():
            _close_all(descriptors)
        else:
            answer.set_result((message, descriptors))


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
