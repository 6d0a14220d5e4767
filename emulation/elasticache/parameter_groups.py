"""Cache parameter groups of an account: AWS's default ones, and those that were created.

Source: Amazon ElastiCache API reference, CreateCacheParameterGroup, ModifyCacheParameterGroup and their like.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from emulation.elasticache import versions
from emulation.elasticache.failures import ElastiCacheError, invalid_value, not_emulated
from emulation.elasticache.parameters import PARAMETERS, ParameterGroup, check_changes

_FAMILIES = tuple(dict.fromkeys(family for of in versions.FAMILIES.values() for family in of.values()))


class ParameterGroups:
    """`arn_of` makes an ARN of a name; `kept` are groups of before a restart, as `written` gave them."""

    def __init__(self, arn_of: Callable[[str], str], kept: Mapping[str, Any]) -> None:
        self._arn_of = arn_of
        self._groups: dict[str, ParameterGroup] = {}
        for family in _FAMILIES:
            for ending, values in (("", {}), (".cluster.on", {"cluster-enabled": "yes"})):
                name = f"default.{family}{ending}"
                about = f"Default parameter group for {family}{' with cluster mode on' if ending else ''}"
                self._groups[name] = ParameterGroup(name, family, about, arn_of(name), values)
        self._groups |= {name: ParameterGroup(**group) for name, group in kept.items()}

    def written(self) -> Mapping[str, Any]:
        return {name: asdict(group) for name, group in self._groups.items() if not group.is_default}

    def get(self, name: str) -> ParameterGroup:
        try:
            return self._groups[name]
        except KeyError:
            raise ElastiCacheError("CacheParameterGroupNotFound", f"CacheParameterGroup {name} not found.") from None

    def all(self) -> list[ParameterGroup]:
        return [self._groups[name] for name in sorted(self._groups)]

    def create(self, name: str, family: str, description: str) -> ParameterGroup:
        if family.startswith("memcached"):
            raise not_emulated("the engine memcached.")
        if family not in _FAMILIES:
            raise invalid_value(
                f"CacheParameterGroupFamily {family} is not a valid parameter group family. "
                f"There are: {', '.join(_FAMILIES)}."
            )
        if name in self._groups:
            raise ElastiCacheError("CacheParameterGroupAlreadyExists", f"CacheParameterGroup {name} already exists.")
        group = self._groups[name] = ParameterGroup(name, family, description, self._arn_of(name))
        return group

    def modify(self, name: str, changes: Mapping[str, str]) -> ParameterGroup:
        group = self._modifiable(name)
        check_changes(changes)
        self._groups[name] = replace(group, values={**group.values, **changes})
        return self._groups[name]

    def reset(self, name: str, parameters: list[str] | None) -> ParameterGroup:
        """All of them where `parameters` is None."""
        group = self._modifiable(name)
        for parameter in parameters or ():
            if parameter not in PARAMETERS:
                raise invalid_value(f"Parameter {parameter} doesn't exist")
        left = {} if parameters is None else {k: v for k, v in group.values.items() if k not in parameters}
        self._groups[name] = replace(group, values=left)
        return self._groups[name]

    def delete(self, name: str, users: list[str]) -> None:
        self._modifiable(name, what="deleted")
        if users:
            raise ElastiCacheError(
                "InvalidCacheParameterGroupState",
                f"One or more cache clusters are still members of this parameter group {name}, so the group cannot be "
                "deleted.",
            )
        del self._groups[name]

    def _modifiable(self, name: str, what: str = "modified") -> ParameterGroup:
        group = self.get(name)
        if group.is_default:
            raise invalid_value(f"The parameter group {name} is a default parameter group and cannot be {what}.")
        return group


def describe(group: ParameterGroup) -> dict[str, Any]:
    return {
        "CacheParameterGroupName": group.name,
        "CacheParameterGroupFamily": group.family,
        "Description": group.description,
        "IsGlobal": False,
        "ARN": group.arn,
    }


def describe_parameters(group: ParameterGroup, source: str | None) -> list[dict[str, Any]]:
    described = [
        parameter.describe(group.value(name), "user" if name in group.values and not group.is_default else "system")
        for name, parameter in PARAMETERS.items()
    ]
    return [one for one in described if source is None or one["Source"] == source]
