"""The queue in the store: what waits, what is at work, and which is next (``serve.store.turns`` decides)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, update

from serve.store import tables
from serve.store.rows import job_of
from serve.store.store import moment, upsert
from serve.store.turns import Busy, QueueLimits, Waiting, faded, turns
from swathe.job import ACTIVE, Job, JobState, Where

__all__ = ["QueueLimits", "abandoned", "area_of", "charge", "queued_of", "running_of", "standing", "waiting"]
_T = tables.jobs
_S = tables.shares
_OPEN = _T.c.ended.is_(None)
_FREE = _OPEN & _T.c.holder.is_(None)
_HELD = _OPEN & _T.c.holder.is_not(None)


def waiting(c: Connection, limit: int, limits: QueueLimits) -> list[Job]:
    """Jobs to start now, fair and within the limits, in that order; not those that are to be tried later."""
    ready = _waiting(c, _T.c.not_before <= moment(c), limit)
    if not ready:
        return []
    chosen = list(islice(turns(ready, _busy(c), limits, _own_limits(c, {job.owner for job in ready})), limit))
    found = {row.id: job_of(row) for row in c.execute(select(_T).where(_T.c.id.in_([job.id for job in chosen])))}
    return [found[job.id] for job in chosen if job.id in found]


def abandoned(c: Connection) -> list[Job]:
    """Jobs whose holder has not been heard of for as long as it said."""
    query = select(_T).where(_HELD, _T.c.held_until <= moment(c)).order_by(_T.c.held_until)
    return [job_of(row) for row in c.execute(query)]


def standing(c: Connection, id_: str) -> int:
    """Place in the queue, 1 for the next, as it looks now; 0 for a job that does not wait."""
    found = enumerate(turns(_waiting(c), _busy(c)), start=1)
    return next((place for place, job in found if job.id == id_), 0)


def running_of(c: Connection, user_id: str) -> int:
    """Jobs of a user that are at work, or were and will be again; small ones (online) are counted for themselves."""
    begun = _T.c.holder.is_not(None) | _T.c.state.in_([state.value for state in ACTIVE])
    mine = (_T.c.owner_id == user_id) & (_T.c.place != Where.ONLINE.value)
    return _count(c, _OPEN & begun & mine)


def queued_of(c: Connection, user_id: str) -> int:
    """Jobs of a user that have not begun."""
    return _count(c, _FREE & (_T.c.state == JobState.QUEUED.value) & (_T.c.owner_id == user_id))


def area_of(c: Connection, user_id: str, since: str) -> float:
    """km² of a user's jobs since a moment (RFC 3339), but for those that ended before they began."""
    counted = _OPEN | _T.c.started.is_not(None)
    query = select(func.coalesce(func.sum(_T.c.area_km2), 0.0))
    return c.execute(query.where(_T.c.owner_id == user_id, _T.c.created >= since, counted)).scalar_one()


def charge(c: Connection, user_id: str, place: Where, seconds: float) -> None:
    """Note that a user was given work of so many seconds at a place."""
    at = c.execute(select(moment(c))).scalar_one()
    mine = (_S.c.user_id == user_id) & (_S.c.place == place.value)
    fresh = upsert(c, _S).values(user_id=user_id, place=place.value, seconds=0.0, at=at)
    c.execute(fresh.on_conflict_do_nothing())
    row = c.execute(select(_S).where(mine).with_for_update()).one()
    c.execute(update(_S).where(mine).values(seconds=faded(row.seconds, at - row.at) + seconds, at=at))


# --- pieces ---------------------------------------------------------------------------------------------------------


def _waiting(c: Connection, also: ColumnElement[bool] | None = None, of_lane: int | None = None) -> list[Waiting]:
    """What waits; of each lane the oldest so many."""
    where = _FREE if also is None else _FREE & also
    number = func.row_number().over(partition_by=(_T.c.owner_id, _T.c.place), order_by=_T.c.id).label("number")
    inner = select(_T.c.id, _T.c.owner_id, _T.c.place, _T.c.cost_s, number).where(where).subquery()
    query: Select[Any] = select(inner)
    if of_lane is not None:
        query = query.where(inner.c.number <= of_lane)
    return [Waiting(row.id, row.owner_id, Where(row.place), row.cost_s) for row in c.execute(query)]


def _busy(c: Connection) -> Busy:
    busy = Busy()
    at = c.execute(select(moment(c))).scalar_one()
    for row in c.execute(select(_S)):
        busy.given[row.user_id, Where(row.place)] = faded(row.seconds, at - row.at)
    for row in c.execute(select(_T.c.id, _T.c.owner_id, _T.c.place, _T.c.cost_s).where(_HELD)):
        busy.start(Waiting(row.id, row.owner_id, Where(row.place), row.cost_s))
    return busy


def _own_limits(c: Connection, user_ids: Iterable[str]) -> dict[str, int]:
    t = tables.users.c
    quotas = {row.id: row.quota for row in c.execute(select(t.id, t.quota).where(t.id.in_(list(user_ids))))}
    return {id_: quota["running_jobs"] for id_, quota in quotas.items() if quota.get("running_jobs") is not None}


def _count(c: Connection, where: ColumnElement[bool]) -> int:
    return c.execute(select(func.count()).select_from(_T).where(where)).scalar_one()
