"""States of a run, and the only ways from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a run stands."""

    PLANNED = "planned"
    """Decided; nothing has run."""
    PREPARING = "preparing"
    """Weights, artefact, thresholds over the whole area, actors warming up."""
    RUNNING = "running"
    """Chunks are being done."""
    FINISHING = "finishing"
    """Mosaic, vectors, steps after the model, preview, catalogue item."""
    DONE = "done"
    """Complete."""
    INCOMPLETE = "incomplete"
    """Finished, with failed chunks or a failed step: never called a success; the same command tries those again."""
    FAILED = "failed"
    """Stopped by an error; the same command resumes."""
    INTERRUPTED = "interrupted"
    """Stopped by the user; the same command resumes."""


_STOPS = {State.FAILED, State.INTERRUPTED}
TRANSITIONS: dict[State | None, frozenset[State]] = {
    None: frozenset({State.PLANNED}),
    State.PLANNED: frozenset({State.PREPARING, *_STOPS}),
    State.PREPARING: frozenset({State.RUNNING, *_STOPS}),
    State.RUNNING: frozenset({State.FINISHING, *_STOPS}),
    State.FINISHING: frozenset({State.DONE, State.INCOMPLETE, *_STOPS}),
    State.INCOMPLETE: frozenset({State.PREPARING}),
    State.FAILED: frozenset({State.PREPARING}),
    State.INTERRUPTED: frozenset({State.PREPARING}),
    State.DONE: frozenset(),
}
"""A killed run is found in any of the working states, and resumes through INTERRUPTED."""

ENDS = frozenset({State.DONE, State.INCOMPLETE, *_STOPS})
"""States in which nothing is running."""


@dataclass(frozen=True, slots=True)
class Event:
    """One fact about a run. The list of them only grows; a run's state is their fold."""

    seq: int
    """1, 2, 3, …"""
    at: str
    """UTC, RFC 3339."""
    kind: str
    """``state``, ``chunk``, ``step``, ``stage`` or ``note``."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What happened."""


def may(before: State | None, after: State) -> bool:
    """Whether a run may go from one state to another."""
    return after in TRANSITIONS[before]


def fold(events: list[Event]) -> State | None:
    """The state a run is in after these events."""
    state: State | None = None
    for event in events:
        if event.kind == "state":
            state = State(event.facts["state"])
    return state
