"""What the chapters on containers do again and again: roles, images, tasks. Everything goes through AWS's API."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulation.images.build import build_python_app
from emulation.images.library import Library
from emulation.images.push import push
from emulation.testing.account import AwsAccount

FIXTURES = Path(__file__).parent.parent / "fixtures"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@dataclass
class Fargate:
    """A cluster in an account, with what is needed to run tasks in it."""

    aws: AwsAccount
    library: Library
    cluster: str = "story"
    log_group: str = "/ecs/furui"
    _roles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ecs, self.ec2, self.logs = (self.aws.client(name) for name in ("ecs", "ec2", "logs"))
        self.ecs.create_cluster(clusterName=self.cluster)
        self.logs.create_log_group(logGroupName=self.log_group)
        subnets = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        self.subnet: str = subnets[0]["SubnetId"]
        self.vpc: str = subnets[0]["VpcId"]

    def role(self, name: str) -> str:
        """A role that ECS tasks may assume: its ARN."""
        if name not in self._roles:
            iam = self.aws.client("iam")
            made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
            self._roles[name] = made["Role"]["Arn"]
        return self._roles[name]

    def push(self, image: str, repository: str) -> tuple[str, str]:
        """Pushes a local image to a new repository: the URI to pull it by, and its digest."""
        made = self.aws.client("ecr").create_repository(repositoryName=repository)
        uri = f"{made['repository']['repositoryUri']}:{image.rpartition(':')[2]}"
        return uri, push(self.library, image, uri)

    def security_group(self, name: str, *ports: int) -> str:
        """A security group that lets everybody in on these ports."""
        group: str = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        for port in ports:
            self.open(group, port)
        return group

    def open(self, group: str, port: int) -> None:
        everybody = [{"CidrIp": "0.0.0.0/0"}]
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": everybody}
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])

    def register(self, family: str, image: str, command: Sequence[str] = (), **container: Any) -> str:
        """A task definition of one container that logs: its ARN."""
        options = {"awslogs-group": self.log_group, "awslogs-region": self.aws.region, "awslogs-stream-prefix": family}
        size = {"cpu": container.pop("task_cpu", "256"), "memory": container.pop("task_memory", "512")}
        definition = {
            "name": "furui",
            "image": image,
            "logConfiguration": {"logDriver": "awslogs", "options": options},
            **({"command": list(command)} if command else {}),
            **container,
        }
        answer = self.ecs.register_task_definition(
            family=family,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            executionRoleArn=self.role("execution"),
            taskRoleArn=self.role("task"),
            containerDefinitions=[definition],
            **size,
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def run(self, definition: str, *groups: str, **more: Any) -> str:
        """RunTask with a public address: the task's ARN."""
        network = {"subnets": [self.subnet], "securityGroups": list(groups), "assignPublicIp": "ENABLED"}
        answer = self.ecs.run_task(
            cluster=self.cluster,
            taskDefinition=definition,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": network},
            **more,
        )
        assert not answer["failures"]
        return str(answer["tasks"][0]["taskArn"])

    def task(self, arn: str) -> dict[str, Any]:
        (only,) = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn])["tasks"]
        return dict(only)

    def status(self, arn: str) -> str:
        return str(self.task(arn)["lastStatus"])

    def stopped(self, arn: str) -> dict[str, Any]:
        """Waits as the AWS CLI does (`aws ecs wait tasks-stopped`), only more often."""
        waiter = self.ecs.get_waiter("tasks_stopped")
        waiter.wait(cluster=self.cluster, tasks=[arn], WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
        return self.task(arn)

    def public_ip(self, arn: str) -> str:
        details = {d["name"]: d["value"] for d in self.task(arn)["attachments"][0]["details"]}
        answer = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[details["networkInterfaceId"]])
        return str(answer["NetworkInterfaces"][0]["Association"]["PublicIp"])

    def private_ip(self, arn: str) -> str:
        return str(self.task(arn)["containers"][0]["networkInterfaces"][0]["privateIpv4Address"])

    def lines(self, arn: str) -> list[str]:
        """What the task has printed, as CloudWatch Logs has it."""
        task_id = arn.rpartition("/")[2]
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=self.log_group)
        events = [event for page in pages for event in page["events"] if event["logStreamName"].endswith(task_id)]
        return [event["message"] for event in events]

    def awslogs(self, *arguments: str) -> subprocess.Popen[str]:
        """The `awslogs` tool, as the engineer had it open in a terminal."""
        tool = Path(sys.executable).with_name("awslogs")
        environment = {**os.environ, **self.aws.environment(), "PYTHONUNBUFFERED": "1"}
        command = [tool, "get", self.log_group, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def build_furui(library: Library) -> str:
    """The program's image, made of the running interpreter: its name."""
    build_python_app(
        FIXTURES / "app",
        library=library,
        names=["furui:1"],
        extras=["postgres", "redis", "s3"],
        command=["furui", "serve"],
        ports=[7777],
    )
    return "furui:1"
