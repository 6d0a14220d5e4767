"""An AWS account for one test, and clients for it."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from localstack_client.session import Session  # type: ignore[import-untyped]  # it ships no types

_RUN_TASKS = frozenset({"batch", "cloudformation", "ecs", "events", "lambda", "scheduler", "stepfunctions"})
"""Services through which an account may come to have running tasks."""


def new_account_id() -> str:
    """A 12-digit account id that no other test has, also not one of another process.

    Not from the shared generator: plugins seed that alike in every worker.
    """
    return str(random.SystemRandom().randrange(10**11, 10**12))


class AwsAccount:
    """An account of its own in a cloud, empty to begin with. Its id is also its access key."""

    def __init__(self, endpoint_url: str, account_id: str, region: str = "us-east-1") -> None:
        self.endpoint_url = endpoint_url
        self.account_id = account_id
        self.region = region
        self._sessions: dict[str, Session] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._task_regions: set[str] = set()

    def client(self, service: str, *, region_name: str | None = None, **options: Any) -> Any:
        """A boto3 client through localstack-client; `options` are boto3's."""
        region = self._note(service, region_name)
        if options:
            return self._make("client", service, region, options)
        if (service, region) not in self._clients:
            self._clients[service, region] = self._make("client", service, region, options)
        return self._clients[service, region]

    def resource(self, service: str, *, region_name: str | None = None, **options: Any) -> Any:
        """A boto3 resource through localstack-client; `options` are boto3's."""
        return self._make("resource", service, self._note(service, region_name), options)

    def environment(self) -> dict[str, str]:
        """The variables by which a program of its own (a subprocess, a container) uses this account."""
        self._task_regions.add(self.region)
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.account_id,
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_PAGER": "",
        }

    def stop_tasks(self) -> None:
        """Asks each ECS service and task of the account to stop, in every region that was used. Does not wait."""
        for region in sorted(self._task_regions):
            ecs = self.client("ecs", region_name=region)
            for cluster in _pages(ecs, "list_clusters", "clusterArns"):
                for service in _pages(ecs, "list_services", "serviceArns", cluster=cluster):
                    ecs.delete_service(cluster=cluster, service=service, force=True)  # it would replace its tasks
                for task in _pages(ecs, "list_tasks", "taskArns", cluster=cluster, desiredStatus="RUNNING"):
                    ecs.stop_task(cluster=cluster, task=task, reason="the test is over")

    def _note(self, service: str, region_name: str | None) -> str:
        region = region_name or self.region
        if service in _RUN_TASKS:
            self._task_regions.add(region)
        return region

    def _make(self, kind: str, service: str, region: str, options: dict[str, Any]) -> Any:
        with _environment({"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_PROFILE": None}):
            if region not in self._sessions:
                self._sessions[region] = Session(
                    aws_access_key_id=self.account_id, aws_secret_access_key="test", region_name=region
                )
            return getattr(self._sessions[region], kind)(service, **options)


def _pages(client: Any, operation: str, key: str, **arguments: str) -> Iterator[str]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]


@contextmanager
def _environment(changes: dict[str, str | None]) -> Iterator[None]:
    """localstack-client takes its endpoint from the environment, and boto3 refuses a profile that is not configured."""
    before = {name: os.environ.get(name) for name in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
