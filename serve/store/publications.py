"""Publications: layers that other map servers are to show, and how far each has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from serve.store import ids, tables
from serve.store.store import moment
from swathe.job import JobState
from swathe.publication import Publication
from swathe.sld import Colour

_T, _J = tables.publications, tables.jobs
_SHOWN = (JobState.DONE.value, JobState.INCOMPLETE.value)
"""States of jobs that have a result."""


def add(c: Connection, wanted: Iterable[Publication]) -> None:
    """Add publications, which have no ids yet. Raises ConflictError (``publication.taken``: the name is another's)."""
    for one in wanted:
        same = select(_T.c.id).where(_T.c.workspace == one.workspace, _T.c.name == one.name)
        if c.execute(same).first() is not None:
            raise one.taken()
        c.execute(insert(_T).values(
            id=ids.new("m"), job_id=one.job, workspace=one.workspace, name=one.name, files=list(one.files),
            colours=[asdict(colour) for colour in one.colours], kind=one.kind,
        ))  # fmt: skip


def of_job(c: Connection, job_id: str) -> list[Publication]:
    """Publications of a job, in the order in which they were wished."""
    return [_publication_of(row) for row in c.execute(select(_T).where(_T.c.job_id == job_id).order_by(_T.c.id))]


def due(c: Connection, limit: int) -> list[Publication]:
    """Publications whose job has a result that is not shown yet, or is gone; the longest waiting first."""
    fresh = _J.c.state.in_(_SHOWN) & (_J.c.last_seq > _T.c.sent_seq)
    query = (
        select(_T)
        .outerjoin(_J, _J.c.id == _T.c.job_id)
        .where(or_(_T.c.job_id.is_(None), fresh), _T.c.next_at <= moment(c))
        .order_by(_T.c.next_at, _T.c.id)
        .limit(limit)
    )
    return [_publication_of(row) for row in c.execute(query)]


def begin(c: Connection, id_: str) -> None:
    """Note that from now on something of ours may lie under its name."""
    c.execute(update(_T).where(_T.c.id == id_).values(begun=True))


def published(c: Connection, id_: str, seq: int, url: str) -> None:
    """Note that it shows the job as it was after this event."""
    c.execute(update(_T).where(_T.c.id == id_, _T.c.sent_seq < seq)
              .values(sent_seq=seq, tries=0, next_at=moment(c), url=url, problem=None, given_up=False))  # fmt: skip


def failed(c: Connection, id_: str, problem: dict[str, Any], next_at: float) -> None:
    """Note a failure, to be tried again at that moment (seconds since 1970)."""
    c.execute(update(_T).where(_T.c.id == id_)
              .values(tries=_T.c.tries + 1, next_at=next_at, problem=problem))  # fmt: skip


def give_up(c: Connection, id_: str, problem: dict[str, Any], seq: int) -> None:
    """Note that the job as it was after this event is not published; a new end of it is a new chance."""
    c.execute(update(_T).where(_T.c.id == id_)
              .values(sent_seq=seq, tries=0, next_at=moment(c), problem=problem, given_up=True))  # fmt: skip


def forget(c: Connection, id_: str) -> None:
    """Remove a publication of which nothing is left on the map server."""
    c.execute(delete(_T).where(_T.c.id == id_))


def _publication_of(row: Row[Any]) -> Publication:
    colours = tuple(Colour(**facts) for facts in row.colours)
    return Publication(row.id, row.job_id, row.workspace, row.name, tuple(row.files), colours, row.kind, row.begun,
                       row.sent_seq, row.tries, row.given_up, row.url, row.problem)  # fmt: skip
