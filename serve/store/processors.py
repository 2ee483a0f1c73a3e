"""Processors: what is known of users' scripts; the scripts lie elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, insert, select, update
from sqlalchemy import delete as delete_from

from serve.store import ids, tables
from serve.store.pages import Cut, Page
from serve.store.store import now
from swathe.job import JobState
from swathe.processor import ProcessorCard

_T, _P, _J, _W = tables.processors, tables.projects, tables.jobs, tables.wishes
_NAMED = ("processor", "id")
"""Where a request names one."""
_AT_ONCE = 400
"""Ids of one question."""


def add(c: Connection, owner: str, **values: Any) -> ProcessorCard:
    """A new one; ``values`` are fields of a ProcessorCard, its project as ``project``."""
    facts = {**values, "project_id": values.pop("project", None)}
    facts.pop("project", None)
    c.execute(insert(_T).values(owner_id=owner, created=now(), **facts))
    return get(c, values["id"])


def get(c: Connection, id_: str) -> ProcessorCard:
    """Also one that was deleted. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "r"))).first()
    if row is None:
        raise ids.missing(id_, "r")
    return _card_of(row)


def listed(c: Connection, limit: int, cursor: str | None = None, visible_to: str | None = None) -> Page[ProcessorCard]:
    """Newest first, without deleted ones: a user's own and those in shared projects; None: all."""
    query = select(_T).where(_T.c.deleted.is_(None))
    if visible_to is not None:
        shared = select(_P.c.id).where(_P.c.shared)
        query = query.where((_T.c.owner_id == visible_to) | _T.c.project_id.in_(shared))
    return Cut(_T.c.id, limit, cursor, falling=True).page(c, query, _card_of)


def delete(c: Connection, id_: str) -> None:
    """It is kept for jobs that run it, until ``unneeded`` names it. Raises NotFoundError."""
    gone = update(_T).where(_T.c.id == ids.check(id_, "r"), _T.c.deleted.is_(None)).values(deleted=now())
    if not c.execute(gone).rowcount:
        raise ids.missing(id_, "r")


def unneeded(c: Connection, before: str) -> list[str]:
    """Those that were deleted before this moment (RFC 3339) and that nothing which was accepted may run any more.

    A job may as long as it is open or can be resumed, a wish of a batch as long as it waits.
    """
    found: list[str] = []
    for some in _parts(c.execute(select(_T.c.id).where(_T.c.deleted < before).order_by(_T.c.id)).scalars().all()):
        needed = _named(c, _J, _J.c.state != JobState.DONE.value, some)
        needed |= _named(c, _W, _W.c.settled.is_(None), some)
        found += [id_ for id_ in some if id_ not in needed]
    return found


def known(c: Connection, processor_ids: Sequence[str]) -> set[str]:
    """Those that there are, deleted ones among them."""
    return set(c.execute(select(_T.c.id).where(_T.c.id.in_(processor_ids))).scalars())


def drop(c: Connection, processor_ids: Sequence[str]) -> None:
    """Forget them; that one is not there is no error."""
    for some in _parts(processor_ids):
        c.execute(delete_from(_T).where(_T.c.id.in_(some)))


# --- pieces ---------------------------------------------------------------------------------------------------------


def _named(c: Connection, table: Table, where: ColumnElement[bool], processor_ids: Sequence[str]) -> set[str]:
    """Which of these the requests of some rows name."""
    named = table.c.request[_NAMED].as_string()
    return set(c.execute(select(named).where(where, named.in_(processor_ids)).distinct()).scalars())


def _parts(processor_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (processor_ids[first : first + _AT_ONCE] for first in range(0, len(processor_ids), _AT_ONCE))


def _card_of(row: Row[Any]) -> ProcessorCard:
    return ProcessorCard(row.id, row.owner_id, row.project_id, row.name, row.description, row.file, row.call,
                         row.parameters, row.size, row.sha256, row.created, row.labels, row.deleted)  # fmt: skip
