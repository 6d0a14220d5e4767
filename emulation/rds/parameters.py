"""Parameters of PostgreSQL as a DB parameter group has them: what exists, what values fit, and AWS's formulas.

Source: Working with parameter groups; Specifying DB parameters (formulas, DBInstanceClassMemory).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

OWN = frozenset(
    "listen_addresses port unix_socket_directories unix_socket_permissions unix_socket_group data_directory "
    "config_file hba_file ident_file external_pid_file fsync full_page_writes ssl ssl_cert_file ssl_key_file "
    "dynamic_shared_memory_type archive_command archive_library archive_mode restore_command "
    "primary_conninfo log_destination logging_collector log_directory local_preload_libraries "
    "dynamic_library_path krb_server_keyfile allow_alter_system bonjour bonjour_name event_source".split()
)
"""What RDS keeps to itself. Source: Working with parameters on your RDS for PostgreSQL DB instance."""

_GIB = 1 << 30
_MEMORY_GIB = {
    "micro": 1.0, "small": 2.0, "medium": 4.0, "large": 8.0, "xlarge": 16.0, "2xlarge": 32.0, "4xlarge": 64.0,
    "8xlarge": 128.0, "12xlarge": 192.0, "16xlarge": 256.0, "24xlarge": 384.0, "32xlarge": 512.0,
}  # fmt: skip
_TERM = re.compile(r"\{\s*DBInstanceClassMemory\s*(?:([*/])\s*(\d+))?\s*\}")
_FORMULA = re.compile(r"^(?:(GREATEST|LEAST|SUM)\s*\((.+)\)|(\{[^}]*\}|-?\d+))$", re.IGNORECASE)


FORCE_SSL = "rds.force_ssl"


@dataclass(frozen=True, slots=True)
class Parameter:
    """`kind` is boolean, integer, float, string or list; `static` ones need a restart; `allowed` is AWS's notation."""

    name: str
    kind: str
    static: bool
    default: str = ""
    allowed: str = ""
    description: str = ""
    modifiable: bool = True


def fits(parameter: Parameter, value: str) -> bool:
    """Whether AWS would take the value. Formulas are checked by their form."""
    if parameter.kind == "boolean":
        return value.lower() in ("0", "1", "on", "off", "true", "false", "yes", "no")
    if parameter.kind not in ("integer", "float"):
        return True
    if "{" in value or "(" in value:
        return evaluate(value, "db.t3.micro") is not None
    try:
        number = float(value)
    except ValueError:
        return False
    low, _, high = parameter.allowed.rpartition("-")
    try:
        return (not low or number >= float(low)) and (not high or number <= float(high))
    except ValueError:
        return True


def evaluate(text: str, instance_class: str) -> str | None:
    """The value of a parameter for an instance of that class; None where a formula is none."""
    if "{" not in text and "(" not in text:
        return text
    match = _FORMULA.match(text.strip())
    if match is None:
        return None
    function, inside, single = match.groups()
    terms = [_term(part, instance_class) for part in (inside.split(",") if function else [single])]
    numbers = [term for term in terms if term is not None]
    if len(numbers) != len(terms):
        return None
    match (function or "SUM").upper():
        case "GREATEST":
            return str(max(numbers))
        case "LEAST":
            return str(min(numbers))
        case _:
            return str(sum(numbers))


def _term(text: str, instance_class: str) -> int | None:
    text = text.strip()
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    match = _TERM.fullmatch(text)
    if match is None:
        return None
    memory = memory_bytes(instance_class)
    operator, operand = match.groups()
    if operator is None:
        return memory
    return memory * int(operand) if operator == "*" else memory // max(1, int(operand))


def memory_bytes(instance_class: str) -> int:
    """The memory of a class, as far as its name tells. Source: Hardware specifications for DB instance classes."""
    family, _, size = instance_class.removeprefix("db.").partition(".")
    gib = _MEMORY_GIB.get(size, 8.0)
    if "xlarge" in size or size == "large":
        gib *= 2 if family[:1] in "rx" else 0.5 if family[:1] == "c" else 1
    return math.floor(gib * _GIB)


RDS_PARAMETERS: Mapping[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        Parameter(FORCE_SSL, "boolean", False, "0", "0,1", "Force SSL connections."),
        Parameter("rds.logical_replication", "boolean", True, "0", "0,1", "Enables logical decoding."),
        Parameter("rds.log_retention_period", "integer", False, "4320", "1440-10080", "Minutes that logs are kept."),
    )
}
"""Parameters of RDS itself.

Emulation: of these rds.logical_replication and rds.force_ssl act, both after a reboot. TLS is spoken only where
rds.force_ssl asks for it: without it, clients reach the server itself, at its full speed.
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A parameter of a parameter group: its value, or a formula, and when it acts ("immediate", "pending-reboot")."""

    value: str
    apply_method: str = "immediate"


def for_server(
    chosen: Mapping[str, Chosen], known: Mapping[str, Parameter], instance_class: str
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """(at once, after a reboot): names and values for the server; what its version does not know is left out."""
    dynamic: list[tuple[str, str]] = []
    static: list[tuple[str, str]] = []
    for name, choice in sorted(chosen.items()):
        if name == FORCE_SSL:
            if choice.value.lower() in ("1", "on", "true"):
                static.append((FORCE_SSL, "1"))
            continue
        if name == "rds.logical_replication":
            if choice.value.lower() in ("1", "on", "true"):
                static.append(("wal_level", "logical"))
            continue
        parameter = known.get(name)
        value = evaluate(choice.value, instance_class)
        if parameter is not None and value is not None and name not in OWN and name not in RDS_PARAMETERS:
            (static if parameter.static or choice.apply_method == "pending-reboot" else dynamic).append((name, value))
    return tuple(dynamic), tuple(static)
