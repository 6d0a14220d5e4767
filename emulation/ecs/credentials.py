"""Credentials of task roles: what the containers of a task get at 169.254.170.2/v2/credentials/<id>.

They are temporary credentials of the role, with the task's id as the name of the session, and are replaced before they
expire.

Source: Amazon ECS Developer Guide, Task IAM role; AWS SDKs and Tools Reference Guide, Container credential provider.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from emulation.clock import Clock, SystemClock
from emulation.errors import SunaboxError

PATH = "/v2/credentials/"
SERVICE = "ecs-tasks.amazonaws.com"
LIFETIME = timedelta(hours=6)

_RENEWED_BEFORE = timedelta(minutes=30)
"""SDKs ask again 15 minutes before the credentials expire, and must be given others then."""


def cannot_assume(role_arn: str) -> str:
    """What RunTask answers (ClientException) for a role that does not exist or does not trust ECS."""
    return (
        f"ECS was unable to assume the role '{role_arn}' that was provided for this task. Please verify that the role "
        "being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass "
        "this role."
    )


def role_arn(role: str, *, account: str, partition: str = "aws") -> str:
    """A task definition may give a role by its name or by its ARN."""
    return role if role.startswith("arn:") else f"arn:{partition}:iam::{account}:role/{role}"


class Session(Protocol):
    """Temporary credentials of a role, as STS gives them."""

    @property
    def role_arn(self) -> str: ...
    @property
    def access_key_id(self) -> str: ...
    @property
    def secret_access_key(self) -> str: ...
    @property
    def token(self) -> str: ...


class AssumeRole(Protocol):
    """Makes a session of a role. Called on the event loop; asks the API thread."""

    def __call__(
        self, role_arn: str, session_name: str, *, region: str, duration: timedelta, now: datetime
    ) -> Awaitable[Session]: ...


@dataclass
class _Grant:
    """What one task may have, and what it was given last."""

    role_arn: str
    session_name: str
    region: str
    session: Session | None = None
    expires_at: datetime | None = None
    shown_expiration: datetime | None = None
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class CredentialStore:
    """The credentials of all running tasks, by the ids in their URIs.

    # Emulation: programs in containers compare Expiration with their own clock, which is the machine's. Where the
    # emulated time is behind that (a virtual clock that was started in the past), Expiration is counted from the
    # machine's, so that no SDK takes valid credentials for expired.
    """

    def __init__(
        self,
        clock: Clock,
        assume: AssumeRole,
        *,
        machine: Clock | None = None,
        new_id: Callable[[], object] = uuid.uuid4,
    ) -> None:
        self._clock = clock
        self._assume = assume
        self._machine = machine or SystemClock()
        self._new_id = new_id
        self._grants: dict[str, _Grant] = {}

    def grant(self, role_arn: str, *, task_id: str, region: str) -> str:
        """Makes the role's credentials available under a new id, which is returned. They are made when asked for."""
        credentials_id = str(self._new_id())
        self._grants[credentials_id] = _Grant(role_arn, task_id, region)
        return credentials_id

    def revoke(self, credentials_id: str) -> None:
        """The id is answered no more. Harmless when it is unknown. Keys that were given out expire by themselves."""
        self._grants.pop(credentials_id, None)

    async def get(self, credentials_id: str) -> dict[str, Any] | None:
        """The answer to a container's request, None for an unknown id."""
        grant = self._grants.get(credentials_id)
        if grant is None:
            return None
        async with grant.renewing:
            if self._is_due(grant):
                await self._renew(grant)
        session, expiration = grant.session, grant.shown_expiration
        if session is None or expiration is None:
            raise SunaboxError(f"No credentials for {grant.role_arn}. Please report this.")
        return {
            "RoleArn": session.role_arn,
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_access_key,
            "Token": session.token,
            "Expiration": f"{expiration:%Y-%m-%dT%H:%M:%SZ}",
        }

    def _is_due(self, grant: _Grant) -> bool:
        if grant.expires_at is None or grant.shown_expiration is None:
            return True
        left = min(grant.expires_at - self._clock.now(), grant.shown_expiration - self._machine.now())
        return left <= _RENEWED_BEFORE

    async def _renew(self, grant: _Grant) -> None:
        now = self._clock.now()
        grant.session = await self._assume(
            grant.role_arn, grant.session_name, region=grant.region, duration=LIFETIME, now=now
        )
        grant.expires_at = now + LIFETIME
        grant.shown_expiration = max(now, self._machine.now()) + LIFETIME
