"""What metrics are made of: how many jobs stand where, and what became of those that ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, func, select

from serve.store.tables import events, jobs
from swathe.job import ENDED

_ENDED = tuple(state.value for state in ENDED)


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to where ended jobs were counted."""

    ended: str
    """Moment of an end: RFC 3339."""
    id: str = ""
    """Id of the last job that was counted of that moment."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended."""

    mark: Mark
    """Where to go on from."""
    state: str
    """State that it ended in."""
    place: str
    """Place where it ran."""
    code: str
    """Code of its problem; empty: it has none."""
    pixels: int
    """Pixels that were done."""
    stages: dict[str, float]
    """Seconds in each state of its last round: queued, preparing, running, finishing."""


def standing(c: Connection) -> dict[tuple[str, str], int]:
    """(state, place) -> number of jobs that are there."""
    rows = c.execute(select(jobs.c.state, jobs.c.place, func.count()).group_by(jobs.c.state, jobs.c.place))
    return {(state, place): number for state, place, number in rows}


def ended(c: Connection, after: Mark, limit: int = 500, but: Collection[Mark] = ()) -> list[Ended]:
    """Jobs that ended after a mark, in the order of their ends, without some that are known already."""
    t = jobs.c
    later = (t.ended > after.ended) | ((t.ended == after.ended) & (t.id > after.id))
    known = (t.ended + t.id).in_([mark.ended + mark.id for mark in but])
    wanted = (
        select(t.id, t.ended, t.state, t.place, t.problem, t.progress)
        .where(t.state.in_(_ENDED), later, ~known).order_by(t.ended, t.id).limit(limit)
    )  # fmt: skip
    found = c.execute(wanted).all()
    return [_of(row, _stages(c, row.id)) for row in found]


def _of(row: Any, stages: dict[str, float]) -> Ended:
    code = str((row.problem or {}).get("code", ""))
    return Ended(Mark(row.ended, row.id), row.state, row.place, code, int(row.progress.get("pixels", 0)), stages)


def _stages(c: Connection, job: str) -> dict[str, float]:
    t = events.c
    wanted = select(t.at, t.kind, t.facts).where(t.job_id == job, t.kind.in_(("state", "resumed"))).order_by(t.seq)
    seen = [(row.at, "queued" if row.kind == "resumed" else row.facts["state"]) for row in c.execute(wanted)]
    begun = max((i for i, (_, stage) in enumerate(seen) if stage == "queued"), default=0)
    found: dict[str, float] = {}
    for (start, stage), (stop, _) in pairwise(seen[begun:]):
        found[stage] = found.get(stage, 0.0) + _seconds(start, stop)
    return found


def _seconds(start: str, stop: str) -> float:
    return max(0.0, (datetime.fromisoformat(stop) - datetime.fromisoformat(start)).total_seconds())
