"""The seam into moto's Systems Manager Parameter Store. Runs on the API thread."""

from collections.abc import Iterable

from moto.ssm.models import ssm_backends


def get_parameters(account: str, region: str, names: Iterable[str]) -> dict[str, str]:
    """The values of parameters, decrypted, by the names that were asked for. Those that do not exist are absent.

    A name may be an ARN, and may select a version or label (name:3). Source: AWS Systems Manager API Reference,
    GetParameters.
    """
    regions = ssm_backends[account]
    if region not in regions:
        return {}
    values = {}
    for asked in names:
        for name in _candidates(asked):
            parameter = regions[region].get_parameters([name]).get(name)
            if parameter is not None:
                values[asked] = parameter.decrypt(parameter.value) or ""
                break
    return values


def _candidates(name: str) -> tuple[str, ...]:
    """The ARN of /a/b ends with parameter/a/b, that of c with parameter/c: so it may mean c or /c."""
    if not name.startswith("arn:"):
        return (name,)
    path = name.split(":", 5)[5].removeprefix("parameter")
    return (path, path.removeprefix("/"))
