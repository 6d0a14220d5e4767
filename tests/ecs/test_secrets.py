"""Secrets: what valueFrom refers to, the values, and the words of ECS where one cannot be had."""

import json
from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest

from emulation.ecs.secrets import (
    InvalidSecret,
    Parameter,
    SecretsError,
    StoredSecret,
    parse_value_from,
    resolve,
    validate,
)
from emulation.secretsmanager import api as secretsmanager_api
from emulation.ssm import api as ssm_api

REGION = "eu-central-1"
FAILED = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
_accounts = count(222_222_222_222)


@pytest.fixture
def account() -> str:
    return str(next(_accounts))


def parameter(account: str, name: str, value: str, kind: str = "String", region: str = REGION) -> None:
    ssm_api.ssm_backends[account][region].put_parameter(
        name=name,
        description="",
        value=value,
        parameter_type=kind,
        allowed_pattern=None,
        keyid=None,
        overwrite=True,
        tags=[],
        data_type="text",
        tier=None,
        policies=None,
    )


def secret(account: str, name: str, value: str, region: str = REGION) -> str:
    backend = secretsmanager_api.secretsmanager_backends[account][region]
    created = backend.create_secret(
        name=name,
        secret_string=value,
        secret_binary=None,
        description=None,
        tags=[],
        kms_key_id=None,
        client_request_token=None,
        replica_regions=[],
        force_overwrite=False,
    )
    return str(json.loads(created)["ARN"])


def resolved(account: str, **secrets: str) -> dict[str, str]:
    return resolve(
        list(secrets.items()),
        account=account,
        region=REGION,
        get_parameters=ssm_api.get_parameters,
        get_secret_value=secretsmanager_api.get_secret_value,
    )


ASM = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"


@pytest.mark.parametrize(
    ("value_from", "reference"),
    [
        ("/app/password", Parameter("1", REGION, "/app/password")),
        (
            "arn:aws:ssm:eu-west-1:123456789012:parameter/app/password",
            Parameter("123456789012", "eu-west-1", "arn:aws:ssm:eu-west-1:123456789012:parameter/app/password"),
        ),
        (ASM, StoredSecret("123456789012", "eu-west-1", ASM)),
        (f"{ASM}:password::", StoredSecret("123456789012", "eu-west-1", ASM, "password")),
        (f"{ASM}::AWSPREVIOUS:", StoredSecret("123456789012", "eu-west-1", ASM, "", "AWSPREVIOUS")),
        (f"{ASM}:k:s:v", StoredSecret("123456789012", "eu-west-1", ASM, "k", "s", "v")),
    ],
)
def test_value_from_is_understood_in_all_documented_forms(value_from: str, reference: object) -> None:
    """A parameter's name or ARN, a secret's ARN with or without a selection."""
    assert parse_value_from(value_from, account="1", region=REGION) == reference


@pytest.mark.parametrize("value_from", ["", "a b", f"{ASM}:password", "arn:aws:s3:::bucket", "arn:aws:ssm"])
def test_a_value_from_that_means_nothing_is_refused_at_registration(value_from: str) -> None:
    """RegisterTaskDefinition answers ClientException with this message."""
    with pytest.raises(InvalidSecret, match="^The Systems Manager parameter name specified for secret PASSWORD is inv"):
        validate([("PASSWORD", value_from)], account="1", region=REGION)


def test_parameters_and_secrets_are_fetched_by_name_and_arn(account: str) -> None:
    """Also SecureStrings (decrypted), versions, other regions, and members of JSON secrets."""
    parameter(account, "/app/url", "http://db")
    parameter(account, "key", "hidden", "SecureString")
    parameter(account, "key", "newer", "SecureString")
    parameter(account, "far", "away", region="us-east-1")
    arn = secret(account, "db", '{"user": "app", "port": 5432, "tls": true, "x": {"b": [1, null], "a": 0.5}}')
    plain = secret(account, "plain", "text", region="us-east-1")
    assert resolved(
        account,
        URL="/app/url",
        URL_BY_ARN=f"arn:aws:ssm:{REGION}:{account}:parameter/app/url",
        KEY="key",
        KEY_BY_ARN=f"arn:aws:ssm:{REGION}:{account}:parameter/key",
        FAR=f"arn:aws:ssm:us-east-1:{account}:parameter/far",
        USER=f"{arn}:user::",
        PORT=f"{arn}:port:AWSCURRENT:",
        TLS=f"{arn}:tls::",
        X=f"{arn}:x::",
        PLAIN=plain,
        PARTIAL=plain[: -len("-AbCdEf")],
    ) == {
        "URL": "http://db",
        "URL_BY_ARN": "http://db",
        "KEY": "newer",
        "KEY_BY_ARN": "newer",
        "FAR": "away",
        "USER": "app",
        "PORT": "5432",
        "TLS": "true",
        "X": "map[a:0.5 b:[1 <nil>]]",
        "PLAIN": "text",
        "PARTIAL": "text",
    }


def test_more_than_ten_parameters_are_fetched_in_several_calls() -> None:
    """GetParameters takes ten names."""
    asked: list[list[str]] = []

    def get_parameters(account: str, region: str, names: Iterable[str]) -> dict[str, str]:
        asked.append(list(names))
        return {name: name.upper() for name in asked[-1]}

    def get_secret_value(*_: Any) -> str | None:
        raise AssertionError("not asked for")

    secrets = [(f"S{n}", f"p{n}") for n in range(23)]
    values = resolve(
        secrets, account="1", region=REGION, get_parameters=get_parameters, get_secret_value=get_secret_value
    )
    assert values == {f"S{n}": f"P{n}" for n in range(23)}
    assert [len(names) for names in asked] == [10, 10, 3]


def test_missing_parameters_are_the_tasks_stop_reason(account: str) -> None:
    """All that are missing are named."""
    parameter(account, "there", "x")
    with pytest.raises(SecretsError) as raised:
        resolved(account, A="there", B="/gone", C="lost")
    assert str(raised.value) == (
        FAILED + "unable to retrieve secrets from ssm: service call has been retried 1 time(s): "
        "invalid ssm parameters: /gone,lost"
    )


def test_a_missing_secret_is_the_tasks_stop_reason(account: str) -> None:
    """In the words of ECS and of Secrets Manager."""
    arn = f"arn:aws:secretsmanager:{REGION}:{account}:secret:gone-AbCdEf"
    with pytest.raises(SecretsError) as raised:
        resolved(account, PASSWORD=f"{arn}:password::")
    assert str(raised.value) == (
        FAILED + "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret "
        f"{arn} from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret."
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"user": "app"}', "retrieved secret from Secrets Manager did not contain json key password"),
        ("'single'", r"invalid character '\'' looking for beginning of value"),
        ("plain", "invalid character 'p' looking for beginning of value"),
        ('{"user": ', "unexpected end of JSON input"),
        ('"text"', "json: cannot unmarshal string into Go value of type map[string]interface {}"),
    ],
)
def test_a_json_key_that_is_not_there_is_the_tasks_stop_reason(account: str, value: str, words: str) -> None:
    """The secret may lack the member, or be no JSON object at all."""
    arn = secret(account, "db", value)
    with pytest.raises(SecretsError) as raised:
        resolved(account, PASSWORD=f"{arn}:password::")
    assert str(raised.value) == (
        FAILED + f"unable to retrieve secret from asm: service call has been retried 1 time(s): {words}"
    )
