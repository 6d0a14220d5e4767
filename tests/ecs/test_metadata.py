"""The task metadata endpoint: AWS's JSON, and its answers to keys that nobody has."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from emulation.ecs.metadata import (
    ContainerMetadata,
    Json,
    NetworkMetadata,
    TaskMetadata,
    fargate_docker_id,
    render_container,
    render_task,
)
from emulation.ecs.metadata_app import MetadataApp

ARN = "arn:aws:ecs:us-west-2:111122223333"
CURL = ContainerMetadata(
    docker_id="cd189a933e5849daa93386466019ab50-2495160603",
    name="curl",
    docker_name="curl",
    image="111122223333.dkr.ecr.us-west-2.amazonaws.com/curltest:latest",
    image_id="sha256:25f3695bedfb454a50f12d127839a68ad3caf91e451c1da073db34c542c4d2cb",
    container_arn=f"{ARN}:container/default/cd189a933e5849daa93386466019ab50/05281f55",
    desired_status="RUNNING",
    known_status="RUNNING",
    cpu=10,
    memory_mib=128,
    created_at=datetime(2020, 10, 8, 20, 9, 11, 445271, tzinfo=UTC),
    started_at=datetime(2020, 10, 8, 20, 9, 11, 445271, tzinfo=UTC),
    labels={"team": "search"},
    networks=(
        NetworkMetadata(
            network_mode="awsvpc",
            ipv4_addresses=("192.0.2.3",),
            attachment_index=0,
            mac_address="0a:de:f6:10:51:e5",
            ipv4_subnet_cidr_block="192.0.2.0/24",
            domain_name_servers=("192.0.2.2",),
            domain_name_search_list=("us-west-2.compute.internal",),
            private_dns_name="ip-10-0-0-222.us-west-2.compute.internal",
            subnet_gateway_ipv4_address="192.0.2.0/24",
        ),
    ),
    log_driver="awslogs",
    log_options={
        "awslogs-group": "/ecs/containerlogs",
        "awslogs-region": "us-west-2",
        "awslogs-stream-prefix": "ecs",
    },
    log_stream="ecs/curl/cd189a933e5849daa93386466019ab50",
)
TASK = TaskMetadata(
    cluster_arn=f"{ARN}:cluster/default",
    task_arn=f"{ARN}:task/default/cd189a933e5849daa93386466019ab50",
    family="curltest",
    revision="2",
    desired_status="RUNNING",
    known_status="RUNNING",
    launch_type="FARGATE",
    containers=(CURL,),
    availability_zone="us-west-2d",
    vcpus=0.25,
    memory_mib=512,
    pull_started_at=datetime(2020, 10, 8, 20, 47, 16, 53330, tzinfo=UTC),
    pull_stopped_at=datetime(2020, 10, 8, 20, 47, 19, 592684, tzinfo=UTC),
    vpc_id="vpc-1",
)

# The shape of AWS's example, Task metadata endpoint version 4 examples for tasks on Fargate.
CONTAINER_JSON = {
    "DockerId": "cd189a933e5849daa93386466019ab50-2495160603",
    "Name": "curl",
    "DockerName": "curl",
    "Image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/curltest:latest",
    "ImageID": "sha256:25f3695bedfb454a50f12d127839a68ad3caf91e451c1da073db34c542c4d2cb",
    "Labels": {
        "team": "search",
        "com.amazonaws.ecs.cluster": f"{ARN}:cluster/default",
        "com.amazonaws.ecs.container-name": "curl",
        "com.amazonaws.ecs.task-arn": f"{ARN}:task/default/cd189a933e5849daa93386466019ab50",
        "com.amazonaws.ecs.task-definition-family": "curltest",
        "com.amazonaws.ecs.task-definition-version": "2",
    },
    "DesiredStatus": "RUNNING",
    "KnownStatus": "RUNNING",
    "Limits": {"CPU": 10, "Memory": 128},
    "CreatedAt": "2020-10-08T20:09:11.445271Z",
    "StartedAt": "2020-10-08T20:09:11.445271Z",
    "Type": "NORMAL",
    "Networks": [
        {
            "NetworkMode": "awsvpc",
            "IPv4Addresses": ["192.0.2.3"],
            "AttachmentIndex": 0,
            "MACAddress": "0a:de:f6:10:51:e5",
            "IPv4SubnetCIDRBlock": "192.0.2.0/24",
            "DomainNameServers": ["192.0.2.2"],
            "DomainNameSearchList": ["us-west-2.compute.internal"],
            "PrivateDNSName": "ip-10-0-0-222.us-west-2.compute.internal",
            "SubnetGatewayIpv4Address": "192.0.2.0/24",
        }
    ],
    "ContainerARN": f"{ARN}:container/default/cd189a933e5849daa93386466019ab50/05281f55",
    "LogOptions": {
        "awslogs-group": "/ecs/containerlogs",
        "awslogs-region": "us-west-2",
        "awslogs-stream": "ecs/curl/cd189a933e5849daa93386466019ab50",
    },
    "LogDriver": "awslogs",
}


def test_a_fargate_task_is_described_as_in_awss_example() -> None:
    """Names, shapes and forms of the values are AWS's."""
    assert render_container(TASK, CURL) == CONTAINER_JSON
    assert render_task(TASK) == {
        "Cluster": f"{ARN}:cluster/default",
        "TaskARN": f"{ARN}:task/default/cd189a933e5849daa93386466019ab50",
        "Family": "curltest",
        "Revision": "2",
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": 0.25, "Memory": 512},
        "PullStartedAt": "2020-10-08T20:47:16.053330Z",
        "PullStoppedAt": "2020-10-08T20:47:19.592684Z",
        "AvailabilityZone": "us-west-2d",
        "LaunchType": "FARGATE",
        "Containers": [CONTAINER_JSON],
    }


def test_a_task_on_ec2_shows_its_vpc_and_the_clusters_name() -> None:
    """As in AWS's example of a container instance; unknown members are left out."""
    shown = render_task(replace(TASK, launch_type="EC2", service_name="web", vcpus=None, memory_mib=None))
    assert shown["Cluster"] == "default"
    assert shown["VPCID"] == "vpc-1"
    assert shown["ServiceName"] == "web"
    assert shown["Containers"][0]["Labels"]["com.amazonaws.ecs.cluster"] == "default"
    assert "Limits" not in shown


def test_a_container_that_ended_tells_how() -> None:
    """Exit code 0 is shown too, not taken for unknown."""
    ended = replace(CURL, known_status="STOPPED", exit_code=0, finished_at=datetime(2020, 10, 9, tzinfo=UTC))
    shown = render_container(TASK, ended)
    assert (shown["ExitCode"], shown["FinishedAt"]) == (0, "2020-10-09T00:00:00.000000Z")


def test_docker_ids_on_fargate_begin_with_the_tasks_id() -> None:
    """And differ between the containers of a task."""
    first, second = (fargate_docker_id("cd18", name) for name in ("web", "sidecar"))
    assert first.startswith("cd18-") and second.startswith("cd18-") and first != second


class Known:
    def task(self, key: str) -> tuple[TaskMetadata, str] | None:
        return (TASK, "curl") if key == "key" else None

    async def stats(self, key: str) -> Mapping[str, Json]:
        return {CURL.docker_id: {"pids_stats": {"current": 3}}}

    async def credentials(self, credentials_id: str) -> Json | None:
        return {"AccessKeyId": "ASIA"} if credentials_id == "id" else None


def get(path: str, method: str = "GET") -> tuple[int, Any]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(MetadataApp(Known()))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://169.254.170.2") as client:
            return await client.request(method, path)

    answer = asyncio.run(ask())
    return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.text


@pytest.mark.parametrize("version", ["v3", "v4"])
def test_containers_ask_for_themselves_their_task_and_their_figures(version: str) -> None:
    """All documented paths answer."""
    assert get(f"/{version}/key") == (200, CONTAINER_JSON)
    assert get(f"/{version}/key/") == (200, CONTAINER_JSON)
    assert get(f"/{version}/key/task") == (200, json.loads(json.dumps(render_task(TASK))))
    assert get(f"/{version}/key/stats") == (200, {"pids_stats": {"current": 3}})
    assert get(f"/{version}/key/task/stats") == (200, {CURL.docker_id: {"pids_stats": {"current": 3}}})


def test_an_unknown_key_is_answered_as_the_ecs_agent_does() -> None:
    """404, with its words as a JSON string."""
    assert get("/v4/bad") == (
        404,
        "V4 container metadata handler: unable to get container ID from request: "
        "unable to get docker ID from v3 endpoint ID: bad",
    )
    assert get("/v4/bad/task") == (
        404,
        "V4 task metadata handler: unable to get task arn from request: "
        "unable to get task Arn from v3 endpoint ID: bad",
    )
    assert get("/v4/")[0] == 404
    assert get("/elsewhere") == (404, "404 page not found\n")
    assert get("/v4/key", "POST")[0] == 405


def test_credentials_are_given_for_the_id_only() -> None:
    """Errors are the agent's."""
    assert get("/v2/credentials/id") == (200, {"AccessKeyId": "ASIA"})
    assert get("/v2/credentials/other") == (
        400,
        {
            "code": "InvalidIdInRequest",
            "message": "CredentialsV2Request: Credentials not found",
            "HTTPErrorCode": 400,
        },
    )
    assert get("/v2/credentials/")[1]["code"] == "NoIdInRequest"
    assert get("/v2/credentials")[1]["code"] == "NoIdInRequest"
