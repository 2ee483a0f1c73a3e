"""Jobs: added, listed, steered by their users, and carried on by attempts that hold them.

An attempt writes with its ``Hold``. Each taking of a job counts its epoch up, and what a former holder still writes is
refused: the row is locked first, then epoch and holder are compared. So a job has one writer at a time, although
nobody knows for certain which processes are alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    cast,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)

from serve.store import events, ids, queue, tables
from serve.store.pages import Cut, Page
from serve.store.rows import LISTED, columns_of, job_of
from serve.store.store import moment, now, text_of
from serve.store.texts import keepable
from serve.store.turns import LEAST_S
from swathe.errors import ConflictError, StoreError
from swathe.job import ENDED, Job, JobState, Progress, Where, may, may_resume
from swathe.state import Event

_T = tables.jobs
_ENDED = tuple(state.value for state in ENDED)
_AT_ONCE = 100
"""Parts of one question."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Says that an attempt has a job."""

    job: str
    """Id of the job."""
    epoch: int
    """Number of the holder, counted from the job's first one."""
    holder: str
    """Name of the process."""

    @property
    def task(self) -> str:
        """The attempt, as logs name it."""
        return f"{self.job}-{self.epoch}"


class Lost(ConflictError):  # noqa: N818  what happened to the attempt; the suffix would say nothing more
    """The job was given to another attempt, or has ended: whoever gets this stops at once."""

    code = "job.lost"
    title = "The job is held by another attempt."


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs; all that is given has to hold."""

    owner: str | None = None
    """Id of the user whose jobs they are."""
    visible_to: str | None = None
    """Id of the user who sees them: their own, and those in shared projects. None: all."""
    state: tuple[JobState, ...] = ()
    """States, of which a job has one; none: any."""
    model: str | None = None
    """Id of the card that they use."""
    project: str | None = None
    """Id of the project that they are in."""
    since: datetime | str | None = None
    """They were created at this moment or later."""
    labels: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Labels, of which a job has all."""


# --- by users -------------------------------------------------------------------------------------------------------


def add(c: Connection, job: Job, area_km2: float) -> None:
    """Add a job, queued, with its first event."""
    c.execute(insert(_T).values(**columns_of(job, area_km2)))
    events.append(c, _row(c, job.id), "state", {"state": JobState.QUEUED.value})


def get(c: Connection, id_: str) -> Job:
    """The job of this id. Raises NotFoundError."""
    return job_of(_row(c, id_))


def listed(
    c: Connection, wanted: Filter, limit: int, cursor: str | None = None, newest_first: bool = True
) -> Page[Job]:  # fmt: skip
    """A page of jobs, in the order of creation, without what is long of their requests.

    Raises InputError (``cursor.invalid``).
    """
    cut = Cut(_T.c.id, limit, cursor, falling=newest_first)
    query = select(*LISTED).where(*_conditions(wanted))
    if wanted.visible_to is not None:
        query = query.where(_T.c.id.in_(_visible(c, wanted, cut)))
    return cut.page(c, query, job_of)


def _visible(c: Connection, wanted: Filter, cut: Cut) -> list[str]:
    """Ids that hold all of a page: the next own ones, and the next ones of each shared project.

    Each is looked for along an index, no further than a page goes; an OR would pass over the jobs of everybody.
    """
    narrow = select(_T.c.id).where(*_conditions(wanted))
    projects = c.execute(_shared()).scalars().all()
    parts = [_T.c.owner_id == wanted.visible_to, *(_T.c.project_id == project for project in projects)]
    found: list[str] = []
    for first in range(0, len(parts), _AT_ONCE):
        cuts = [select(cut.of(narrow.where(part)).subquery().c.id) for part in parts[first : first + _AT_ONCE]]
        found += c.execute(union_all(*cuts)).scalars()
    return sorted(set(found), reverse=cut.falling)[: cut.limit + 1]


def count(c: Connection, wanted: Filter) -> int:
    """The number of such jobs."""
    query = select(func.count()).select_from(_T).where(*_conditions(wanted))
    if wanted.visible_to is not None:
        query = query.where((_T.c.owner_id == wanted.visible_to) | _T.c.project_id.in_(_shared()))
    return c.execute(query).scalar_one()


def cancel(c: Connection, id_: str) -> Job:
    """Nobody is at work on it: it ends at once. Else its attempt is told. Raises ConflictError (``job.ended``)."""
    row = _locked(c, id_)
    if row.state in _ENDED:
        raise ConflictError(f"the job {id_} has ended: {row.state}", code="job.ended", hint="there is nothing to stop")
    if row.holder is None or row.held_until <= c.execute(select(moment(c))).scalar_one():
        _end(c, row, JobState.CANCELLED, {})
    elif not row.cancelling:
        _set(c, id_, cancelling=True)
        events.append(c, row, "cancelling", {})
    return get(c, id_)


def weigh(c: Connection, job: Job, result_bytes: int) -> None:
    """What one that has ended left lying; of one that goes on by now, its end will tell."""
    same = (_T.c.id == job.id) & (_T.c.round == job.round) & (_T.c.state == job.state.value)
    c.execute(update(_T).where(same).values(result_bytes=result_bytes))


def resume(c: Connection, id_: str) -> Job:
    """Into the queue again, as a new round that goes on where the last one stopped.

    Raises ConflictError (``job.active``, ``job.done``).
    """
    row = _locked(c, id_)
    state = JobState(row.state)
    if not may_resume(state):
        code = "job.done" if state is JobState.DONE else "job.active"
        raise ConflictError(f"the job {id_} is {state}", code=code, hint="only what was not completed is resumed")
    was = Progress(**row.progress)
    _set(
        c, id_, state=JobState.QUEUED.value, round=row.round + 1, attempts=0, fruitless=0, cancelling=False,
        progress=asdict(Progress(of_pixels=was.of_pixels, of_chunks=was.of_chunks)), started=None, ended=None,
        problem=None, ray_job=None, not_before=0.0,
    )  # fmt: skip
    events.append(c, row, "resumed", {"round": row.round + 1})
    return get(c, id_)


def mentioned(c: Connection, id_: str) -> bool:
    """Whether a job that has not ended names this id anywhere in what was asked of it."""
    open_ = _T.c.ended.is_(None) & cast(_T.c.request, Text).contains(id_, autoescape=True)
    return c.execute(select(_T.c.id).where(open_).limit(1)).first() is not None


def known(c: Connection, job_ids: Sequence[str]) -> set[str]:
    """Those of the ids that are ids of jobs."""
    return set(c.execute(select(_T.c.id).where(_T.c.id.in_(job_ids))).scalars())


def drop(c: Connection, id_: str) -> None:
    """Forget a job that has ended, with its events, logs and hooks. Raises ConflictError (``job.active``)."""
    row = _locked(c, id_)
    if row.state not in _ENDED:
        raise ConflictError(f"the job {id_} is {row.state}", code="job.active", hint="cancel it first")
    c.execute(delete(_T).where(_T.c.id == id_))


# --- by attempts ----------------------------------------------------------------------------------------------------


def take(c: Connection, id_: str, holder: str, seconds: float) -> Hold | None:
    """Begin an attempt. None: it has ended, somebody is at work on it, or it is not yet time.

    It counts as fruitless until it has done something new (``progressed``), or gives the job back of its own accord.
    """
    at = moment(c)
    free = _T.c.holder.is_(None) | (_T.c.held_until <= at)
    query = (
        update(_T)
        .where(_T.c.id == id_, _T.c.state.not_in(_ENDED), free, _T.c.not_before <= at)
        .values(epoch=_T.c.epoch + 1, attempts=_T.c.attempts + 1, fruitless=_T.c.fruitless + 1, holder=holder,
                held_until=at + seconds, started=func.coalesce(_T.c.started, now()))
        .returning(_T)
    )  # fmt: skip
    row = c.execute(query).first()
    if row is None:
        return None
    if row.attempts == 1:
        queue.charge(c, row.owner_id, Where(row.place), max(row.cost_s, LEAST_S))
    events.append(c, row, "attempt", {"round": row.round, "number": row.attempts})
    return Hold(id_, row.epoch, holder)


def renew(c: Connection, hold: Hold, seconds: float) -> bool:
    """Hold it for so long from now; whether its user wants it stopped. Raises Lost.

    A hold that has run out is renewed as long as nobody else has taken the job.
    """
    query = update(_T).where(_held(hold)).values(held_until=moment(c) + seconds).returning(_T.c.cancelling)
    cancelling = c.execute(query).scalar_one_or_none()
    if cancelling is None:
        raise _lost(hold)
    return cancelling


def enter(c: Connection, hold: Hold, state: JobState, key: str | None = None, **facts: Any) -> None:
    """Go forwards to a state in which work is done; backwards it does not go. Raises Lost."""
    row = _mine(c, hold)
    if may(JobState(row.state), state):
        _set(c, hold.job, state=state.value)
        events.append(c, row, "state", {"state": state.value, **facts}, key)


def note(c: Connection, hold: Hold, kind: str, key: str | None = None, **facts: Any) -> Event | None:
    """Append one more event; None where its key stands already. Raises Lost."""
    return events.append(c, _mine(c, hold), kind, facts, key)


def progressed(c: Connection, hold: Hold) -> None:
    """Something new was done: the attempts that brought nothing are counted from here. Raises Lost."""
    if _mine(c, hold).fruitless:
        _set(c, hold.job, fruitless=0)


def fruitless(c: Connection, id_: str) -> int:
    """Attempts in a row that brought nothing, with the one that is under way. Raises NotFoundError."""
    return _row(c, id_).fruitless


def advance(c: Connection, hold: Hold, progress: Progress) -> None:
    """Note the progress of a job; no number of it falls. Raises Lost."""
    row = _mine(c, hold)
    before = Progress(**row.progress)
    if (after := before.onwards(progress)) != before:
        _set(c, hold.job, progress=asdict(after))


def bind(c: Connection, hold: Hold, ray_job: str) -> None:
    """Note which Ray job carries it out. Raises Lost."""
    _mine(c, hold)
    _set(c, hold.job, ray_job=ray_job)


def finish(
    c: Connection, hold: Hold, state: JobState, result: dict[str, Any], result_bytes: int,
    problem: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The end. An entry that an earlier round put into the catalogue stays named. Raises Lost."""
    row = _mine(c, hold)
    kept = {"item": row.result["item"]} if "item" in row.result else {}
    _end(c, row, state, {**kept, **result}, result_bytes, problem)


def release(c: Connection, hold: Hold, not_before: float, *, counts: bool = True) -> None:
    """Give it back, to be taken again at that moment (seconds since 1970); its state stays. Raises Lost.

    ``counts``: whether this was one more attempt without fruit, if it was without; not where the attempt was told to
    go, or found that another one has not gone yet.
    """
    row = _mine(c, hold)
    left = row.fruitless if counts else max(0, row.fruitless - 1)
    _set(c, hold.job, holder=None, held_until=None, not_before=not_before, fruitless=left)


# --- pieces ---------------------------------------------------------------------------------------------------------


def _end(
    c: Connection, row: Row[Any], state: JobState, result: dict[str, Any], result_bytes: int | None = None,
    problem: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    if state not in ENDED:
        raise StoreError(f"{state} is no end")
    _set(
        c, row.id, state=state.value, result=keepable(result or row.result), problem=keepable(problem), ended=now(),
        result_bytes=row.result_bytes if result_bytes is None else result_bytes, holder=None, held_until=None,
    )  # fmt: skip
    told = {"problem": problem} if problem else {}
    events.append(c, row, "state", {"state": state.value, **told})


def _row(c: Connection, id_: str) -> Row[Any]:
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "j"))).first()
    if row is None:
        raise ids.missing(id_, "j")
    return row


def _locked(c: Connection, id_: str) -> Row[Any]:
    """Nobody else changes it until this transaction ends."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "j")).with_for_update()).first()
    if row is None:
        raise ids.missing(id_, "j")
    return row


def _mine(c: Connection, hold: Hold) -> Row[Any]:
    row = c.execute(select(_T).where(_held(hold)).with_for_update()).first()
    if row is None:
        raise _lost(hold)
    return row


def _held(hold: Hold) -> ColumnElement[bool]:
    return (_T.c.id == hold.job) & (_T.c.epoch == hold.epoch) & (_T.c.holder == hold.holder)


def _lost(hold: Hold) -> Lost:
    return Lost(f"attempt {hold.epoch} of the job {hold.job} holds it no longer", hint="stop")


def _set(c: Connection, id_: str, **values: Any) -> None:
    c.execute(update(_T).where(_T.c.id == id_).values(updated=now(), **values))


def _shared() -> Select[Any]:
    return select(tables.projects.c.id).where(tables.projects.c.shared)


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    since = text_of(wanted.since) if isinstance(wanted.since, datetime) else wanted.since
    equal = [(_T.c.owner_id, wanted.owner), (_T.c.model, wanted.model), (_T.c.project_id, wanted.project)]
    found = [column == value for column, value in equal if value is not None]
    if wanted.state:
        found.append(_T.c.state.in_([state.value for state in wanted.state]))
    if since is not None:
        found.append(_T.c.created >= since)
    return found + [_labelled(name, value) for name, value in wanted.labels.items()]


def _labelled(name: str, value: str | float | bool) -> ColumnElement[bool]:
    label = _T.c.labels[name]
    if isinstance(value, bool):
        return label.as_boolean() == value
    if isinstance(value, str):
        return label.as_string() == value
    return label.as_float() == value
