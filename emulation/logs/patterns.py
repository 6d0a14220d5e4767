"""Filter patterns of CloudWatch Logs, for unstructured text.

Source: CloudWatch Logs User Guide, Filter pattern syntax for metric filters, subscription filters, filter log events,
and Live Tail.
"""

import re
from collections.abc import Callable

from emulation.errors import SunaboxError

Matcher = Callable[[str], bool]

_TERM = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|%([^%]+)%|([^\s"]+))')


class InvalidFilterPattern(SunaboxError):
    """A pattern that is wrong or not emulated. The API answers InvalidParameterException with this message."""


def compile_pattern(pattern: str | None) -> Matcher | None:
    """A function that tells whether a message matches; None where everything does.

    Terms all have to be in the message, `"phrases"` too; of `?terms` one; `-terms` must not be; `%…%` is a regular
    expression. Raises InvalidFilterPattern.

    # Emulation: patterns for JSON ({ $.level = "ERROR" }) and for space-delimited events ([ip, user, …]) are refused.
    """
    pattern = (pattern or "").strip()
    if not pattern:
        return None
    if pattern[0] in "{[":
        raise InvalidFilterPattern(
            "Invalid filter pattern: Sunabox does not emulate JSON and space-delimited patterns. "
            'Use terms, "phrases", ?optional or -excluded terms, or %regular expressions%.'
        )
    needed: list[Matcher] = []
    optional: list[Matcher] = []
    excluded: list[Matcher] = []
    position = 0
    while position < len(pattern):
        match = _TERM.match(pattern, position)
        if match is None:
            raise InvalidFilterPattern(f"Invalid filter pattern: {pattern}")
        sign, phrase, expression, word = match.groups()
        kind = {"?": optional, "-": excluded}.get(sign, needed)
        kind.append(_matches(expression) if expression else _contains(_unquoted(phrase) if word is None else word))
        position = match.end()
    # AWS ignores optional terms beside needed ones.
    return _combined(needed, [] if needed else optional, excluded)


def _combined(needed: list[Matcher], optional: list[Matcher], excluded: list[Matcher]) -> Matcher:
    def matches(message: str) -> bool:
        return (
            all(term(message) for term in needed)
            and (not optional or any(term(message) for term in optional))
            and not any(term(message) for term in excluded)
        )

    return matches


def _unquoted(phrase: str) -> str:
    return re.sub(r"\\(.)", r"\1", phrase)


def _contains(text: str) -> Matcher:
    return lambda message: text in message


def _matches(expression: str) -> Matcher:
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise InvalidFilterPattern(f"Invalid filter pattern: %{expression}%: {error}") from error
    return lambda message: compiled.search(message) is not None
