"""DB parameter groups: which parameters there are, which values are taken, and what they mean for a server.

Source: Working with parameter groups; Amazon RDS API reference, ModifyDBParameterGroup, DescribeDBParameters.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from emulation.rds.failures import invalid_combination, invalid_value
from emulation.rds.parameters import OWN, RDS_PARAMETERS, Chosen, Parameter, fits

_MOST = 20
_FAMILIES = tuple(f"postgres{major}" for major in range(11, 19))


def check_family(family: str) -> None:
    if family not in _FAMILIES and family.startswith("postgres"):
        raise invalid_value(f"ParameterGroupFamily {family} is not a valid parameter group family")


def family_of_default(name: str) -> str:
    """The family of a default parameter group, which is there without having been created; '' for other names."""
    family = name.lower().removeprefix("default.")
    return family if family in _FAMILIES and name.lower().startswith("default.") else ""


def check_changes(changes: Iterable[Mapping[str, Any]], known: Mapping[str, Parameter]) -> None:
    """Raises RdsError for the first change that AWS would not take. An empty `known` takes every name."""
    listed = list(changes)
    if len(listed) > _MOST:
        raise invalid_value(f"The request may have at most {_MOST} parameters; it has {len(listed)}.")
    for change in listed:
        name, value = str(change.get("ParameterName", "")).lower(), str(change.get("ParameterValue", ""))
        method = change.get("ApplyMethod", "")
        if method not in ("immediate", "pending-reboot"):
            raise invalid_value(f"Invalid apply method: {method}")
        parameter = RDS_PARAMETERS.get(name) or known.get(name)
        if parameter is None:
            if known:
                raise invalid_value(f"Could not find parameter with name: {name}")
            continue
        if name in OWN:
            raise invalid_value(f"The parameter {name} cannot be modified.")
        if not fits(parameter, value):
            allowed = parameter.allowed or parameter.kind
            raise invalid_value(f"Invalid parameter value: {value} for: {name} allowed values are: {allowed}")
        if parameter.static and method == "immediate":
            raise invalid_combination("cannot use immediate apply method for static parameter")


def chosen(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Chosen]:
    """moto's record of a group's parameters, as values."""
    return {
        name.lower(): Chosen(str(values["ParameterValue"]), str(values.get("ApplyMethod") or "immediate"))
        for name, values in parameters.items()
        if values.get("ParameterValue") is not None
    }


def describe(
    known: Mapping[str, Parameter], parameters: Mapping[str, Mapping[str, Any]], source: str | None
) -> list[dict[str, Any]]:
    """DescribeDBParameters: all parameters, those of the group with their values."""
    own = chosen(parameters)
    everything = {**known, **RDS_PARAMETERS}
    rows = []
    for name, parameter in sorted(everything.items()):
        row: dict[str, Any] = {
            "ParameterName": name,
            "Description": parameter.description,
            "Source": "user" if name in own else "engine-default",
            "ApplyType": "static" if parameter.static else "dynamic",
            "DataType": parameter.kind,
            "IsModifiable": name not in OWN,
            "ApplyMethod": own[name].apply_method if name in own else "pending-reboot",
        }
        if name in own:
            row["ParameterValue"] = own[name].value
        if parameter.allowed:
            row["AllowedValues"] = parameter.allowed
        if source in (None, row["Source"]):
            rows.append(row)
    return rows
