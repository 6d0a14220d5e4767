"""ECS tasks as a client runs them: RunTask, DescribeTasks until all are there, StopTask."""

import time
from typing import Any

from bench.servers import Running

_PER_RUN_TASK = 10
_PER_DESCRIBE = 100
_PATIENCE_SECONDS = 120.0


class Tasks:
    """Tasks of one definition in an account of their own."""

    def __init__(self, server: Running, account: str, container: dict[str, Any]) -> None:
        self._ecs = server.client("ecs", account)
        self._ecs.create_cluster(clusterName="bench")
        subnet = server.client("ec2", account).describe_subnets()["Subnets"][0]["SubnetId"]
        self._where = {
            "cluster": "bench",
            "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": [subnet]}},
        }
        self._definition = self._ecs.register_task_definition(
            family="bench",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[{"name": "main", **container}],
        )["taskDefinition"]["taskDefinitionArn"]

    def run(self, count: int) -> list[str]:
        """Asks for `count` tasks, ten a call, which is what AWS allows: their ARNs."""
        arns: list[str] = []
        while len(arns) < count:
            ask = min(_PER_RUN_TASK, count - len(arns))
            answer = self._ecs.run_task(taskDefinition=self._definition, count=ask, **self._where)
            arns += [task["taskArn"] for task in answer["tasks"]]
        return arns

    def stop(self, arns: list[str]) -> None:
        for arn in arns:
            self._ecs.stop_task(cluster="bench", task=arn)

    def wait(self, arns: list[str], status: str, pause_seconds: float) -> None:
        """Asks for a hundred tasks at a time, and again only for those that have not got there."""
        until = time.perf_counter() + _PATIENCE_SECONDS
        left = list(arns)
        while left:
            chunk = left[:_PER_DESCRIBE]
            shown = self._ecs.describe_tasks(cluster="bench", tasks=chunk)["tasks"]
            there = {task["taskArn"] for task in shown if task["lastStatus"] == status}
            failed = [task for task in shown if task["lastStatus"] == "STOPPED" != status]
            if failed:
                raise RuntimeError(f"a task stopped: {failed[0].get('stoppedReason')}")
            if time.perf_counter() > until:
                raise RuntimeError(f"{len(left)} tasks are not {status} after {_PATIENCE_SECONDS:g} s")
            left = [arn for arn in left if arn not in there]
            if not there:
                time.sleep(pause_seconds)

    def timed(self, count: int, pause_seconds: float) -> tuple[float, list[str]]:
        """The seconds from the first RunTask until a client sees all RUNNING, and the tasks."""
        begun = time.perf_counter()
        arns = self.run(count)
        self.wait(arns, "RUNNING", pause_seconds)
        return time.perf_counter() - begun, arns
