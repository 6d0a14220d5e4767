"""Chapter 7, a page of its own: `sunabox why`.

The engineer wondered for an evening why his target never came up. It was the security group, or the port, or the path:
on AWS one guesses. Here the emulator has seen what happened, and says so.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checks import At, is_up
from fargate import Fargate

pytestmark = pytest.mark.needs_runtime("process", "docker")

Eventually = Callable[..., Any]
PORT = 7777


def why(fargate: Fargate, subject: str) -> str:
    command = [
        str(Path(sys.executable).with_name("sunabox")),
        "why",
        subject,
        "--endpoint-url",
        fargate.aws.endpoint_url,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_task_that_listens_on_another_port_must_be_told(
    fargate: Fargate, furui_image: str, eventually: Eventually
) -> None:
    """The task definition declares 7777; the program was started with --port 8080. Both are named."""
    command = ["furui", "serve", "--port", "8080"]
    definition = fargate.register("web", furui_image, command, portMappings=[{"containerPort": PORT}])
    arn = fargate.run(definition, fargate.security_group("web", PORT))
    eventually(lambda: fargate.status(arn) == "RUNNING", within=20)

    eventually(lambda: "The task listens on 8080." in why(fargate, arn), within=20)
    assert "Nobody listens on port 7777, which the task definition declares." in why(fargate, arn)


def test_a_connection_that_a_security_group_denied_must_be_told(
    fargate: Fargate, furui_image: str, eventually: Eventually
) -> None:
    """The page loads and loads. `why` names the group that has no rule for the port."""
    definition = fargate.register("web", furui_image, portMappings=[{"containerPort": PORT}])
    group = fargate.security_group("closed")
    arn = fargate.run(definition, group)
    eventually(lambda: fargate.status(arn) == "RUNNING", within=20)
    with pytest.raises(TimeoutError):
        is_up(At(fargate.public_ip(arn), PORT), seconds=1)

    said = why(fargate, arn)

    assert "got no answer" in said
    assert f"--group-id {group}" in said


def test_an_exit_code_must_lead_to_the_log(fargate: Fargate, furui_image: str) -> None:
    """A container that fails has said why on its output; `why` gives the command that shows it."""
    definition = fargate.register("broken", furui_image, ["furui", "train", "--import", "/nowhere.tsv"])
    task = fargate.stopped(fargate.run(definition))

    said = why(fargate, task["taskArn"])

    assert "ended with exit code 2" in said
    assert f"sunabox logs {fargate.log_group} --stream broken/furui/" in said
