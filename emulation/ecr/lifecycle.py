"""Lifecycle policies: read as strictly as AWS does, and which images they expire. Pure.

Source: Amazon ECR User Guide, "Automate the cleanup of images by using lifecycle policies" (Lifecycle policy evaluation
rules), "Lifecycle policy properties" and "Examples of lifecycle policies".
"""

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from emulation.ecr.errors import LifecyclePolicyInvalid

_MOST_RULES = 50
_MOST_STARS = 4
_SINCE = ("sinceImagePushed", "sinceImagePulled")
_NOT_EMULATED = "Sunabox does not emulate the archive storage class: {} is refused. Use the action expire."


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image as the planner sees it. `is_child`: an index names it."""

    digest: str
    tags: tuple[str, ...]
    pushed_at: datetime
    pulled_at: datetime | None = None
    is_child: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`tag_patterns` are wildcards, prefixes too ("prod" is "prod*"); an image's tags must meet all of them."""

    priority: int
    tag_status: str
    tag_patterns: tuple[str, ...]
    count_type: str
    count_number: int

    def selects(self, image: Candidate) -> bool:
        """Whether the image meets the rule's tagging requirements."""
        match self.tag_status:
            case "any":
                return True
            case "untagged":
                return not image.tags
            case _:
                return all(
                    any(fnmatch.fnmatchcase(tag, pattern) for tag in image.tags) for pattern in self.tag_patterns
                )

    def marks(self, images: Sequence[Candidate], now: datetime) -> list[Candidate]:
        """Those of the selected images, oldest first, that are too many or too old."""
        selected = [image for image in images if self.selects(image)]
        selected.sort(key=lambda image: (image.pushed_at, image.digest))
        if self.count_type == "imageCountMoreThan":
            return selected[: max(0, len(selected) - self.count_number)]
        limit = now - timedelta(days=self.count_number)
        if self.count_type == "sinceImagePulled":
            return [image for image in selected if (image.pulled_at or image.pushed_at) < limit]
        return [image for image in selected if image.pushed_at < limit]


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in the order of their priorities."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Expiration:
    image: Candidate
    rule_priority: int
    cause: str

    def __str__(self) -> str:
        return f"ExpireImage {','.join(self.image.tags) or '<untagged>'} {self.image.digest} — {self.cause}"


def plan_expirations(images: Sequence[Candidate], policy: Policy, now: datetime) -> list[Expiration]:
    """What the policy expires: oldest first within each rule, rules by priority.

    Every rule looks at all images, as if no other rule had expired any. An image that meets the tagging requirements of
    a rule is expired by that rule or by none that comes after it. An image that an index names stays as long as the
    index does.
    """
    expired: dict[str, Expiration] = {}
    claimed: set[str] = set()
    for rule in policy.rules:
        for image in rule.marks(images, now):
            if image.digest not in claimed and not image.is_child:
                expired[image.digest] = Expiration(image, rule.priority, _cause(rule))
        claimed.update(image.digest for image in images if rule.selects(image))
    return list(expired.values())


def _cause(rule: Rule) -> str:
    if rule.count_type == "imageCountMoreThan":
        return f"rule {rule.priority} keeps {rule.count_number} images"
    verb = "pushed" if rule.count_type == "sinceImagePushed" else "pulled"
    return f"rule {rule.priority} expires images {verb} more than {rule.count_number} days ago"


# --- Reading a policy


def parse_policy(text: str) -> Policy:
    """Raises LifecyclePolicyInvalid, in the words of AWS's schema validator."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise LifecyclePolicyInvalid("Could not map policyString into LifecyclePolicy.")
    _check_properties(document, required=("rules",), optional=())
    if not isinstance(document["rules"], list):
        raise _wrong_type(document["rules"], "array")
    if not 1 <= len(document["rules"]) <= _MOST_RULES:
        raise LifecyclePolicyInvalid(f"a policy has 1 to {_MOST_RULES} rules, found: {len(document['rules'])}")
    rules = sorted((_rule(rule) for rule in document["rules"]), key=lambda rule: rule.priority)
    _check_together(rules)
    return Policy(tuple(rules))


def _rule(value: object) -> Rule:
    rule = _object(value)
    _check_properties(rule, required=("rulePriority", "selection", "action"), optional=("description",))
    if not isinstance(rule.get("description", ""), str):
        raise _wrong_type(rule["description"], "string")
    action = _object(rule["action"])
    _check_properties(action, required=("type",), optional=("targetStorageClass",))
    if action["type"] == "transition":
        raise LifecyclePolicyInvalid(_NOT_EMULATED.format("the action transition"))
    _check_enum(action["type"], ("expire",))
    if "targetStorageClass" in action:
        raise LifecyclePolicyInvalid(_not_allowed("targetStorageClass"))
    selection = _object(rule["selection"])
    _check_properties(
        selection,
        required=("countNumber", "countType", "tagStatus"),
        optional=("tagPatternList", "tagPrefixList", "countUnit", "storageClass"),
    )
    if selection.get("storageClass", "standard") != "standard":
        raise LifecyclePolicyInvalid(_NOT_EMULATED.format("storageClass archive"))
    _check_enum(selection["tagStatus"], ("any", "tagged", "untagged"))
    if selection["countType"] == "sinceImageTransitioned":
        raise LifecyclePolicyInvalid(_NOT_EMULATED.format("countType sinceImageTransitioned"))
    _check_enum(selection["countType"], ("imageCountMoreThan", *_SINCE))
    if selection["countType"] in _SINCE:
        _check_properties(selection, required=("countUnit",), optional=tuple(selection))
        _check_enum(selection["countUnit"], ("days",))
    elif "countUnit" in selection:
        raise LifecyclePolicyInvalid(_not_allowed("countUnit"))
    return Rule(
        _positive(rule["rulePriority"]),
        selection["tagStatus"],
        _patterns(selection),
        selection["countType"],
        _positive(selection["countNumber"]),
    )


def _patterns(selection: Mapping[str, Any]) -> tuple[str, ...]:
    prefixes, patterns = (_strings(selection.get(key, [])) for key in ("tagPrefixList", "tagPatternList"))
    if selection["tagStatus"] != "tagged":
        for key, given in (("tagPrefixList", prefixes), ("tagPatternList", patterns)):
            if given:
                raise LifecyclePolicyInvalid(f"{key} cannot be specified when tagStatus is {selection['tagStatus']}")
        return ()
    if bool(prefixes) == bool(patterns):
        raise LifecyclePolicyInvalid("a rule with tagStatus tagged needs either tagPrefixList or tagPatternList")
    if any(pattern.count("*") > _MOST_STARS for pattern in patterns):
        raise LifecyclePolicyInvalid(f"a pattern of tagPatternList has at most {_MOST_STARS} wildcards (*)")
    return tuple(
        [f"{_literal(prefix)}*" for prefix in prefixes] + [_literal(pattern, stars=True) for pattern in patterns]
    )


def _check_together(rules: Sequence[Rule]) -> None:
    priorities = [rule.priority for rule in rules]
    if len(set(priorities)) < len(priorities):
        raise LifecyclePolicyInvalid("rulePriority must be unique within a policy")
    if any(rule.tag_status == "any" for rule in rules[:-1]):
        raise LifecyclePolicyInvalid("a rule with tagStatus any must have the highest rulePriority")
    if sum(rule.tag_status == "untagged" for rule in rules) > 1:
        raise LifecyclePolicyInvalid("only one rule is allowed to select untagged images")
    tagged = [frozenset(rule.tag_patterns) for rule in rules if rule.tag_status == "tagged"]
    if len(set(tagged)) < len(tagged):
        raise LifecyclePolicyInvalid("the tag prefixes or patterns of each rule must be unique within a policy")


def _literal(text: str, *, stars: bool = False) -> str:
    special = "?[" if stars else "*?["
    return "".join(f"[{letter}]" if letter in special else letter for letter in text)


def _check_properties(value: Mapping[str, Any], *, required: Sequence[str], optional: Sequence[str]) -> None:
    missing = sorted(set(required) - value.keys())
    if missing:
        raise LifecyclePolicyInvalid(f"object has missing required properties ({json.dumps(missing)})")
    for key in value:
        if key not in required and key not in optional:
            raise LifecyclePolicyInvalid(_not_allowed(key))


def _not_allowed(key: str) -> str:
    return f'object instance has properties which are not allowed by the schema: (["{key}"])'


def _check_enum(value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        values = json.dumps(allowed)
        raise LifecyclePolicyInvalid(f"instance value ({value}) not found in enum :(possible values: {values})")


def _wrong_type(value: object, allowed: str) -> LifecyclePolicyInvalid:
    kind = _JSON_TYPES.get(type(value), "null")
    reason = f'instance type ({kind}) does not match any allowed primitive type (allowed: ["{allowed}"])'
    return LifecyclePolicyInvalid(reason)


_JSON_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "object")
    return value


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        raise _wrong_type(value, "array")
    for text in value:
        if not isinstance(text, str):
            raise _wrong_type(text, "string")
    return value


def _positive(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(value, "integer")
    if value < 1:
        reason = f"numeric instance is lower than the required minimum (minimum: 1, found: {value})"
        raise LifecyclePolicyInvalid(reason)
    return value
