"""Authorization tokens: what GetAuthorizationToken gives, and what a registry client then presents.

A token says whose registry it is for and until when, and is signed; nothing is kept, so it outlives a restart on the
same data folder, as `docker login` expects.

Source: Amazon ECR User Guide, "Private registry authentication" (user AWS, valid for 12 hours).
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

USER = "AWS"
VALIDITY = timedelta(hours=12)


class TokenInvalid(Exception):
    """The message is for the client."""


@dataclass(frozen=True, slots=True)
class Token:
    account: str
    region: str
    expires_at: datetime


def issue_password(key: bytes, token: Token) -> str:
    """The password for the user AWS."""
    claims = json.dumps([token.account, token.region, int(token.expires_at.timestamp())]).encode()
    return f"{base64.urlsafe_b64encode(claims).decode()}.{_signature(key, claims)}"


def authorization_token(key: bytes, token: Token) -> str:
    """What GetAuthorizationToken gives: user and password, as Basic authentication writes them."""
    return base64.b64encode(f"{USER}:{issue_password(key, token)}".encode()).decode()


def read_password(key: bytes, password: str, now: datetime) -> Token:
    """Raises TokenInvalid where the password is not one that was given, or has expired."""
    text, _, signature = password.partition(".")
    try:
        claims = base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError):
        raise TokenInvalid(_NOT_OURS) from None
    if not hmac.compare_digest(_signature(key, claims).encode(), signature.encode()):
        raise TokenInvalid(_NOT_OURS)
    account, region, expires = json.loads(claims)
    token = Token(account, region, datetime.fromtimestamp(expires, UTC))
    if token.expires_at <= now:
        raise TokenInvalid("Your authorization token has expired. Reauthenticate and try again.")
    return token


def read_authorization(key: bytes, header: str, now: datetime) -> Token:
    """The token in an Authorization header (Basic, user AWS). Raises TokenInvalid."""
    scheme, _, encoded = header.partition(" ")
    try:
        user, _, password = base64.b64decode(encoded.strip()).decode().partition(":")
    except (binascii.Error, ValueError):
        raise TokenInvalid(_NOT_OURS) from None
    if scheme.lower() != "basic" or user != USER:
        raise TokenInvalid(_NOT_OURS)
    return read_password(key, password, now)


_NOT_OURS = (
    "Your authorization token is invalid. Get one by `aws ecr get-login-password`, and log in with it as the user AWS."
)


def _signature(key: bytes, claims: bytes) -> str:
    return hmac.new(key, claims, hashlib.sha256).hexdigest()
