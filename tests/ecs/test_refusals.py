"""What ECS refuses, with AWS's codes and words. Nothing is started by a request that is refused."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.runtime.memory import Script
from tests.ecs.harness import Ecs

APP = {"name": "app", "image": "app"}
AWSLOGS = {"awslogs-group": "/g", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}


def refusal(call: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize(
    ("containers", "settings", "message"),
    [
        ([], {}, "Container list cannot be empty."),
        ([{"name": "app"}], {}, "Container.image should not be null or empty."),
        ([APP, APP], {}, "Container names must be unique within a task definition."),
        ([APP], {"cpu": "300"}, "No Fargate configuration exists for given values: 300 CPU, 512 memory."),
        ([APP], {"memory": "4096"}, "No Fargate configuration exists for given values: 256 CPU, 4096 memory."),
        ([APP], {"networkMode": "bridge"}, "Fargate only supports network mode ‘awsvpc’."),
        ([{**APP, "essential": False}], {}, "at least one container must be essential"),
        ([{**APP, "portMappings": [{"containerPort": 80, "hostPort": 8080}]}], {},
         "the host ports and container ports in port mappings must match"),
        ([{**APP, "logConfiguration": {"logDriver": "awslogs", "options": AWSLOGS}}], {},
         "Fargate requires task definition to have execution role ARN to support log driver awslogs."),
        ([{**APP, "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/g"}}}],
         {"executionRoleArn": "arn:aws:iam::1:role/x"},
         "Log driver awslogs requires options: awslogs-region, awslogs-stream-prefix"),
        ([{**APP, "secrets": [{"name": "A", "valueFrom": "b"}]}], {},
         "you must also specify a value for 'executionRoleArn'"),
        ([{**APP, "dependsOn": [{"containerName": "db", "condition": "START"}]}], {}, "'db', which is not in"),
        ([{**APP, "dependsOn": [{"containerName": "b", "condition": "START"}]},
          {"name": "b", "image": "b", "dependsOn": [{"containerName": "app", "condition": "START"}]}], {}, "Circular"),
        ([{**APP, "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]}], {}, "Unknown volume 'v'."),
        ([{**APP, "extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.9"}]}], {},
         "Extra hosts are not supported on container when networkMode=awsvpc."),
        ([{**APP, "hostname": "web"}], {}, "Hostname is not supported on container when networkMode=awsvpc."),
        ([{**APP, "name": f"c{number}"} for number in range(11)], {}, "at most 10 containers"),
        ([{**APP, "image": " "}], {}, "Container.image should not be null or empty."),
        ([{**APP, "linuxParameters": {"capabilities": {"add": ["SYS_PTRACE", "SYS_ADMIN"]}}}], {}, "SYS_PTRACE"),
        ([{**APP, "healthCheck": {"command": ["CMD", "true"], "interval": 1}}], {}, "between 5 and 300"),
        ([APP], {"volumes": [{"name": "v", "host": {"sourcePath": "/etc"}}]},
         "host.sourcePath should not be set for volumes in Fargate."),
        ([{**APP, "privileged": True}], {}, "Fargate does not support privileged containers."),
        ([{**APP, "environment": [{"name": "", "value": "x"}]}], {}, "its name should not be null or empty"),
        ([{**APP, "environment": [{"name": "BIG", "value": "x" * 65536}]}], {}, "Max allowed length is '65536' bytes."),
    ],
)  # fmt: skip
def test_a_task_definition_that_makes_no_sense_is_refused(
    ecs: Ecs, containers: list[dict[str, Any]], settings: dict[str, Any], message: str
) -> None:
    """RegisterTaskDefinition answers ClientException and keeps nothing."""
    fargate = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}
    code, words = refusal(
        ecs.client.register_task_definition,
        family="refused",
        containerDefinitions=containers,
        **{**fargate, **settings},
    )
    assert code == "ClientException"
    assert message.lower() in words.lower()
    assert "refused" not in ecs.client.list_task_definition_families()["families"]


def test_sizes_may_be_given_with_units(ecs: Ecs) -> None:
    """.5 vCPU and 1 GB are 512 and 1024."""
    answer = ecs.client.register_task_definition(
        family="units",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu=".5 vCPU",
        memory="1GB",
        containerDefinitions=[APP],
    )["taskDefinition"]
    assert (answer["cpu"], answer["memory"]) == ("512", "1024")


def test_run_task_refuses_what_does_not_fit(ecs: Ecs) -> None:
    """Each error has AWS's code; no task exists afterwards."""
    definition = ecs.register({**APP, "image": ecs.image("app", Script())})
    other = ecs.aws.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    foreign = ecs.aws.client("ec2").create_security_group(GroupName="f", Description="f", VpcId=other)["GroupId"]

    def network(**changes: Any) -> dict[str, Any]:
        return {"awsvpcConfiguration": {"subnets": [ecs.subnet], **changes}}

    refusals = [
        ({"cluster": "none"}, "ClusterNotFoundException", "Cluster not found."),
        ({"taskDefinition": "none"}, "ClientException", "TaskDefinition not found."),
        ({"taskDefinition": "app:99"}, "ClientException", "TaskDefinition not found."),
        ({"taskDefinition": ""}, "ClientException", "TaskDefinition can not be blank."),
        ({"platformVersion": "9.9.9"}, "PlatformUnknownException", "The specified platform version does not exist."),
        ({"count": 11}, "InvalidParameterException", "between 1 and 10"),
        ({"networkConfiguration": {}}, "InvalidParameterException",
         "Network Configuration must be provided when networkMode 'awsvpc' is specified."),
        ({"networkConfiguration": network(subnets=["subnet-0"])}, "InvalidParameterException",
         "The subnet ID 'subnet-0' does not exist"),
        ({"networkConfiguration": network(securityGroups=["sg-0"])}, "InvalidParameterException",
         "The security group 'sg-0' does not exist"),
        ({"networkConfiguration": network(securityGroups=[foreign])}, "InvalidParameterException",
         "does not appear to belong to the same VPC as the input subnets"),
        ({"overrides": {"containerOverrides": [{"name": "other"}]}}, "InvalidParameterException",
         "Override for container named other is not a container in the TaskDefinition."),
        ({"overrides": {"cpu": "333"}}, "InvalidParameterException", "given values: 333 CPU, 512 memory."),
        ({"overrides": {"memory": "99999999"}}, "InvalidParameterException", "given values: 256 CPU, 99999999 memory."),
        ({"overrides": {"ephemeralStorage": {"sizeInGiB": 5}}}, "InvalidParameterException", "between 20 and 200"),
        ({"overrides": {"containerOverrides": [{"name": "app", "command": ["x" * 8192]}]}},
         "InvalidParameterException", "Container Overrides length must be at most 8192"),
        ({"overrides": {"taskRoleArn": "arn:aws:iam::123456789012:role/none"}}, "ClientException",
         "ECS was unable to assume the role 'arn:aws:iam::123456789012:role/none'"),
        ({"launchType": "WAT"}, "InvalidParameterException", "launch type should be one of [EC2,FARGATE,"),
        ({"launchType": "EC2"}, "InvalidParameterException", "No Container Instances were found in your cluster."),
    ]  # fmt: skip
    for changes, code, message in refusals:
        answered, words = refusal(ecs.start, **{"definition": definition, **renamed(changes)})
        assert answered == code, changes
        assert message in words, changes
    assert ecs.client.list_tasks(cluster="c")["taskArns"] == []


def renamed(changes: dict[str, Any]) -> dict[str, Any]:
    return {("definition" if name == "taskDefinition" else name): value for name, value in changes.items()}


def test_an_inactive_task_definition_is_not_run(ecs: Ecs) -> None:
    """A family means its latest ACTIVE revision; an INACTIVE one can be described, and not be run."""
    image = ecs.image("app", Script())
    first = ecs.register({**APP, "image": image})
    second = ecs.register({**APP, "image": image})
    ecs.client.deregister_task_definition(taskDefinition=second)
    assert refusal(ecs.start, definition=second) == ("InvalidParameterException", "TaskDefinition is inactive")
    assert ecs.task(ecs.run("app"))["taskDefinitionArn"] == first
    ecs.client.deregister_task_definition(taskDefinition=first)
    assert refusal(ecs.start, definition="app") == ("ClientException", "TaskDefinition not found.")


def test_what_a_task_cannot_have_here_is_refused_and_not_left_out(ecs: Ecs) -> None:
    """An EFS volume would be an empty folder: rather no task than that one."""
    volume = {"name": "shared", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}
    definition = ecs.register({**APP, "image": ecs.image("app", Script())}, volumes=[volume])
    code, words = refusal(ecs.start, definition=definition)
    assert (code, words) == ("UnsupportedFeatureException", "Sunabox does not emulate volumes of EFS in tasks.")


@pytest.mark.parametrize(
    ("container", "settings", "what"),
    [
        ({"restartPolicy": {"enabled": True}}, {}, "restart policies"),
        ({"pseudoTerminal": True}, {}, "terminals"),
        ({"systemControls": [{"namespace": "net.core.somaxconn", "value": "1"}]}, {}, "systemControls"),
        ({}, {"pidMode": "task"}, "a shared PID namespace"),
    ],
)
def test_what_would_change_how_a_program_runs_is_not_left_out(
    ecs: Ecs, container: dict[str, Any], settings: dict[str, Any], what: str
) -> None:
    """The task definition is kept; a task of it would not be what it says."""
    definition = ecs.register({**APP, "image": ecs.image("app", Script()), **container}, **settings)
    code, words = refusal(ecs.start, definition=definition)
    assert (code, words) == ("UnsupportedFeatureException", f"Sunabox does not emulate {what} in tasks.")


def test_stopping_what_is_not_there_is_refused(ecs: Ecs) -> None:
    """StopTask of an unknown task; a second StopTask of a known one changes nothing."""
    assert refusal(ecs.client.stop_task, cluster="c", task="0" * 32) == (
        "InvalidParameterException",
        "The referenced task was not found.",
    )
    arn = ecs.run(ecs.register({**APP, "image": ecs.image("app", Script())}))
    ecs.until(arn, "RUNNING")
    ecs.client.stop_task(cluster="c", task=arn, reason="first")
    ecs.until(arn, "STOPPED")
    assert ecs.client.stop_task(cluster="c", task=arn, reason="second")["task"]["stoppedReason"] == "first"


def test_a_role_that_does_not_trust_ecs_is_refused(ecs: Ecs) -> None:
    """Its trust policy names another service."""
    trust = {
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    }
    definition = ecs.register({**APP, "image": ecs.image("app", Script())}, taskRoleArn=ecs.role(trust, "lambda"))
    code, words = refusal(ecs.start, definition=definition)
    assert code == "ClientException"
    assert "Please verify that the role being passed has the proper trust relationship" in words
