"""Batches: wishes that were accepted together, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, cast, delete, func, insert, select, update

from serve.store import ids, tables
from serve.store.rows import LISTED, job_of
from serve.store.store import moment, now
from swathe.batch import Batch, Part
from swathe.errors import ConflictError

_T, _W, _J = tables.batches, tables.wishes, tables.jobs
_OPEN = _W.c.settled.is_(None)
_AT_ONCE = 400
"""Ids of one question."""
Labels = Mapping[str, str | bool]


@dataclass(frozen=True, slots=True)
class Wish:
    """One that waits to be planned."""

    number: int
    """In its batch."""
    request: dict[str, Any]
    """What was asked."""
    tries: int
    """That met trouble which passes."""


def add(
    c: Connection, owner: str, requests: Sequence[dict[str, Any]], title: str = "",
    labels: dict[str, Any] | None = None, id_: str | None = None,
) -> Batch:  # fmt: skip
    """A new one, of which nothing is planned."""
    id_, moment = id_ or ids.new("b"), now()
    c.execute(insert(_T).values(id=id_, owner_id=owner, title=title, labels=labels or {}, cancelled=False,
                                dropped=False, created=moment, updated=moment))  # fmt: skip
    rows = [{"batch_id": id_, "number": n, "request": request} for n, request in enumerate(requests)]
    if rows:
        c.execute(insert(_W), rows)
    return get(c, id_)


def get(c: Connection, id_: str) -> Batch:
    """The batch of this id. Raises NotFoundError, also where it was removed."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "b"), ~_T.c.dropped)).first()
    if row is None:
        raise ids.missing(id_, "b")
    return _batch_of(row)


def listed(c: Connection, owner: str | None, labels: Labels, limit: int, skip: int = 0) -> list[Batch]:
    """Batches, newest first. ``owner``: None: of all users; ``labels``: those that have all of these."""
    query = _some(select(_T), owner, labels).order_by(_T.c.id.desc()).limit(limit).offset(skip)
    return [_batch_of(row) for row in c.execute(query)]


def count(c: Connection, owner: str | None, labels: Labels) -> int:
    """The number of such batches."""
    return c.execute(_some(select(func.count()).select_from(_T), owner, labels)).scalar_one()


def parts(c: Connection, batch_ids: Iterable[str]) -> dict[str, list[Part]]:
    """All parts of each batch, in their order; every id has a list. Jobs are without what is long of their requests."""
    wanted = list(batch_ids)
    found: dict[str, list[Part]] = {id_: [] for id_ in wanted}
    for first in range(0, len(wanted), _AT_ONCE):
        some = wanted[first : first + _AT_ONCE]
        held = select(_W.c.job_id).where(_W.c.batch_id.in_(some), _W.c.job_id.is_not(None))
        jobs = {row.id: job_of(row) for row in c.execute(select(*LISTED).where(_J.c.id.in_(held)))}
        query = select(_W).where(_W.c.batch_id.in_(some)).order_by(_W.c.batch_id, _W.c.number)
        for row in c.execute(query):
            part = Part(row.number, row.request, row.settled, jobs.get(row.job_id), row.problem)
            found[row.batch_id].append(part)
    return found


def waiting(c: Connection, limit: int, but: Collection[str] = ()) -> list[Batch]:
    """Those with a wish to be planned now: the oldest one of each user, then the second of each, and so on.

    ``but``: ids of users whose batches are left out.
    """
    open_ = select(_W.c.batch_id).where(_OPEN, _W.c.not_before <= moment(c))
    turn = func.row_number().over(partition_by=_T.c.owner_id, order_by=_T.c.id).label("turn")
    inner = select(_T.c.id, turn).where(_T.c.id.in_(open_), _T.c.owner_id.not_in(but)).subquery()
    query = select(_T).join(inner, inner.c.id == _T.c.id).order_by(inner.c.turn, _T.c.id).limit(limit)
    return [_batch_of(row) for row in c.execute(query)]


def next_wish(c: Connection, id_: str) -> Wish | None:
    """The first to be planned now. What met trouble comes after all that has not been tried."""
    due = (_W.c.batch_id == id_) & _OPEN & (_W.c.not_before <= moment(c))
    query = select(_W).where(due).order_by(_W.c.tries, _W.c.number).limit(1)
    row = c.execute(query).first()
    return None if row is None else Wish(row.number, row.request, row.tries)


def postpone(c: Connection, id_: str, number: int, seconds: float) -> None:
    """Try a wish again after so long, and count that; of one that was settled meanwhile nothing changes."""
    mine = (_W.c.batch_id == id_) & (_W.c.number == number) & _OPEN
    c.execute(update(_W).where(mine).values(tries=_W.c.tries + 1, not_before=moment(c) + seconds))


def mentioned(c: Connection, id_: str) -> bool:
    """Whether a wish that waits names this id anywhere in what was asked."""
    query = select(_W.c.batch_id).where(_OPEN & cast(_W.c.request, Text).contains(id_, autoescape=True)).limit(1)
    return c.execute(query).first() is not None


def settle(c: Connection, id_: str, number: int, job: str | None = None, problem: dict[str, Any] | None = None) -> None:
    """What became of a wish, once. Raises ConflictError (``batch.settled``) where it was settled or stopped before."""
    mine = (_W.c.batch_id == id_) & (_W.c.number == number) & _OPEN
    if not c.execute(update(_W).where(mine).values(settled=now(), job_id=job, problem=problem)).rowcount:
        raise ConflictError(f"wish {number} of the batch {id_} is settled already", code="batch.settled")


def cancel(c: Connection, id_: str, problem: dict[str, Any]) -> list[str]:
    """Settle all wishes that wait; gives the ids of the jobs that there are. Raises NotFoundError."""
    get(c, id_)
    c.execute(update(_T).where(_T.c.id == id_).values(cancelled=True, updated=now()))
    waits = (_W.c.batch_id == id_) & _OPEN
    c.execute(update(_W).where(waits).values(settled=now(), problem=problem))
    return list(c.execute(select(_W.c.job_id).where(_W.c.batch_id == id_, _W.c.job_id.is_not(None))).scalars())


def change(c: Connection, id_: str, labels: dict[str, Any]) -> Batch:
    """Replace the labels of a batch. Raises NotFoundError."""
    c.execute(update(_T).where(_T.c.id == ids.check(id_, "b")).values(labels=labels, updated=now()))
    return get(c, id_)


def hide(c: Connection, id_: str) -> None:
    """It is not there for anybody; its wishes stay, so that its jobs are found. Raises NotFoundError."""
    gone = update(_T).where(_T.c.id == ids.check(id_, "b"), ~_T.c.dropped).values(dropped=True, updated=now())
    if not c.execute(gone).rowcount:
        raise ids.missing(id_, "b")


def hidden(c: Connection, limit: int) -> list[str]:
    """Ids of some batches that were hidden, oldest first."""
    return list(c.execute(select(_T.c.id).where(_T.c.dropped.is_(True)).order_by(_T.c.id).limit(limit)).scalars())


def drop(c: Connection, id_: str) -> None:
    """Forget a batch; its jobs stay. Raises NotFoundError."""
    if not c.execute(delete(_T).where(_T.c.id == ids.check(id_, "b"))).rowcount:
        raise ids.missing(id_, "b")


# --- pieces ---------------------------------------------------------------------------------------------------------


def _some(query: Select[Any], owner: str | None, labels: Labels) -> Select[Any]:
    wanted: list[ColumnElement[bool]] = [~_T.c.dropped]
    if owner is not None:
        wanted.append(_T.c.owner_id == owner)
    for name, value in labels.items():
        label = _T.c.labels[name]
        wanted.append(label.as_boolean() == value if isinstance(value, bool) else label.as_string() == value)
    return query.where(*wanted)


def _batch_of(row: Row[Any]) -> Batch:
    return Batch(row.id, row.owner_id, row.title, row.created, row.updated, row.cancelled, row.labels)
