"""From facts to sentences. Pure.

The engineer of the story wondered why a target never came up. Each explanation names one cause that is really there (a
rule that is missing, a port that nobody listens on, a path that answers 404), never a list of what it might be.
"""

import re
from datetime import timedelta

from emulation.why.facts import Answer, ContainerFacts, ServiceFacts, TargetFacts, TaskFacts


def explain_task(task: TaskFacts) -> Answer:
    subject = f"Task {task.task_id} ({task.definition}) is {task.status}."
    if task.status == "STOPPED" or task.stopped_reason:
        sentences, todo = _stopped(task)
    else:
        sentences, todo = _living(task)
    sentences += [f"A connection got no answer: {denial}." for denial in task.denials]
    if task.denials:
        groups = ", ".join(task.security_groups)
        todo.append(f"Let it in: aws ec2 authorize-security-group-ingress --group-id {groups or 'GROUP'} …")
    return Answer(subject, tuple(sentences), tuple(todo))


def _stopped(task: TaskFacts) -> tuple[list[str], list[str]]:
    reason = task.stopped_reason
    sentences = [f"It stopped because: {reason}" if reason else "Nobody has said why it stopped."]
    todo: list[str] = []
    if task.stop_code == "UserInitiated":
        return [*sentences, "Somebody asked for that (StopTask)."], todo
    if match := re.search(r"CannotPullContainerError: .*?(\S+): not found", reason):
        todo.append(
            f"There is no image {match.group(1)}. Push it (sunabox image push, docker push), or name another one in "
            "the task definition; aws ecr describe-images lists what is there."
        )
    elif "CannotPullContainerError" in reason:
        todo.append("Change the image in the task definition, or push one that fits.")
    if "retrieve secret" in reason or "ssm parameters" in reason:
        todo.append(
            "Create the secret or parameter that the message names, or change valueFrom in the task definition."
        )
    if "log group does not exist" in reason:
        todo.append("Create the log group: aws logs create-log-group, or set awslogs-create-group to true.")
    for container in task.containers:
        said, do = _container_end(container)
        sentences += said
        todo += do
    return sentences, todo


def _container_end(container: ContainerFacts) -> tuple[list[str], list[str]]:
    name, code = container.name, container.exit_code
    if "OutOfMemoryError" in container.reason:
        return (
            [f"Container {name} used more memory than it may, and was killed (exit code {code})."],
            [f"Raise `memory` of container {name}, or of the task, in the task definition."],
        )
    if match := re.search(r'exec: "(.*?)": (.*?)(?:: unknown)?$', container.reason):
        return (
            [f"Container {name} could not start {match.group(1)}: {match.group(2)}."],
            [f"Correct entryPoint or command of container {name}; the image {container.image} has no such program."],
        )
    if container.reason:
        return [f"Container {name}: {container.reason}"], []
    if code in (None, 0):
        return (
            [f"Container {name} ended by itself with exit code 0."] if code == 0 and container.essential else []
        ), []
    sentences = [f"Container {name} ended with exit code {code}{_signal(code)}."]
    if container.log_group:
        return sentences, [f"Read what it said: sunabox logs {container.log_group} --stream {container.log_stream}"]
    return sentences, [f"Container {name} has no logConfiguration: its output is lost. Add one to see why it ended."]


def _signal(code: int | None) -> str:
    return {137: " (SIGKILL)", 143: " (SIGTERM)", 139: " (SIGSEGV: it crashed)", 127: " (command not found)"}.get(
        code or 0, ""
    )


def _living(task: TaskFacts) -> tuple[list[str], list[str]]:
    sentences: list[str] = []
    todo: list[str] = []
    for container in task.containers:
        if container.health == "UNHEALTHY":
            sentences.append(f"Container {container.name} fails its health check: {container.health_command}")
            todo.append(f"Run the command in the container, and correct it or the program ({container.image}).")
    said, do = _silent_ports(task, sorted({port for c in task.containers for port in c.ports}))
    sentences += said
    if not sentences and task.status == "RUNNING":
        where = f" Its public address is {task.public_ip}." if task.public_ip else ""
        sentences.append(f"Nothing is wrong with it.{where}")
    elif not sentences:
        sentences.append("It is on its way; nothing has gone wrong so far.")
    return sentences, [*todo, *do]


def _silent_ports(task: TaskFacts, ports: list[int]) -> tuple[list[str], list[str]]:
    """Declared ports on which nothing listens."""
    if task.listening is None or task.status != "RUNNING":
        return [], []
    silent = [port for port in ports if port not in task.listening]
    if not silent:
        return [], []
    said, do = _not_listening(task, silent[0])
    return [f"Nobody listens on port {silent[0]}, which the task definition declares. {said}"], [do]


def _not_listening(task: TaskFacts, port: int) -> tuple[str, str]:
    """What the task does instead, and what to change."""
    if port in task.loopback:
        return (
            f"The program listens on 127.0.0.1:{port}, which is the task's own.",
            f"Let it listen on 0.0.0.0:{port}.",
        )
    if others := ", ".join(map(str, sorted(task.listening or ()))):
        return (
            f"The task listens on {others}.",
            f"Let the program listen on 0.0.0.0:{port}, or change containerPort (and the load balancer's) to {others}.",
        )
    logs = next((f": sunabox logs {c.log_group} --stream {c.log_stream}" for c in task.containers if c.log_group), "")
    return (
        "The task listens on no port that others reach.",
        f"See whether the program starts as it should{logs}. It has to listen on 0.0.0.0:{port}.",
    )


def explain_target(target: TargetFacts) -> Answer:
    place = f"{target.address}:{target.port}"
    subject = f"Target {place} of {target.group} is {target.state}."
    if target.state == "healthy":
        return Answer(subject, ("It passes its health checks, and gets requests.",))
    if target.reason == "Target.NotRegistered":
        text = "No such target is registered in the target group."
        return Answer(
            subject, (text,), ("Register it: aws elbv2 register-targets, or loadBalancers of an ECS service.",)
        )
    if target.reason == "Target.NotInUse":
        return Answer(
            subject,
            (f"{target.description}.",),
            ("Let a listener or a rule forward to the target group (aws elbv2 create-listener, create-rule).",),
        )
    if target.state == "draining":
        text = "It was deregistered; requests in flight may finish until the deregistration delay is over."
        return Answer(subject, (text,))
    sentences, todo = _failing(target)
    if target.state == "initial" and not todo:
        text = "Its first health checks are being made; it becomes healthy or unhealthy when enough of them agree."
        return Answer(subject, (text, *sentences))
    return Answer(subject, tuple(sentences), tuple(todo))


def _failing(target: TargetFacts) -> tuple[list[str], list[str]]:
    check, task = target.check, target.task
    path, port = (check.path if check else "/"), _checked_port(target)
    if target.denied:
        groups = ", ".join(target.security_groups) or "the target's security group"
        return (
            [f"Health checks get no answer, because security groups keep the load balancer out: {target.denied}"],
            [f"Allow TCP {port} from the load balancer's security group in {groups}."],
        )
    if task is None and target.reason in ("Target.Timeout", "Target.FailedHealthChecks"):
        return [f"No running task has the address {target.address}."], [
            "Deregister the target, or start the task again."
        ]
    if task is not None and task.listening is not None and port not in task.listening:
        said, do = _not_listening(task, port)
        return [f"Health checks go to port {port}, where nobody listens. {said}"], [do]
    if target.reason == "Target.ResponseCodeMismatch":
        codes = "".join(re.findall(r"\[(.*?)\]", target.description))
        wanted = f", not {check.matcher}" if check else ""
        return (
            [f"The health check GET {path} is answered with {codes}{wanted}."],
            [f"Let the program answer {path}, or change the target group's health check path or its success codes."],
        )
    if target.reason == "Target.Timeout":
        seconds = f" within {check.timeout.total_seconds():g} s" if check else ""
        return (
            [f"The program accepts the connection for GET {path}, and does not answer{seconds}."],
            ["Let the health check's path answer quickly, or raise the target group's health check timeout."],
        )
    if target.reason == "Target.FailedHealthChecks":
        return [f"The connection to port {port} is refused or broken off."], ["Read the log of the task's containers."]
    return [f"{target.description or 'Nothing more is known'}."], []


def _checked_port(target: TargetFacts) -> int:
    check = target.check
    return int(check.port) if check is not None and check.port.isdigit() else target.port


def explain_service(service: ServiceFacts) -> Answer:
    subject = f"Service {service.name} is {service.status}: {service.running} of {service.desired} tasks run."
    sentences: list[str] = []
    todo: list[str] = []
    if service.rollout == "FAILED":
        sentences.append(f"Its last deployment failed: {service.rollout_reason}")
    for target in service.targets:
        if target.state in ("unhealthy", "initial"):
            answer = explain_target(target)
            sentences += [f"{answer.subject} {answer.sentences[0]}", *answer.sentences[1:]]
            todo += answer.todo
    sentences += _grace(service)
    if service.running < service.desired:
        for task in service.stopped[:1]:
            answer = explain_task(task)
            sentences += [f"{answer.subject} {answer.sentences[0]}", *answer.sentences[1:]]
            todo += answer.todo
        if not service.stopped and not service.pending and service.events:
            sentences.append(f"Its newest event: {service.events[0]}")
    for task in service.tasks:
        if task.denials or any(c.health == "UNHEALTHY" for c in task.containers):
            answer = explain_task(task)
            sentences += [f"{answer.subject} {answer.sentences[0]}", *answer.sentences[1:]]
            todo += answer.todo
    if not sentences:
        sentences.append(
            "Nothing is wrong with it." if service.running >= service.desired else "Its tasks are starting."
        )
    return Answer(subject, tuple(dict.fromkeys(sentences)), tuple(dict.fromkeys(todo)))


def _grace(service: ServiceFacts) -> list[str]:
    """Tasks that were stopped as unhealthy before they had the time that their health checks need at least."""
    checks = [target.check for target in service.targets if target.check is not None]
    killed = [task for task in service.stopped if "failed ELB health checks" in task.stopped_reason]
    if not checks or not killed:
        return []
    needed = max(check.interval * check.unhealthy_threshold for check in checks)
    if service.grace_period >= needed + timedelta(seconds=1):
        return []
    grace, fail = service.grace_period.total_seconds(), needed.total_seconds()
    return [
        f"Tasks are stopped as unhealthy soon after they start: the grace period is {grace:g} s, and health checks "
        f"that fail for {fail:g} s while the program starts are enough. Raise healthCheckGracePeriodSeconds."
    ]
