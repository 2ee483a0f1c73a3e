"""Logs of jobs: what attempts say, for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select

from serve.store import tables
from serve.store.texts import keepable

_T = tables.logs
_LONGEST = 4000
"""Characters of a message that are kept."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a job's log."""

    at: str
    """When it was said: UTC, RFC 3339."""
    level: str
    """``debug``, ``info``, ``warning``, ``error``."""
    message: str
    """One sentence."""
    facts: dict[str, Any] = field(default_factory=dict)
    """``task``, ``chunk``, ``attempt`` and the like."""
    seq: int = 0
    """Number within the job, from 1; 0: it is not kept yet."""


def add(c: Connection, job_id: str, lines: Iterable[Line]) -> None:
    """Append lines in this order to the log of a job; those of a job that is gone are dropped."""
    t = tables.jobs.c
    fresh = list(lines)
    if not fresh or not c.execute(select(t.id).where(t.id == job_id).with_for_update()).first():
        return
    rows = [
        {"job_id": job_id, "seq": seq, "at": line.at, "level": line.level, "message": keepable(line.message)[:_LONGEST],
         "facts": keepable(line.facts)}
        for seq, line in enumerate(fresh, start=last(c, job_id) + 1)
    ]  # fmt: skip
    c.execute(insert(_T), rows)


def last(c: Connection, job_id: str, until: str | None = None) -> int:
    """The highest number, of lines that were said by then; 0: there is none."""
    query = select(func.coalesce(func.max(_T.c.seq), 0)).where(_T.c.job_id == job_id)
    return int(c.execute(query if until is None else query.where(_T.c.at <= until)).scalar_one())


def of(c: Connection, job_id: str, after: int = 0, limit: int = 500) -> list[Line]:
    """Lines of a job after this number, oldest first."""
    query = select(_T).where(_T.c.job_id == job_id, _T.c.seq > after).order_by(_T.c.seq).limit(limit)
    return [Line(row.at, row.level, row.message, row.facts, row.seq) for row in c.execute(query)]
