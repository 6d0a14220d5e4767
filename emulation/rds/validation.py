"""What a real RDS refuses before it begins, in its words.

Source: Amazon RDS API reference, CreateDBInstance, ModifyDBInstance, CreateDBSnapshot; Quotas and constraints.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from emulation.rds.failures import RdsError, invalid_combination, invalid_value, not_emulated

_IDENTIFIER = re.compile(r"[a-zA-Z](?:-?[a-zA-Z0-9])*")
_CLASS = re.compile(r"db\.[a-z0-9]+(?:-[a-z0-9]+)?\.[a-z0-9]+(?:\.[a-z0-9.]+)?")
_WINDOW = re.compile(r"([a-z]{3}):(\d\d):(\d\d)-([a-z]{3}):(\d\d):(\d\d)")
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ENGINES = frozenset(
    "aurora-mysql aurora-postgresql mysql mariadb oracle-ee oracle-ee-cdb oracle-se2 oracle-se2-cdb sqlserver-ee "
    "sqlserver-se sqlserver-ex sqlserver-web custom-oracle-ee custom-sqlserver-ee db2-ae db2-se".split()
)
_RESERVED = frozenset("rdsadmin rds_superuser rds_replication rds_password rds_iam admin postgres_admin public".split())
_STORAGE = {"gp2": (20, 65536), "gp3": (20, 65536), "io1": (100, 65536), "io2": (100, 65536), "standard": (5, 3072)}
_MAJORS = {11: 22, 12: 22, 13: 23, 14: 22, 15: 18, 16: 14, 17: 10, 18: 6}
"""Major versions that RDS has had, and a minor one that is certainly not newer than the last."""

PORTS = range(1150, 65536)


def required(request: Mapping[str, Any], name: str) -> Any:
    value = request.get(name)
    if value in (None, ""):
        raise invalid_value(f"The parameter {name} must be provided and must not be blank.")
    return value


def identifier(name: str, value: str, longest: int = 63) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise invalid_value(
            f"The parameter {name} is not a valid identifier. Identifiers must begin with a letter; must contain only "
            "ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
        )
    if len(value) > longest:
        raise invalid_value(
            f"The parameter {name} is not a valid identifier because it is longer than {longest} characters."
        )
    return value.lower()


def engine(name: str) -> str:
    if name == "postgres":
        return name
    if name in _ENGINES:
        raise not_emulated(f"the engine {name}: it has no server of that kind; postgres is there")
    raise invalid_value(f"Invalid DB engine: {name}")


def version(engine_name: str, asked: str | None, given: str) -> str:
    """The version that was asked for, in full where only its major number was given. `given` is the default."""
    if not asked:
        return given
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:-R\d+)?", asked)
    known = match is not None and int(match[2] or 0) <= _MAJORS.get(int(match[1]), -1)
    if asked != given and not known:
        raise RdsError("InvalidParameterCombination", f"Cannot find version {asked} for {engine_name}")
    return asked


def instance_class(name: str) -> str:
    if not _CLASS.fullmatch(name):
        raise invalid_value(f"Invalid DB Instance class: {name}")
    return name


def master_username(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,62}", name):
        raise invalid_value(
            "The parameter MasterUsername is not a valid identifier. Identifiers must begin with a letter; "
            "must contain only ASCII letters, digits, and underscores; and must have 1 to 63 characters."
        )
    if name.lower() in _RESERVED or name.lower().startswith("pg_"):
        raise invalid_value(f"MasterUsername {name} cannot be used as it is a reserved word used by the engine")
    return name


def master_password(value: str) -> str:
    if any(not 33 <= ord(character) <= 126 or character in '/@"' for character in value):
        raise invalid_value(
            "The parameter MasterUserPassword is not a valid password. "
            "Only printable ASCII characters besides '/', '@', '\"', ' ' may be used."
        )
    if len(value) < 8:
        raise invalid_value(
            "The parameter MasterUserPassword is not a valid password because it is shorter than 8 characters."
        )
    if len(value) > 128:
        raise invalid_value(
            "The parameter MasterUserPassword is not a valid password because it is longer than 128 characters."
        )
    return value


def database(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,62}", name):
        raise invalid_value("DBName must begin with a letter and contain only alphanumeric characters.")
    if name.lower() in ("rdsadmin", "template0", "template1"):
        raise invalid_value(f"DBName {name} cannot be used. It is a reserved word for this engine")
    return name


def storage(engine_name: str, kind: str, gib: int, most: int | None = None) -> None:
    if kind not in _STORAGE:
        raise invalid_value(f"Invalid storage type: {kind}")
    low, high = _STORAGE[kind]
    if not low <= gib <= high:
        raise invalid_value(f"Invalid storage size for engine name {engine_name} and storage type {kind}: {gib}")
    if most is not None and not gib <= most <= high:
        raise invalid_value(f"Invalid max storage size for engine name {engine_name} and storage type {kind}: {most}")


def port(value: int) -> int:
    if value not in PORTS:
        raise invalid_value(f"Invalid endpoint port: {value}. Valid values are between 1150 and 65535.")
    return value


def backup_retention(days: int) -> int:
    if not 0 <= days <= 35:
        raise invalid_value(f"Invalid backup retention period: {days}. Must be between 0 and 35.")
    return days


def backup_window(text: str) -> str:
    if not _TIME_OF_DAY.fullmatch(text):
        raise invalid_value(
            f"Invalid backup window format: {text}. Should be specified as a range hh24:mi-hh24:mi (24H Clock UTC)."
        )
    return text


def maintenance_window(text: str) -> str:
    match = _WINDOW.fullmatch(text.lower())
    if match is None or match[1] not in _DAYS or match[4] not in _DAYS:
        raise invalid_value(
            f"Invalid maintenance window format: {text}. Should be specified as a range ddd:hh24:mi-ddd:hh24:mi "
            "(24H Clock UTC). Example: Sun:23:45-Mon:00:15"
        )
    return text.lower()


def next_window(text: str, now: datetime) -> datetime:
    """When a maintenance window opens next; `now` where it is open."""
    match = _WINDOW.fullmatch(text)
    assert match is not None, "windows are checked when they are given"
    monday = (now - timedelta(days=now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    begins, ends = (
        timedelta(days=_DAYS.index(match[n]), hours=int(match[n + 1]), minutes=int(match[n + 2])) for n in (1, 4)
    )
    if ends <= begins:
        ends += timedelta(days=7)
    for week in (-1, 0, 1):
        start = monday + timedelta(days=7 * week)
        if now < start + ends:
            return max(now, start + begins)
    raise AssertionError("a week has a window")


def zones(names: set[str]) -> None:
    if len(names) < 2:
        raise RdsError(
            "DBSubnetGroupDoesNotCoverEnoughAZs",
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. "
            f"Current AZ coverage: {', '.join(sorted(names))}. Add subnets to cover at least 2 AZs.",
        )


def deletion(request: Mapping[str, Any]) -> str:
    """The identifier of the final snapshot, '' for none."""
    final, skip = request.get("FinalDBSnapshotIdentifier"), request.get("SkipFinalSnapshot")
    if skip and final:
        raise invalid_combination("FinalDBSnapshotIdentifier cannot be specified when SkipFinalSnapshot is enabled.")
    if not skip and not final:
        raise invalid_combination("FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.")
    return identifier("FinalDBSnapshotIdentifier", final, 255) if final else ""


def unsupported(request: Mapping[str, Any]) -> None:
    """Members of a request that Sunabox would only pretend to obey."""
    for name, what in {
        "DBClusterIdentifier": "DB clusters",
        "EnableIAMDatabaseAuthentication": "IAM database authentication",
        "Domain": "Active Directory domains",
        "EnablePerformanceInsights": "Performance Insights",
        "CustomIamInstanceProfile": "RDS Custom",
        "DBSecurityGroups": "DB security groups (of EC2-Classic)",
        "NewDBInstanceIdentifier": "renaming a DB instance",
    }.items():
        if request.get(name):
            raise not_emulated(what)
