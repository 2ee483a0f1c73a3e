"""Events of jobs: facts, numbered without gaps, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from serve.store import tables
from serve.store.store import now
from serve.store.texts import keepable
from swathe.state import Event

_AT_ONCE = 400
"""Ids of one question."""


def of(c: Connection, job_id: str, after: int = 0, limit: int = 500) -> list[Event]:
    """Events of a job after this number, oldest first."""
    t = tables.events.c
    query = select(t.seq, t.at, t.kind, t.facts).where(t.job_id == job_id, t.seq > after).order_by(t.seq).limit(limit)
    return [Event(row.seq, row.at, row.kind, row.facts) for row in c.execute(query)]


def of_several(c: Connection, job_ids: Sequence[str], kinds: Sequence[str]) -> dict[str, list[Event]]:
    """Events of these kinds, oldest first, by job; jobs without any are left out."""
    t = tables.events.c
    found: dict[str, list[Event]] = {}
    for first in range(0, len(job_ids), _AT_ONCE):
        some = job_ids[first : first + _AT_ONCE]
        query = (
            select(t.job_id, t.seq, t.at, t.kind, t.facts).where(t.job_id.in_(some), t.kind.in_(kinds))
            .order_by(t.job_id, t.seq)
        )  # fmt: skip
        for row in c.execute(query):
            found.setdefault(row.job_id, []).append(Event(row.seq, row.at, row.kind, row.facts))
    return found


def append(c: Connection, job: Row[Any], kind: str, facts: dict[str, Any], key: str | None = None) -> Event | None:
    """The next one of a job whose row this transaction has locked; None where one of that key stands already.

    ``job``: its row, as it was when it was locked; a transaction appends to it as often as it likes.
    """
    t, moment, key = tables.events, now(), keepable(key)
    if key is not None and c.execute(select(t.c.seq).where(t.c.job_id == job.id, t.c.key == key)).first():
        return None
    seq = c.execute(
        update(tables.jobs).where(tables.jobs.c.id == job.id)
        .values(last_seq=tables.jobs.c.last_seq + 1, updated=moment).returning(tables.jobs.c.last_seq)
    ).scalar_one()  # fmt: skip
    c.execute(insert(t).values(job_id=job.id, seq=seq, at=moment, kind=kind, facts=keepable(facts), key=key))
    return Event(seq, moment, kind, facts)
