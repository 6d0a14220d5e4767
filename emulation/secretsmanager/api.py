"""The seam into moto's Secrets Manager. Runs on the API thread."""

from moto.core.exceptions import JsonRESTError
from moto.secretsmanager.models import secretsmanager_backends

from emulation.errors import SunaboxError


class SecretsManagerError(SunaboxError):
    """What the API would answer: "ResourceNotFoundException: Secrets Manager can't find the specified secret."."""


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
