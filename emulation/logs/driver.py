"""The awslogs log driver: carries what containers print into CloudWatch Logs, live and in order.

One writer serves all streams. It gathers what arrives within a few milliseconds, or while the API thread is busy, and
stores it by one call; so a line can be read after some 10 ms when little is printed, and thousands of lines cost one
turn of the API thread when much is. A multi-line event waits until no line has continued it for a moment.

In blocking mode `write` returns once there is room again, which holds up the container. In non-blocking mode what does
not fit into the buffer is lost.

Source: Send Amazon ECS logs to CloudWatch; Docker documentation, Amazon CloudWatch Logs logging driver, and Configure
the delivery mode of log messages from container to log driver.
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from emulation.clock import Clock, monotonic, real_sleep
from emulation.core.api_thread import ApiThread
from emulation.errors import SunaboxError
from emulation.logs.batch import Batch, LogsApiError
from emulation.logs.lines import EVENT_OVERHEAD_BYTES, LineSplitter, MultilineJoiner
from emulation.logs.options import DEFAULT_MODE, InvalidLogOptions, LogOptions, Mode, parse
from emulation.runtime.base import Line, Stream

log = logging.getLogger(__name__)

_GATHERING_SECONDS = 0.01
"""How long the writer waits for more before it goes to the API thread."""

_MULTILINE_PAUSE_SECONDS = 0.15
"""After so much silence a multi-line event is complete.

# Emulation: Docker's driver waits 5 seconds. Lines shall be readable within 200 ms here, and what prints a stack trace
# does it at once.
"""

_MULTILINE_PATIENCE_SECONDS = 5.0
"""A multi-line event that is continued without end is cut after as long as Docker's driver does it."""

_BLOCKING_BUFFER_BYTES = 1024 * 1024
_EVENTS_PER_TURN = 10_000
_BYTES_PER_TURN = 4 * 1024 * 1024
"""What one turn of the API thread stores at most, so that other calls have theirs."""


class LogDriverError(SunaboxError):
    """A container's log stream could not be opened. The message is the stoppedReason of ECS."""


class LogStream:
    """Where one container's lines go. `write` is a runtime's Output."""

    def __init__(self, writer: "_Writer", clock: Clock, account: str, options: LogOptions, name: str) -> None:
        self.name = name
        self.group = options.group
        self.region = options.region
        self.account = account
        self._writer = writer
        self._clock = clock
        self._blocking = options.mode == "blocking"
        self._capacity = _BLOCKING_BUFFER_BYTES if self._blocking else options.buffer_bytes
        self._splitters = {stream: LineSplitter() for stream in Stream}
        self._joiner = MultilineJoiner(options.multiline) if options.multiline else None
        self._joined_since = self._joined_last = 0.0
        self._flushing: asyncio.Task[None] | None = None
        self._pending: deque[tuple[int, str]] = deque()
        self._pending_bytes = 0
        self._last_failure = ""
        self._closed = False
        self._stored = asyncio.Event()
        self._stored.set()
        self.lost_lines = 0

    async def write(self, line: Line) -> None:
        """Takes a line or a part of one. Waits for room in blocking mode. What comes after `close` is dropped."""
        if self._closed:
            return
        timestamp = int(self._clock.now().timestamp() * 1000)
        for piece, line_ends in self._splitters[line.stream].feed(line.data, line.complete):
            if self._joiner is None:
                self._enqueue(timestamp, piece)
            else:
                self._join(self._joiner, piece, line_ends, timestamp)
        while self._blocking and self._pending_bytes > self._capacity:
            await self._stored.wait()

    async def close(self) -> None:
        """Stores what is pending, also the unfinished line, and returns when it can be read."""
        if not self._closed:
            # A runtime delivers the last line complete. This is for one that died before it could.
            for stream in [stream for stream, splitter in self._splitters.items() if splitter.pending]:
                await self.write(Line(stream, b""))
            self._closed = True
            if self._flushing is not None:
                self._flushing.cancel()
            self._flush_joined()
        while self._pending_bytes:
            await self._stored.wait()

    def _join(self, joiner: MultilineJoiner, piece: str, line_ends: bool, timestamp: int) -> None:
        was_pending = joiner.pending
        finished = list(joiner.feed(piece, line_ends, timestamp))
        for event in finished:
            self._enqueue(*event)
        self._joined_last = monotonic()
        if finished or not was_pending:
            self._joined_since = self._joined_last
        if joiner.pending and self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush_after_pause())

    async def _flush_after_pause(self) -> None:
        """Ends the pending multi-line event when nothing continues it. One such task runs while one is pending."""
        with self._clock.working(f"a multi-line event of log stream {self.name}"):
            while (due := self._joined_due()) > (now := monotonic()):
                await real_sleep(due - now)
        self._flushing = None
        self._flush_joined()

    def _joined_due(self) -> float:
        return min(self._joined_last + _MULTILINE_PAUSE_SECONDS, self._joined_since + _MULTILINE_PATIENCE_SECONDS)

    def _flush_joined(self) -> None:
        if self._joiner is not None:
            for event in self._joiner.flush():
                self._enqueue(*event)

    def _enqueue(self, timestamp: int, message: str) -> None:
        if not message:  # as in Docker's driver, empty lines are no events
            return
        size = _size(message)
        if not self._blocking and self._pending and self._pending_bytes + size > self._capacity:
            self._lose()
            return
        self._pending.append((timestamp, message))
        self._pending_bytes += size
        self._stored.clear()
        self._writer.wake(self)

    def _lose(self) -> None:
        if not self.lost_lines:
            log.warning(
                "Log stream %s loses lines: they come faster than they are stored. "
                "Set the log option mode to blocking, or raise max-buffer-size.",
                self.name,
            )
        self.lost_lines += 1

    def take(self, events: int, size: int) -> list[tuple[int, str]]:
        """For the writer: up to so many events, about so many bytes."""
        taken: list[tuple[int, str]] = []
        while self._pending and len(taken) < events and size > 0:
            event = self._pending.popleft()
            size -= _size(event[1])
            taken.append(event)
        return taken

    def stored(self, events: list[tuple[int, str]], failure: LogsApiError | None) -> None:
        """For the writer: these are out of its hands, for better or worse."""
        self._pending_bytes -= sum(_size(message) for _, message in events)
        if failure is not None and str(failure) != self._last_failure:
            log.warning("Log events of %s are lost from here on: %s", self.name, failure)
        self._last_failure = str(failure) if failure is not None else ""
        self._stored.set()
        if self._pending_bytes:
            self._stored.clear()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)


def _size(message: str) -> int:
    return EVENT_OVERHEAD_BYTES + (len(message) if message.isascii() else len(message.encode()))


class _Writer:
    """Stores what is pending in all streams, in turns of the API thread."""

    def __init__(self, api: ApiThread, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._waiting: dict[LogStream, None] = {}
        self._task: asyncio.Task[None] | None = None

    def wake(self, stream: LogStream) -> None:
        self._waiting[stream] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="awslogs writer")

    async def drain(self) -> None:
        """Returns when nothing is pending."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        # Virtual time waits: who reads the log after an advance finds all that was printed before.
        with self._clock.working("storing log lines"):
            try:
                await real_sleep(_GATHERING_SECONDS)
                while self._waiting:
                    await self._turn()
            finally:
                self._task = None

    async def _turn(self) -> None:
        taken: list[tuple[LogStream, list[tuple[int, str]]]] = []
        share = max(1, _EVENTS_PER_TURN // len(self._waiting))
        share_bytes = max(1, _BYTES_PER_TURN // len(self._waiting))
        streams = list(self._waiting)[:_EVENTS_PER_TURN]
        for stream in streams:
            del self._waiting[stream]
            taken.append((stream, stream.take(share, share_bytes)))
            if stream.has_pending:
                self._waiting[stream] = None
        batches = [Batch(s.account, s.region, s.group, s.name, events) for s, events in taken]
        failures: list[LogsApiError | None]
        try:
            failures = await self._api.call(_append, batches)
        except Exception as error:
            log.exception("Storing log events failed")
            failures = [LogsApiError("InternalFailure", str(error))] * len(taken)
        for (stream, events), failure in zip(taken, failures, strict=True):
            stream.stored(events, failure)


def _open_stream(account: str, region: str, group: str, stream: str, create_group: bool) -> None:
    """On the API thread. moto's CloudWatch Logs is loaded when the first container logs to it."""
    from emulation.logs import api

    api.open_stream(account, region, group, stream, create_group=create_group)


def _append(batches: Sequence[Batch]) -> list[LogsApiError | None]:
    from emulation.logs import api

    return api.append(batches)


def _stop_reason(problem: str, fargate: bool) -> str:
    if fargate:
        return f"ResourceInitializationError: failed to validate logger args: {problem} : exit status 1"
    return f"CannotStartContainerError: Error response from daemon: failed to initialize logging driver: {problem}"


class AwslogsDriver:
    """The awslogs driver of all container instances and of Fargate."""

    def __init__(
        self,
        api: ApiThread,
        clock: Clock,
        *,
        default_mode: Mode = DEFAULT_MODE,
        new_id: Callable[[], object] = uuid.uuid4,
    ) -> None:
        """`default_mode` is the account setting defaultLogDriverMode; `new_id` makes ids of requests."""
        self._api = api
        self._clock = clock
        self._default_mode = default_mode
        self._new_id = new_id
        self._writer = _Writer(api, clock)

    async def open(
        self,
        options: Mapping[str, str],
        *,
        account: str,
        region: str,
        task_id: str,
        container_name: str,
        container_id: str = "",
        fargate: bool = True,
    ) -> LogStream:
        """Makes the container's stream, and the group if awslogs-create-group says so. A stream that exists goes on.

        `region` is the task's, `container_id` names the stream where there is no prefix (on EC2). Raises LogDriverError
        where the group does not exist or the options are wrong.
        """
        try:
            chosen = parse(options, region=region, default_mode=self._default_mode, fargate=fargate)
        except InvalidLogOptions as error:
            raise LogDriverError(_stop_reason(str(error), fargate)) from error
        name = chosen.stream_name(container_name, task_id, container_id or f"{task_id}-{container_name}")
        try:
            await self._api.call(_open_stream, account, chosen.region, chosen.group, name, chosen.create_group)
        except LogsApiError as error:
            retried = "create stream has been retried 1 times: " if fargate else ""
            raise LogDriverError(_stop_reason(f"{retried}{self._docker_words(error)}", fargate)) from error
        return LogStream(self._writer, self._clock, account, chosen, name)

    def _docker_words(self, error: LogsApiError) -> str:
        operation = "failed to create Cloudwatch log stream: operation error CloudWatch Logs: CreateLogStream"
        if error.code == "UnknownRegion":
            return f"{operation}, https response error StatusCode: 0, RequestID: , dial tcp: {error.detail}"
        return f"{operation}, https response error StatusCode: 400, RequestID: {self._new_id()}, {error}"

    async def close(self) -> None:
        """Returns when all that was written is stored. Streams that are open should be closed before."""
        await self._writer.drain()
