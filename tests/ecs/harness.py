"""ECS in front of containers that follow scripts, on a clock that stands still until it is turned."""

import json
from datetime import timedelta
from typing import Any

from emulation.runtime.memory import MemoryRuntime, Script
from emulation.testing.account import AwsAccount, new_account_id
from emulation.testing.cloud_thread import CloudThread
from emulation.testing.eventually import eventually
from emulation.testing.handles import CloudHandle

TRUST = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}


class Ecs:
    """An account with a cluster, and images that do what their script says."""

    def __init__(self, thread: CloudThread) -> None:
        assert thread.cloud is not None
        assert isinstance(thread.cloud.runtime, MemoryRuntime)
        self._scripts = thread.cloud.runtime.scripts
        self.clock = CloudHandle(thread.endpoint_url).clock
        self.aws = AwsAccount(thread.endpoint_url, new_account_id())
        self.client = self.aws.client("ecs")
        self.client.create_cluster(clusterName="c")
        self.subnet = self.aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]

    def image(self, name: str, script: Script) -> str:
        self._scripts[f"{name}-{self.aws.account_id}"] = script
        return f"{name}-{self.aws.account_id}"

    def role(self, trust: dict[str, Any] = TRUST, name: str = "task") -> str:
        iam = self.aws.client("iam")
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        return str(made["Role"]["Arn"])

    def register(self, *containers: dict[str, Any], **more: Any) -> str:
        settings = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
        answer = self.client.register_task_definition(
            family="app", containerDefinitions=list(containers), **{**settings, **more}
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def run(self, definition: str, **more: Any) -> str:
        return str(self.start(definition, **more)["tasks"][0]["taskArn"])

    def start(self, definition: str, **more: Any) -> dict[str, Any]:
        network = {"awsvpcConfiguration": {"subnets": [self.subnet]}}
        settings = {"cluster": "c", "launchType": "FARGATE", "networkConfiguration": network}
        return dict(self.client.run_task(taskDefinition=definition, **{**settings, **more}))

    def task(self, arn: str) -> dict[str, Any]:
        return dict(self.client.describe_tasks(cluster="c", tasks=[arn], include=["TAGS"])["tasks"][0])

    def until(self, arn: str, status: str) -> dict[str, Any]:
        eventually(lambda: self.task(arn)["lastStatus"] == status)
        return self.task(arn)

    def advance(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
