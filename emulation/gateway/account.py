"""Whose AWS account a request speaks to: the access key says it."""

import re

DEFAULT_ACCOUNT = "000000000000"
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")
_SIGNATURE_V2 = re.compile(r"^AWS ([^:\s]+):")
_ACCOUNT = re.compile(r"\d{12}")


def access_key(authorization: str, query: str) -> str:
    """The access key id of a request, from its Authorization header or (presigned) its query; '' for neither."""
    for pattern in (_CREDENTIAL, _SIGNATURE_V2):
        if match := pattern.search(authorization):
            return match.group(1)
    if match := re.search(r"X-Amz-Credential=([^/%&]+)", query) or re.search(r"AWSAccessKeyId=([^&]+)", query):
        return match.group(1)
    return ""


def account_of(key: str) -> str:
    """The account that an access key names: a key of 12 digits is the account itself; '' where IAM has to be asked."""
    if _ACCOUNT.fullmatch(key):
        return key
    return "" if key.startswith(("AKIA", "ASIA")) and len(key) == 20 else DEFAULT_ACCOUNT
