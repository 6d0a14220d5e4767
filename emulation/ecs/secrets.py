"""Secrets of containers: what `valueFrom` refers to, and the values, fetched before the containers start.

Source: Amazon ECS Developer Guide, Pass Secrets Manager secrets / Systems Manager parameters through environment
variables; Amazon ECS stopped tasks error messages, ResourceInitializationError.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from emulation.errors import SunaboxError

_PREFIX = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
_RETRIED = "service call has been retried 1 time(s): "
_PARAMETER_NAME = re.compile(r"[\w.,/-]{1,2048}", re.ASCII)
_PARAMETERS_AT_ONCE = 10

Secret = tuple[str, str]
"""A secret of a container definition: the name of the environment variable, and valueFrom."""


class InvalidSecret(SunaboxError):
    """A `valueFrom` that RegisterTaskDefinition refuses. It answers ClientException with this message."""


class SecretsError(SunaboxError):
    """A secret could not be had. The message is the task's stoppedReason."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of Systems Manager Parameter Store. `name` is a name or an ARN."""

    account: str
    region: str
    name: str


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret of Secrets Manager, or the member `json_key` of one. `arn` may lack the six random characters."""

    account: str
    region: str
    arn: str
    json_key: str = ""
    version_stage: str = ""
    version_id: str = ""


class GetParameters(Protocol):
    """Parameters' values by the names asked for; those that do not exist are absent. Called on the API thread."""

    def __call__(self, account: str, region: str, names: Iterable[str]) -> Mapping[str, str]: ...


class GetSecretValue(Protocol):
    """A secret's string, None where it is binary. Raises SunaboxError ("<code>: <message>"). On the API thread."""

    def __call__(
        self, account: str, region: str, secret_id: str, version_id: str | None, version_stage: str | None
    ) -> str | None: ...


def parse_value_from(value_from: str, *, account: str, region: str) -> Parameter | StoredSecret:
    """What a `valueFrom` refers to. Names without an ARN are parameters of the task's region. Raises ValueError.

    arn:aws:secretsmanager:region:account:secret:name-AbCdEf[:json-key:version-stage:version-id], the last three of
    which may be empty; arn:aws:ssm:region:account:parameter/name; or a parameter's name.
    """
    if not value_from.startswith("arn:"):
        if not _PARAMETER_NAME.fullmatch(value_from):
            raise ValueError(value_from)
        return Parameter(account, region, value_from)
    parts = value_from.split(":", 5)
    if len(parts) < 6 or not parts[5]:
        raise ValueError("arn: not enough sections")
    _, _, service, its_region, its_account, resource = parts
    its_region, its_account = its_region or region, its_account or account
    if service == "ssm" and resource.startswith("parameter/"):
        return Parameter(its_account, its_region, value_from)
    if service != "secretsmanager" or not resource.startswith("secret:"):
        raise ValueError(f"unexpected service or resource in {value_from}")
    _, name, *selection = resource.split(":")
    if len(selection) not in (0, 3):
        raise ValueError("unexpected ARN format with parameters when trying to retrieve ASM secret")
    return StoredSecret(its_account, its_region, ":".join([*parts[:5], "secret", name]), *selection)


def validate(secrets: Iterable[Secret], *, account: str, region: str) -> None:
    """Checks as RegisterTaskDefinition does. Raises InvalidSecret in AWS's words. That the execution role is there is
    checked elsewhere."""
    for name, value_from in secrets:
        try:
            parse_value_from(value_from, account=account, region=region)
        except ValueError:
            raise InvalidSecret(
                f"The Systems Manager parameter name specified for secret {name} is invalid. The parameter name can be "
                "up to 2048 characters and include the following letters and symbols: a-zA-Z0-9_.-,"
            ) from None


def resolve(
    secrets: Iterable[Secret],
    *,
    account: str,
    region: str,
    get_parameters: GetParameters,
    get_secret_value: GetSecretValue,
) -> dict[str, str]:
    """The values of secrets by their names, parameters being fetched first. Raises SecretsError."""
    references: dict[str, Parameter | StoredSecret] = {}
    for name, value_from in secrets:
        try:
            references[name] = parse_value_from(value_from, account=account, region=region)
        except ValueError as error:
            raise SecretsError(f"{_PREFIX}{error}") from error
    parameters = [reference for reference in references.values() if isinstance(reference, Parameter)]
    found = _parameters(parameters, get_parameters)
    return {
        name: found[reference] if isinstance(reference, Parameter) else _secret(reference, get_secret_value)
        for name, reference in references.items()
    }


def _parameters(references: Iterable[Parameter], get_parameters: GetParameters) -> dict[Parameter, str]:
    by_store: dict[tuple[str, str], list[Parameter]] = {}
    for reference in dict.fromkeys(references):
        by_store.setdefault((reference.account, reference.region), []).append(reference)
    values: dict[Parameter, str] = {}
    for (account, region), wanted in by_store.items():
        for begin in range(0, len(wanted), _PARAMETERS_AT_ONCE):
            batch = wanted[begin : begin + _PARAMETERS_AT_ONCE]
            found = get_parameters(account, region, [reference.name for reference in batch])
            if missing := [reference.name for reference in batch if reference.name not in found]:
                failed = f"{_PREFIX}unable to retrieve secrets from ssm: {_RETRIED}"
                raise SecretsError(f"{failed}invalid ssm parameters: {','.join(missing)}")
            values |= {reference: found[reference.name] for reference in batch}
    return values


def _secret(reference: StoredSecret, get_secret_value: GetSecretValue) -> str:
    failed = f"{_PREFIX}unable to retrieve secret from asm: {_RETRIED}"
    try:
        text = get_secret_value(
            reference.account,
            reference.region,
            reference.arn,
            reference.version_id or None,
            reference.version_stage or None,
        )
    except SunaboxError as error:
        raise SecretsError(f"{failed}failed to fetch secret {reference.arn} from secrets manager: {error}") from error
    if not reference.json_key:
        return text or ""
    members = _json_object(text or "", failed)
    if reference.json_key not in members:
        raise SecretsError(
            f"{failed}retrieved secret from Secrets Manager did not contain json key {reference.json_key}"
        )
    return _go_text(members[reference.json_key])


def _json_object(text: str, failed: str) -> dict[str, Any]:
    """The ECS agent is written in Go; its decoder's words are what the stopped reason shows."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise SecretsError(f"{failed}unexpected end of JSON input") from error
        shown = repr(text[error.pos]) if text[error.pos] != "'" else r"'\''"
        raise SecretsError(f"{failed}invalid character {shown} looking for beginning of value") from error
    if not isinstance(value, dict):
        kinds: dict[type, str] = {list: "array", str: "string", bool: "bool", int: "number", float: "number"}
        kind = kinds.get(type(value), "null")
        raise SecretsError(f"{failed}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    return value


def _go_text(value: Any) -> str:
    """A member's value as the agent prints it (Go's %v): 5432 without a point, maps as map[key:value]."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case int() | float():
            number = float(value)
            if number.is_integer() and abs(number) < 1e21:
                return str(int(number))
            return repr(number)
        case dict():
            return f"map[{' '.join(f'{key}:{_go_text(value[key])}' for key in sorted(value))}]"
        case list():
            return f"[{' '.join(_go_text(member) for member in value)}]"
    return str(value)
