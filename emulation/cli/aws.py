"""The AWS client of commands that speak to the emulated services."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emulation.errors import SunaboxError

_ACCESS_KEY = "test"
_REGION = "us-east-1"


def aws_client(service: str, endpoint_url: str) -> Any:
    """A boto3 client with the user's credentials and region where there are any, else of the default account."""
    import boto3
    from botocore.exceptions import BotoCoreError

    # Without credentials boto3 asks the instance metadata service, which takes seconds where there is none.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    try:
        session = boto3.Session()
        credentials = session.get_credentials()
        keys = {"aws_access_key_id": _ACCESS_KEY, "aws_secret_access_key": _ACCESS_KEY} if credentials is None else {}
        return session.client(service, endpoint_url=endpoint_url, region_name=session.region_name or _REGION, **keys)
    except BotoCoreError as error:
        raise SunaboxError(f"{error}") from error


@contextmanager
def aws_errors_explained() -> Iterator[None]:
    """Turns what an AWS client raises into one line for people."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        raise SunaboxError(f"{details.get('Code')}: {details.get('Message')}") from error
    except BotoCoreError as error:
        raise SunaboxError(f"{error}") from error
