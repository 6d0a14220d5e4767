"""The seam into moto's Security Token Service: sessions of roles that services assume. Runs on the API thread."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from emulation.errors import SunaboxError


class RoleNotAssumable(SunaboxError):
    """The role does not exist, or its trust policy does not let the service assume it."""


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials of an assumed role. The account of its calls is the role's."""

    role_arn: str
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: datetime


def assume_role(role_arn: str, session_name: str, *, region: str, duration: timedelta, now: datetime) -> Session:
    """Makes a session: GetCallerIdentity gives arn:aws:sts::<account>:assumed-role/<role>/<session_name> with its key.

    Asks nobody for permission; see `check_trust`. Forgets the account's sessions that have expired by `now`, which moto
    would keep for ever.
    """
    _, partition, _, _, account, _ = role_arn.split(":", 5)
    sessions = sts_backends[account][partition]
    keys = iam_backends[account][partition].access_keys
    expired = [role for role in sessions.assumed_roles if role.expiration.replace(tzinfo=UTC) <= now]
    if expired:
        sessions.assumed_roles = [role for role in sessions.assumed_roles if role not in expired]
        for role in expired:
            keys.pop(role.access_key_id, None)
    role = sessions.assume_role(
        region_name=region,
        role_session_name=session_name,
        role_arn=role_arn,
        policy="",
        duration=int(duration.total_seconds()),
        external_id="",
    )
    expiration = now + duration
    role.expiration = expiration.astimezone(UTC).replace(tzinfo=None)
    return Session(role_arn, role.access_key_id, role.secret_access_key, role.session_token, expiration)


def check_trust(role_arn: str, service: str) -> None:
    """Raises RoleNotAssumable unless the role exists and trusts the service (ecs-tasks.amazonaws.com)."""
    try:
        _, partition, _, _, account, _ = role_arn.split(":", 5)
    except ValueError:
        raise RoleNotAssumable(f"{role_arn} is not the ARN of a role.") from None
    roles = [role for role in iam_backends[account][partition].get_roles() if role.arn == role_arn]
    if not roles:
        raise RoleNotAssumable(f"The role {role_arn} does not exist. Create it with aws iam create-role.")
    if not trusts(json.loads(roles[0].assume_role_policy_document), service):
        raise RoleNotAssumable(f"The trust policy of {role_arn} does not let {service} assume it.")


def trusts(policy: Mapping[str, Any], service: str) -> bool:
    """Whether a trust policy lets a service assume its role. Conditions are taken as met.

    Source: AWS Identity and Access Management User Guide, IAM JSON policy elements: Principal.
    """
    effects = [
        statement.get("Effect") for statement in _listed(policy.get("Statement")) if _applies(statement, service)
    ]
    return "Allow" in effects and "Deny" not in effects


def _applies(statement: Mapping[str, Any], service: str) -> bool:
    actions = {str(action).lower() for action in _listed(statement.get("Action"))}
    principal = statement.get("Principal")
    services = ["*"] if principal == "*" else _listed((principal or {}).get("Service"))
    return bool(actions & {"sts:assumerole", "sts:*", "*"}) and bool({service, "*"} & set(services))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
