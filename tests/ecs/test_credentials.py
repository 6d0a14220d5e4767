"""Credentials of task roles: of the right account, named after the task, and never out of date."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from moto.iam.models import get_account_id_from, iam_backends
from moto.sts.models import sts_backends

from emulation.clock import VirtualClock
from emulation.ecs.credentials import SERVICE, CredentialStore, Session, cannot_assume, role_arn
from emulation.sts import api as sts_api

REGION = "eu-central-1"
ACCOUNT = "333333333333"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service/trainer"
START = datetime(2031, 1, 1, tzinfo=UTC)


async def assume(role_arn: str, session_name: str, *, region: str, duration: timedelta, now: datetime) -> Session:
    return sts_api.assume_role(role_arn, session_name, region=region, duration=duration, now=now)


def identity(credentials: dict[str, Any]) -> tuple[str, str]:
    account = get_account_id_from(credentials["AccessKeyId"])
    _, arn, _ = sts_backends[account]["aws"].get_caller_identity(credentials["AccessKeyId"], REGION)
    return account, arn


def test_a_task_calls_aws_as_its_role_under_its_own_name() -> None:
    """The key belongs to the role's account, and GetCallerIdentity names role and task."""

    async def story() -> None:
        store = CredentialStore(VirtualClock(START), assume)
        credentials = await store.get(store.grant(ROLE, task_id="0f1e2d3c", region=REGION))
        assert credentials is not None
        assert set(credentials) == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
        assert credentials["RoleArn"] == ROLE
        assert credentials["AccessKeyId"].startswith("ASIA")
        assert credentials["Expiration"] == "2031-01-01T06:00:00Z"
        assert identity(credentials) == (ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/trainer/0f1e2d3c")

    asyncio.run(story())


def test_credentials_are_replaced_before_they_expire() -> None:
    """By the clock; until then the same are given to all who ask, also at the same time."""

    async def story() -> None:
        clock = VirtualClock(START)
        store = CredentialStore(clock, assume)
        identifier = store.grant(ROLE, task_id="t", region=REGION)
        first, same = await asyncio.gather(store.get(identifier), store.get(identifier))
        assert first == same
        await clock.advance(timedelta(hours=5, minutes=29))
        assert await store.get(identifier) == first
        await clock.advance(timedelta(minutes=1))
        second = await store.get(identifier)
        assert second is not None and first is not None
        assert second["AccessKeyId"] != first["AccessKeyId"]
        assert second["Expiration"] == "2031-01-01T11:30:00Z"
        assert identity(first)[0] == identity(second)[0] == ACCOUNT

    asyncio.run(story())


def test_sessions_that_have_expired_are_forgotten() -> None:
    """They do not pile up in a long run."""
    account = "333333333334"
    arn = f"arn:aws:iam::{account}:role/r"
    now = START
    for _ in range(20):
        sts_api.assume_role(arn, "t", region=REGION, duration=timedelta(hours=6), now=now)
        now += timedelta(hours=5)
    assert len(sts_backends[account]["aws"].assumed_roles) == 2
    assert len(iam_backends[account]["aws"].access_keys) == 2


def test_a_revoked_id_is_unknown() -> None:
    """After the task has stopped."""

    async def story() -> None:
        store = CredentialStore(VirtualClock(START), assume, new_id=count().__next__)
        identifier = store.grant(ROLE, task_id="t", region=REGION)
        assert identifier == "0"
        store.revoke(identifier)
        store.revoke(identifier)
        assert await store.get(identifier) is None

    asyncio.run(story())


def test_programs_never_take_valid_credentials_for_expired() -> None:
    """Where the emulated time is years behind, Expiration is counted from the machine's, which programs look at."""

    async def story() -> None:
        machine = VirtualClock(START)
        store = CredentialStore(VirtualClock(datetime(2024, 1, 1, tzinfo=UTC)), assume, machine=machine)
        identifier = store.grant(ROLE, task_id="t", region=REGION)
        first = await store.get(identifier)
        assert first is not None and first["Expiration"] == "2031-01-01T06:00:00Z"
        await machine.advance(timedelta(hours=5, minutes=45))
        second = await store.get(identifier)
        assert second is not None and second["Expiration"] == "2031-01-01T11:45:00Z"

    asyncio.run(story())


def role(account: str, policy: dict[str, Any]) -> str:
    return iam_backends[account]["aws"].create_role("task", json.dumps(policy), "/", "", "", [], "3600").arn


ALLOW = {"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole"}


def test_a_role_must_exist_and_trust_ecs() -> None:
    """RunTask answers ClientException otherwise."""
    sts_api.check_trust(role("333333333335", {"Statement": [ALLOW]}), SERVICE)
    lambdas = {**ALLOW, "Principal": {"Service": "lambda.amazonaws.com"}}
    with pytest.raises(sts_api.RoleNotAssumable, match="does not let ecs-tasks.amazonaws.com assume it"):
        sts_api.check_trust(role("333333333336", {"Statement": lambdas}), SERVICE)
    for missing in (f"arn:aws:iam::{ACCOUNT}:role/nobody", "nonsense"):
        with pytest.raises(sts_api.RoleNotAssumable):
            sts_api.check_trust(missing, SERVICE)
    assert cannot_assume(ROLE).startswith(
        f"ECS was unable to assume the role '{ROLE}' that was provided for this task."
    )


@pytest.mark.parametrize(
    ("statements", "trusted"),
    [
        (ALLOW, True),
        ([{**ALLOW, "Principal": {"Service": ["ec2.amazonaws.com", SERVICE]}}], True),
        ([{**ALLOW, "Action": ["sts:TagSession", "sts:*"]}], True),
        ([{**ALLOW, "Principal": "*"}], True),
        ([{**ALLOW, "Principal": {"AWS": "*"}}], False),
        ([{**ALLOW, "Action": "sts:AssumeRoleWithSAML"}], False),
        ([ALLOW, {**ALLOW, "Effect": "Deny"}], False),
        ([], False),
    ],
)
def test_trust_policies_are_read_as_iam_does(statements: Any, trusted: bool) -> None:
    """Lists and single values, wildcards, and Deny before Allow."""
    assert sts_api.trusts({"Statement": statements}, SERVICE) is trusted


def test_a_role_may_be_given_by_its_name() -> None:
    """A task definition takes both."""
    assert role_arn("trainer", account=ACCOUNT) == f"arn:aws:iam::{ACCOUNT}:role/trainer"
    assert role_arn(ROLE, account="1") == ROLE
