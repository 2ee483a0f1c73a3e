"""A step after the model: what is done to a finished result, in order, and a record of what really ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from swathe.state import Event

_NESTED = (Mapping, list, tuple)
DEEPEST = 64
"""Lists and objects within each other in one detail: what reads and writes records is recursive, and ends somewhere."""


class StepState(StrEnum):
    """Where a step stands."""

    WAITING = "waiting"
    """Its turn has not come."""
    RUNNING = "running"
    """Somebody is at work."""
    FINISHED = "finished"
    """What it makes stands; it is not repeated."""
    FAILED = "failed"
    """``problem`` says why; a resumed run tries it again."""
    SKIPPED = "skipped"
    """Not carried out: there was nothing to do, or a step before it failed; ``detail`` says which (``because``)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One of them, as it went."""

    name: str
    """Of its kind; a run has no two of one name."""
    state: StepState = StepState.WAITING
    """See there."""
    started: str | None = None
    """UTC, RFC 3339."""
    ended: str | None = None
    """The same."""
    log: str = ""
    """Name of the result's file that holds what it said; empty: it did not begin."""
    files: tuple[str, ...] = ()
    """Names of what it made."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What it has to tell, as plain JSON values, nested no deeper than ``DEEPEST``."""
    problem: dict[str, Any] | None = None
    """RFC 9457: why it failed."""

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values, for reports, events and APIs."""
        return asdict(self) | {"state": self.state.value, "files": list(self.files)}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Step:
        """From ``as_dict``; what a newer service tells beyond it is passed over."""
        known = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
        return cls(**known | {"state": StepState(facts["state"]), "files": tuple(facts.get("files", ()))})


def too_deep(value: Any) -> bool:
    """Whether lists and objects in it are nested deeper than ``DEEPEST``."""
    layer = [value]
    for _ in range(DEEPEST + 1):
        inner = [one.values() if isinstance(one, Mapping) else one for one in layer if isinstance(one, _NESTED)]
        if not inner:
            return False
        layer = [value for values in inner for value in values]
    return True


def fold(events: Iterable[Event]) -> tuple[Step, ...]:
    """The steps of a run or a job after these events, in their order: each as it was told last."""
    found: dict[str, Step] = {}
    for event in events:
        if event.kind == "step":
            step = Step.of(event.facts)
            found[step.name] = step
    return tuple(found.values())
