"""Processors: what is known of users' scripts; the scripts lie elsewhere."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from serve.store import ids, tables
from serve.store.pages import Cut, Page
from serve.store.store import now
from swathe.processor import ProcessorCard

_T, _P = tables.processors, tables.projects


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
    """It is kept for jobs that run it. Raises NotFoundError."""
    gone = update(_T).where(_T.c.id == ids.check(id_, "r"), _T.c.deleted.is_(None)).values(deleted=now())
    if not c.execute(gone).rowcount:
        raise ids.missing(id_, "r")


def _card_of(row: Row[Any]) -> ProcessorCard:
    return ProcessorCard(row.id, row.owner_id, row.project_id, row.name, row.description, row.file, row.call,
                         row.parameters, row.size, row.sha256, row.created, row.labels, row.deleted)  # fmt: skip
