"""State machines as tables: `(RUNNING, "Stop"): DEACTIVATING`. What is not in the table does not happen.

A service keeps its tables in its own `states.py`; the states are AWS's own strings. The diagrams in the documentation
are generated from the tables (`Table.mermaid`).
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from emulation.errors import InvalidTransition

S = TypeVar("S", bound=str)

_REMEMBERED = 50


class Table(Generic[S]):
    """The transitions that a kind of record knows: {(state, event): next state}. `kind` is a word for messages."""

    def __init__(self, kind: str, transitions: Mapping[tuple[S, str], S], *, initial: S | None = None) -> None:
        if not transitions:
            raise ValueError(f"The table of {kind} is empty. Give it at least one transition.")
        self.kind = kind
        self.transitions = dict(transitions)
        self.initial: S = next(iter(self.transitions))[0] if initial is None else initial

    def next(self, state: S, event: str, *, history: Iterable[object] = ()) -> S:
        """The state after `event`. Raises InvalidTransition, whose message holds `history`."""
        try:
            return self.transitions[state, event]
        except KeyError:
            raise InvalidTransition(self._refusal(state, event, history)) from None

    def allows(self, state: S, event: str) -> bool:
        return (state, event) in self.transitions

    @property
    def states(self) -> tuple[S, ...]:
        """All states, in the order in which the table names them."""
        named = [self.initial]
        for (state, _), after in self.transitions.items():
            named += [state, after]
        return tuple(dict.fromkeys(named))

    @property
    def final(self) -> tuple[S, ...]:
        """The states that nothing leads out of."""
        left = {state for state, _ in self.transitions}
        return tuple(state for state in self.states if state not in left)

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2"]
        lines += [
            f'    state "{state}" as {_identifier(state)}' for state in self.states if _identifier(state) != state
        ]
        lines.append(f"    [*] --> {_identifier(self.initial)}")
        lines += [
            f"    {_identifier(state)} --> {_identifier(after)}: {event}"
            for (state, event), after in self.transitions.items()
        ]
        lines += [f"    {_identifier(state)} --> [*]" for state in self.final]
        return "\n".join(lines) + "\n"

    def _refusal(self, state: S, event: str, history: Iterable[object]) -> str:
        known = ", ".join(f"{known} → {after}" for (at, known), after in self.transitions.items() if at == state)
        told = " ".join(map(str, history)) or "none"
        return f"{self.kind}: {state} does not know {event} (it knows: {known or 'nothing'}); history: {told}"


@dataclass(frozen=True, slots=True)
class Change:
    """A transition that has happened."""

    before: str
    event: str
    after: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.before} -{self.event}→ {self.after} ({self.at.isoformat(timespec='milliseconds')})"


class Lifecycle(Generic[S]):
    """The state of one record, and how it came to it. `record` names it in messages ("task 1a2b")."""

    def __init__(self, table: Table[S], record: str, initial: S | None = None) -> None:
        self.table = table
        self.record = record
        self._state: S = table.initial if initial is None else initial
        self._history: deque[Change] = deque(maxlen=_REMEMBERED)

    @property
    def state(self) -> S:
        return self._state

    @property
    def history(self) -> tuple[Change, ...]:
        """The last changes, oldest first."""
        return tuple(self._history)

    def happen(self, event: str, now: datetime) -> S:
        """Moves on and gives the new state. Raises InvalidTransition, with the history, and stays where it was."""
        try:
            after = self.table.next(self._state, event, history=self._history)
        except InvalidTransition as refusal:
            raise InvalidTransition(f"{self.record}: {refusal}") from None
        self._history.append(Change(self._state, event, after, now))
        self._state = after
        return after


def _identifier(state: str) -> str:
    return re.sub(r"\W", "_", state)
