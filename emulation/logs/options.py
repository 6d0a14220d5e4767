"""The options of the awslogs log driver: which there are, what AWS refuses, and what they mean.

Source: Amazon ECS API Reference, LogConfiguration; Send Amazon ECS logs to CloudWatch; Docker documentation, Amazon
CloudWatch Logs logging driver.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emulation.errors import SunaboxError

Mode = Literal["blocking", "non-blocking"]

DEFAULT_MODE: Mode = "non-blocking"
"""Amazon ECS's default since June 25, 2025, unless the account setting defaultLogDriverMode says otherwise."""

DEFAULT_BUFFER_BYTES = 10 * 1024 * 1024

_REQUIRED = ("awslogs-region", "awslogs-group")
_KNOWN = frozenset(
    (
        *_REQUIRED,
        "awslogs-stream-prefix",
        "awslogs-create-group",
        "awslogs-datetime-format",
        "awslogs-multiline-pattern",
        "mode",
        "max-buffer-size",
    )
)
_GROUP_NAME = re.compile(r"[\w./#-]{1,512}", re.ASCII)
_SIZE = re.compile(r"(\d+)\s*([kmgtp]?)i?b?", re.IGNORECASE)

# Source: Docker documentation, awslogs-datetime-format: the strftime codes that are understood.
_STRFTIME = {
    "%a": "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
    "%A": "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)",
    "%w": "[0-6]",
    "%d": "(?:0[1-9]|[12][0-9]|3[01])",
    "%b": "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
    "%B": "(?:January|February|March|April|May|June|July|August|September|October|November|December)",
    "%m": "(?:0[1-9]|1[0-2])",
    "%Y": "[0-9]{4}",
    "%y": "[0-9]{2}",
    "%H": "(?:[01][0-9]|2[0-3])",
    "%I": "(?:0[1-9]|1[0-2])",
    "%p": "[AP]M",
    "%M": "[0-5][0-9]",
    "%S": "[0-5][0-9]",
    "%L": r"\.[0-9]{3}",
    "%f": "[0-9]{6}",
    "%z": "[+-][0-9]{4}",
    "%Z": "[A-Z]{1,4}T",
    "%j": "(?:00[1-9]|0[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-6])",
}

# The driver's patterns are Go regular expressions. These are the words of theirs that Python does not know.
_GO_CLASSES = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:blank:]": r"\t ",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:punct:]": r"!-/:-@\[-`{-~",
    "[:space:]": r"\t\n\v\f\r ",
    "[:upper:]": "A-Z",
    "[:word:]": "0-9A-Za-z_",
    "[:xdigit:]": "0-9A-Fa-f",
}


class InvalidLogOptions(SunaboxError):
    """Options that AWS refuses. RegisterTaskDefinition answers ClientException with this message."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Options of the awslogs driver, understood. `multiline` matches the lines that begin an event."""

    group: str
    region: str
    stream_prefix: str = ""
    create_group: bool = False
    multiline: re.Pattern[str] | None = None
    mode: Mode = DEFAULT_MODE
    buffer_bytes: int = DEFAULT_BUFFER_BYTES

    def stream_name(self, container_name: str, task_id: str, container_id: str) -> str:
        """prefix/container-name/task-id; without a prefix, the id that the container's runtime gave it."""
        if self.stream_prefix:
            return f"{self.stream_prefix}/{container_name}/{task_id}"
        return container_id


def validate(options: Mapping[str, str], *, fargate: bool = True) -> None:
    """Checks the options as RegisterTaskDefinition does. Raises InvalidLogOptions in AWS's words."""
    if unknown := sorted(set(options) - _KNOWN):
        raise InvalidLogOptions(f"Log driver awslogs disallows options: {', '.join(unknown)}")
    required = (*_REQUIRED, "awslogs-stream-prefix") if fargate else _REQUIRED
    if missing := [name for name in required if name not in options]:
        raise InvalidLogOptions(f"Log driver awslogs requires options: {', '.join(missing)}")
    for name in sorted(options):
        if not options[name]:
            raise InvalidLogOptions(f"Log driver awslogs option '{name}' should not be null or empty.")
    # AWS accepts no other value here, although "false" is what is documented as the default.
    if options.get("awslogs-create-group", "true") != "true":
        raise InvalidLogOptions(
            "Log driver awslogs option 'awslogs-create-group' should only be set to 'true', else omit option."
        )
    if not _GROUP_NAME.fullmatch(options["awslogs-group"]):
        raise InvalidLogOptions(
            f"Log driver awslogs option 'awslogs-group' is not a valid log group name: {options['awslogs-group']}"
        )
    if re.search("[:*]", options.get("awslogs-stream-prefix", "")):
        raise InvalidLogOptions("Log driver awslogs option 'awslogs-stream-prefix' should not contain ':' or '*'.")
    if options.get("mode", DEFAULT_MODE) not in ("blocking", "non-blocking"):
        raise InvalidLogOptions("Log driver awslogs option 'mode' should be one of: blocking, non-blocking")
    if "max-buffer-size" in options and options.get("mode") == "blocking":
        raise InvalidLogOptions("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    _buffer_bytes(options)
    _multiline(options)


def parse(
    options: Mapping[str, str], *, region: str, default_mode: Mode = DEFAULT_MODE, fargate: bool = True
) -> LogOptions:
    """What the options mean. `region` is the task's, used where none is given. Raises InvalidLogOptions."""
    options = {"awslogs-region": region, **options}
    validate(options, fargate=fargate)
    return LogOptions(
        group=options["awslogs-group"],
        region=options["awslogs-region"],
        stream_prefix=options.get("awslogs-stream-prefix", ""),
        create_group=options.get("awslogs-create-group") == "true",
        multiline=_multiline(options),
        mode="blocking" if options.get("mode", default_mode) == "blocking" else "non-blocking",
        buffer_bytes=_buffer_bytes(options),
    )


def _buffer_bytes(options: Mapping[str, str]) -> int:
    text = options.get("max-buffer-size")
    if text is None:
        return DEFAULT_BUFFER_BYTES
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidLogOptions(f"error parsing option max-buffer-size: invalid size: '{text}'")
    number, unit = match.groups()
    return int(number) << 10 * " kmgtp".index(unit.lower() or " ")


def _multiline(options: Mapping[str, str]) -> re.Pattern[str] | None:
    datetime_format = options.get("awslogs-datetime-format")
    pattern = options.get("awslogs-multiline-pattern")
    if datetime_format and pattern:
        raise InvalidLogOptions(
            "you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time"
        )
    if datetime_format:
        # What is not a code stays a regular expression, as in Docker: people write "\[%b %d, %Y".
        pattern = re.sub("%.", lambda code: _STRFTIME.get(code[0], ""), datetime_format)
    if not pattern:
        return None
    for name, members in _GO_CLASSES.items():
        pattern = pattern.replace(name, members)
    try:
        return re.compile(pattern.replace(r"\z", r"\Z"))
    except re.error as error:
        raise InvalidLogOptions(f'awslogs could not parse multiline pattern key "{pattern}": {error}') from error
