"""The messages of service events. Source: Amazon ECS service event messages."""

from collections.abc import Iterable, Sequence

from emulation.ecs.services import actions as a

_SEE = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."

NO_INSTANCES = "No Container Instances were found in your cluster."


def started(service: str, tasks: Sequence[str], replaced: int) -> str:
    text = f"(service {service}) has started {len(tasks)} tasks: {_tasks(tasks)}."
    return f"{text} Amazon ECS replaced {replaced} tasks due to an unhealthy status." if replaced else text


def could_not_start(service: str, problem: str) -> str:
    return f"(service {service}) failed to launch a task with (error {problem})."


def stopped(service: str, tasks: Sequence[str], *, pending: bool = False) -> str:
    if pending:
        return f"(service {service}) stopped {len(tasks)} pending tasks."
    return f"(service {service}) has stopped {len(tasks)} running tasks: {_tasks(tasks)}."


def unhealthy(service: str, action: a.StopUnhealthyTask) -> str:
    task = action.task.rpartition("/")[2]
    if not action.target_group_arn:
        return f"(service {service}) (task {task}) failed container health checks."
    return (
        f"(service {service}) (task {task}) (port {action.port}) is unhealthy in "
        f"(target-group {action.target_group_arn}) due to (reason {action.reason})."
    )


def registered(service: str, count: int, target_group_arn: str) -> str:
    return f"(service {service}) registered {count} targets in (target-group {target_group_arn})"


def deregistered(service: str, count: int, target_group_arn: str) -> str:
    return f"(service {service}) deregistered {count} targets in (target-group {target_group_arn})"


def draining(service: str, count: int) -> str:
    return f"(service {service}) has begun draining connections on {count} tasks."


def completed(service: str, deployment: str) -> str:
    return f"(service {service}) (deployment {deployment}) deployment completed."


def failed(service: str, deployment: str) -> str:
    return f"(service {service}) (deployment {deployment}) deployment failed: tasks failed to start."


def rolling_back(service: str, deployment: str) -> str:
    return f"(service {service}) rolling back to deployment {deployment}."


def steady(service: str) -> str:
    return f"(service {service}) has reached a steady state."


def trouble(service: str, kind: str, cause: str) -> str:
    if kind == a.IMPAIRED:
        return f"(service {service}) is unable to consistently start tasks successfully. {_SEE}"
    if kind == a.BLOCKED:
        return (
            f"(service {service}) was unable to stop or start tasks during a deployment because of the service "
            "deployment configuration. Update the minimumHealthyPercent or maximumPercent value and try again."
        )
    return (
        f"(service {service}) was unable to place a task because no container instance met all of its requirements. "
        f"Reason: {cause} {_SEE}"
    )


def _tasks(tasks: Iterable[str]) -> str:
    return " ".join(f"(task {task.rpartition('/')[2]})" for task in tasks)
