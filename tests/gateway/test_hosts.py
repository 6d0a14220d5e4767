"""Which requests the gateway takes, and whose account they speak to."""

import pytest

from emulation.gateway.account import access_key, account_of
from emulation.gateway.hosts import bucket_in, is_ours


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4566", "127.0.4.1", "localhost:4566", "[::1]:4566", "bucket.localhost:4566", "169.254.170.2",
     "s3.us-east-1.amazonaws.com", "x.s3.localhost.localstack.cloud:4566", "LOCALHOST", ""],
)  # fmt: skip
def test_names_of_ours_are_served(host: str) -> None:
    """Loopback, our own names, and AWS's, which a client may have been told to send here."""
    assert is_ours(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:4566", "10.0.0.1", "127.0.0.1.evil.example", "amazonaws.com.evil"]
)
def test_foreign_names_are_refused(host: str) -> None:
    """A page whose name was pointed at 127.0.0.1 sends its own name as the Host."""
    assert not is_ours(host)


def test_a_name_that_the_user_chose_is_served() -> None:
    """`--host` may be an address of the machine."""
    assert is_ours("10.0.0.1:4566", frozenset({"10.0.0.1"}))


@pytest.mark.parametrize(
    ("host", "bucket"),
    [("photos.localhost:4566", "photos"), ("photos.s3.localhost.localstack.cloud:4566", "photos"),
     ("s3.localhost:4566", ""), ("localhost:4566", ""), ("127.0.0.1:4566", "")],
)  # fmt: skip
def test_the_bucket_of_a_virtual_hosted_request(host: str, bucket: str) -> None:
    """S3 clients put the bucket before the endpoint's name."""
    assert bucket_in(host) == bucket


def test_a_key_of_twelve_digits_is_the_account() -> None:
    """Any other key of a test is the default account; keys in AWS's form are looked up in IAM."""
    signed = "AWS4-HMAC-SHA256 Credential=111122223333/20260101/eu-west-1/sqs/aws4_request, SignedHeaders=host"
    assert account_of(access_key(signed, "")) == "111122223333"
    assert account_of(access_key("", "X-Amz-Credential=111122223333%2F20260101%2Feu-west-1")) == "111122223333"
    assert account_of("test") == "000000000000"
    assert account_of("ASIAIOSFODNN7EXAMPLE") == ""
