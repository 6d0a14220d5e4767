"""What is known of a task, a target or a service when somebody asks why it is as it is. Values only."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class ContainerFacts:
    """`status`, `health` are AWS's strings. `ports` are those that the task definition declares."""

    name: str
    image: str
    status: str
    essential: bool = True
    exit_code: int | None = None
    reason: str = ""
    health: str = "UNKNOWN"
    health_command: str = ""
    ports: tuple[int, ...] = ()
    log_group: str = ""
    log_stream: str = ""


@dataclass(frozen=True)
class TaskFacts:
    """`listening` are the TCP ports on which the task's programs accept connections of others, `loopback` those that
    only the task itself reaches; None where nobody can tell.

    `denials` are connections that security groups let have no answer, each a sentence.
    """

    task_id: str
    definition: str
    status: str
    containers: tuple[ContainerFacts, ...]
    stop_code: str = ""
    stopped_reason: str = ""
    service: str = ""
    private_ip: str = ""
    public_ip: str = ""
    security_groups: tuple[str, ...] = ()
    listening: frozenset[int] | None = None
    loopback: frozenset[int] = frozenset()
    denials: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealthCheckFacts:
    path: str
    port: str
    matcher: str
    interval: timedelta
    timeout: timedelta
    unhealthy_threshold: int


@dataclass(frozen=True)
class TargetFacts:
    """`state`, `reason`, `description` as in DescribeTargetHealth. `denied` says why security groups keep the load
    balancer out, '' where they let it in. `task` is the task that has the address, None where there is none."""

    group: str
    address: str
    port: int
    state: str
    reason: str = ""
    description: str = ""
    check: HealthCheckFacts | None = None
    denied: str = ""
    security_groups: tuple[str, ...] = ()
    task: TaskFacts | None = None


@dataclass(frozen=True)
class ServiceFacts:
    """`events` are the service's messages, newest first. `stopped` are its tasks that stopped last, newest first."""

    name: str
    status: str
    desired: int
    running: int
    pending: int
    definition: str
    rollout: str = ""
    rollout_reason: str = ""
    grace_period: timedelta = timedelta(0)
    events: tuple[str, ...] = ()
    tasks: tuple[TaskFacts, ...] = ()
    stopped: tuple[TaskFacts, ...] = ()
    targets: tuple[TargetFacts, ...] = ()


@dataclass(frozen=True)
class Answer:
    """`sentences` say how things are and why; `todo` says where to change it. Nothing to do means nothing is wrong."""

    subject: str
    sentences: tuple[str, ...]
    todo: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.subject, *(f"  {sentence}" for sentence in self.sentences)]
        return "\n".join([*lines, *(f"  → {step}" for step in self.todo)])
