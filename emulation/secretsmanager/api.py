"""The seam into moto's Secrets Manager. Runs on the API thread."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from moto.core.exceptions import JsonRESTError
from moto.secretsmanager import models, urls
from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import secretsmanager_backends

from emulation.errors import SunaboxError

Rotate = Callable[[str, str, str], object]
"""(account, region, ARN of the secret). Raises SunaboxError."""


class SecretsManagerError(SunaboxError):
    """What the API would answer: "ResourceNotFoundException: Secrets Manager can't find the specified secret."."""


class SecretsManagerBackend(models.SecretsManagerBackend):
    """moto's, but a secret that a service manages is rotated by that service."""

    rotations: ClassVar[Mapping[str, Rotate]] = {}

    @property
    def _url_module(self) -> Any:
        return urls

    def rotate_secret(self, secret_id: str, *args: Any, **kwargs: Any) -> str:
        secret = self.secrets.get(secret_id)
        rotate = self.rotations.get(secret.owning_service or "") if secret is not None else None
        if secret is None or rotate is None or isinstance(secret, models.ReplicaSecret):
            return super().rotate_secret(secret_id, *args, **kwargs)
        try:
            rotate(self.account_id, self.region_name, secret.arn)
        except SunaboxError as problem:
            raise InvalidRequestException(str(problem)) from problem
        return secret.to_short_dict(version_id=secret.default_version_id)


def install(rotations: Mapping[str, Rotate]) -> None:
    """Puts our backend in moto's place. `rotations` are by the name of the service that manages the secret."""
    SecretsManagerBackend.rotations = rotations
    models.secretsmanager_backends.backend = SecretsManagerBackend


def get_secret_value(
    account: str, region: str, secret_id: str, version_id: str | None = None, version_stage: str | None = None
) -> str | None:
    """A secret's string; None where it is binary. `secret_id` is a name or an ARN. Raises SecretsManagerError.

    Source: AWS Secrets Manager API Reference, GetSecretValue.
    """
    regions = secretsmanager_backends[account]
    if region not in regions:
        raise SecretsManagerError(f"lookup secretsmanager.{region}.amazonaws.com: no such host")
    try:
        # moto takes None for "not given", its types do not say so.
        answer = regions[region].get_secret_value(secret_id, version_id, version_stage)  # type: ignore[arg-type]
    except JsonRESTError as error:
        raise SecretsManagerError(f"{error.error_type}: {error.message}") from error
    value = answer.get("SecretString")
    return None if value is None else str(value)


def create_managed_secret(
    account: str, region: str, service: str, name: str, value: str, description: str, kms_key_id: str, tag: str
) -> tuple[str, str]:
    """A secret that a service manages, such as RDS for a master user: its ARN and its key's ARN.

    `tag` is "key=value". `kms_key_id` '' means aws/secretsmanager. Source: Secrets managed by other AWS services.
    """
    key, _, tagged = tag.partition("=")
    secret = secretsmanager_backends[account][region].create_managed_secret(
        service_name=service,
        secret_id=name,
        secret_string=value,
        description=description,
        kms_key_id=kms_key_id or None,
        tags=[{"Key": key, "Value": tagged}],
    )
    used = kms_key_id or "alias/aws/secretsmanager"
    return secret.arn, used if used.startswith("arn:") else f"arn:aws:kms:{region}:{account}:{used}"


def put_secret_value(account: str, region: str, arn: str, value: str) -> None:
    """A new version of a secret, the AWSCURRENT one. Raises SecretsManagerError."""
    nothing: Any = None
    try:
        secretsmanager_backends[account][region].put_secret_value(arn, value, nothing, nothing, ["AWSCURRENT"])
    except JsonRESTError as error:
        raise SecretsManagerError(f"{error.error_type}: {error.message}") from error


def delete_secret(account: str, region: str, arn: str) -> None:
    """At once. Harmless when it is gone."""
    with suppress(JsonRESTError):
        secretsmanager_backends[account][region].delete_secret(arn, None, True)
