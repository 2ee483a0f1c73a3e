"""Hooks: addresses that want to hear of a job's events, and how far each was told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from serve.store import ids, tables
from serve.store.store import moment
from serve.store.texts import keepable

_T, _J = tables.hooks, tables.jobs


@dataclass(frozen=True, slots=True)
class Hook:
    """An address that wants to hear of a job's events."""

    id: str
    """Id of the hook."""
    job: str
    """Id of the job."""
    url: str
    """Address that events are sent to."""
    secret: str = field(repr=False)
    """Key that they are signed with."""
    kinds: tuple[str, ...]
    """Kinds of events that it wants; empty: all."""
    sent_seq: int
    """Number of the last event that was delivered or passed over."""
    tries: int
    """Number of deliveries that failed since then."""
    given_up: bool = False
    """Whether nothing more is sent."""
    problem: str = ""
    """Why the last try failed."""


def add(c: Connection, job_id: str, url: str, secret: str, kinds: Iterable[str] = ()) -> str:
    """Add a hook to a job; gives its id."""
    id_ = ids.new("h")
    c.execute(insert(_T).values(id=id_, job_id=job_id, url=url, secret=secret, kinds=list(kinds)))
    return id_


def due(c: Connection, limit: int) -> list[Hook]:
    """Those whose job has events that they were not told, and whose time has come; the longest waiting first."""
    query = (
        select(_T)
        .join(_J, _J.c.id == _T.c.job_id)
        .where(_T.c.given_up.is_(False), _T.c.next_at <= moment(c), _J.c.last_seq > _T.c.sent_seq)
        .order_by(_T.c.next_at, _T.c.id)
        .limit(limit)
    )
    return [_hook_of(row) for row in c.execute(query)]


def of_job(c: Connection, job_id: str) -> list[Hook]:
    """Hooks of a job, in the order in which they were added."""
    return [_hook_of(row) for row in c.execute(select(_T).where(_T.c.job_id == job_id).order_by(_T.c.id))]


def sent(c: Connection, id_: str, seq: int) -> None:
    """Note that all events up to this number were delivered, or not wanted."""
    at = moment(c)
    c.execute(update(_T).where(_T.c.id == id_, _T.c.sent_seq < seq)
              .values(sent_seq=seq, tries=0, next_at=at, problem=None))  # fmt: skip


def failed(c: Connection, id_: str, problem: str, next_at: float, give_up: bool = False) -> None:
    """Note a failure: it is tried again at that moment (seconds since 1970), or never."""
    said = keepable(problem)[:500]
    c.execute(update(_T).where(_T.c.id == id_)
              .values(tries=_T.c.tries + 1, next_at=next_at, given_up=give_up, problem=said))  # fmt: skip


def _hook_of(row: Row[Any]) -> Hook:
    return Hook(row.id, row.job_id, row.url, row.secret, tuple(row.kinds), row.sent_seq, row.tries,
                row.given_up, row.problem or "")  # fmt: skip
