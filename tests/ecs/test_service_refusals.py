"""Services that cannot be: refused by CreateService and UpdateService as AWS does it."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.ecs.harness import Ecs
from tests.ecs.service_harness import Web


@pytest.fixture
def web(ecs: Ecs) -> Web:
    return Web(ecs)


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    problem = error.value.response["Error"]
    return str(problem["Code"]), str(problem["Message"])


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"desiredCount": -1}, "InvalidParameterException", "desiredCount must not be negative."),
        (
            {"networkConfiguration": None},
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ),
        (
            {"desiredCount": None, "schedulingStrategy": "DAEMON"},
            "InvalidParameterException",
            "The daemon scheduling strategy is not supported for the Fargate launch type.",
        ),
        (
            {"deploymentConfiguration": {"maximumPercent": 100, "minimumHealthyPercent": 100}},
            "InvalidParameterException",
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.",
        ),
        (
            {"capacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}]},
            "InvalidParameterException",
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ),
        (
            {"deploymentController": {"type": "EXTERNAL"}},
            "UnsupportedFeatureException",
            "Sunabox does not emulate deployment controllers other than ECS in services.",
        ),
        (
            {"loadBalancers": [{"loadBalancerName": "old", "containerName": "app", "containerPort": 7777}]},
            "UnsupportedFeatureException",
            "Sunabox does not emulate Classic Load Balancers in services.",
        ),
        (
            {"serviceConnectConfiguration": {"enabled": True}},
            "UnsupportedFeatureException",
            "Sunabox does not emulate Service Connect in services.",
        ),
        (
            {"platformVersion": "9.9.9"},
            "PlatformUnknownException",
            "The specified platform version 9.9.9 does not exist.",
        ),
    ],
)
def test_a_service_that_makes_no_sense_is_refused(web: Web, settings: dict[str, Any], code: str, message: str) -> None:
    """With AWS's code and words, or by name where it is not emulated."""
    with pytest.raises(ClientError) as error:
        web.create(web.definition(), **{"count": settings.pop("desiredCount", 1), **settings})
    assert refusal(error) == (code, message)
    assert web.client.list_services(cluster="c")["serviceArns"] == []


def test_what_is_not_there_is_named(web: Web) -> None:
    """Clusters, task definitions and services."""
    with pytest.raises(ClientError) as error:
        web.create("nothing:1")
    assert refusal(error) == ("ClientException", "TaskDefinition not found.")
    with pytest.raises(ClientError) as error:
        web.client.list_services(cluster="nowhere")
    assert refusal(error) == ("ClusterNotFoundException", "Cluster not found.")
    for ask in (lambda: web.update(desiredCount=1), lambda: web.delete()):
        with pytest.raises(ClientError) as error:
            ask()
        assert refusal(error) == ("ServiceNotFoundException", "Service not found.")
    with pytest.raises(ClientError) as error:
        web.client.list_tasks(cluster="c", serviceName="web")
    assert refusal(error) == ("ServiceNotFoundException", "Service not found.")
    answer = web.client.describe_services(cluster="c", services=["web"])
    assert [f["reason"] for f in answer["failures"]] == ["MISSING"]
    assert answer["failures"][0]["arn"].endswith(":service/c/web")


def test_the_same_request_is_the_same_service_and_another_is_refused(web: Web) -> None:
    """CreateService is idempotent."""
    definition = web.definition()
    first = web.create(definition, 0)
    assert web.create(definition, 0)["serviceArn"] == first["serviceArn"]
    with pytest.raises(ClientError) as error:
        web.create(definition, 1)
    assert refusal(error) == ("InvalidParameterException", "Creation of service was not idempotent.")


def test_a_public_address_is_for_fargate_only(web: Web) -> None:
    """Launch type EC2 has none to give."""
    container = {"name": "app", "image": "app", "memory": 64}
    definition = web.ecs.register(container, requiresCompatibilities=["EC2"])
    network = {"awsvpcConfiguration": {"subnets": [web.ecs.subnet], "assignPublicIp": "ENABLED"}}
    with pytest.raises(ClientError) as error:
        web.create(definition, launchType="EC2", networkConfiguration=network)
    assert refusal(error) == ("InvalidParameterException", "Assign public IP is not supported for this launch type.")


def test_an_update_that_is_refused_changes_nothing(web: Web) -> None:
    """Neither the number of tasks nor the deployment."""
    web.create(web.definition(), 0)
    before = web.now["deployments"]
    limits = {"maximumPercent": 100, "minimumHealthyPercent": 100}
    with pytest.raises(ClientError):
        web.update(desiredCount=5, deploymentConfiguration=limits)
    with pytest.raises(ClientError):
        web.update(desiredCount=5, taskDefinition="nothing:1")
    assert web.now["desiredCount"] == 0
    assert [d["id"] for d in web.now["deployments"]] == [d["id"] for d in before]
