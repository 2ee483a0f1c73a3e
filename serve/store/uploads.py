"""Uploads: what is known of the files that users brought; the files lie elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from serve.store import ids, tables
from serve.store.pages import Cut, Page
from serve.store.store import now
from swathe.project import Upload, UploadState

_T, _J, _P, _R = tables.uploads, tables.jobs, tables.projects, tables.processors


def add(
    c: Connection, owner: str, name: str, *, project: str | None = None, labels: dict[str, Any] | None = None
) -> Upload:
    """Add an upload, whose bytes are awaited."""
    id_ = ids.new("f")
    c.execute(insert(_T).values(id=id_, owner_id=owner, project_id=project, name=name, state=UploadState.OPEN.value,
                                labels=labels or {}, created=now()))  # fmt: skip
    return get(c, id_)


def get(c: Connection, id_: str) -> Upload:
    """The upload of this id. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "f"))).first()
    if row is None:
        raise ids.missing(id_, "f")
    return _upload_of(row)


def listed(c: Connection, limit: int, cursor: str | None = None, visible_to: str | None = None) -> Page[Upload]:
    """Uploads, newest first: a user's own and those in shared projects; None: all."""
    query = select(_T)
    if visible_to is not None:
        shared = select(_P.c.id).where(_P.c.shared)
        query = query.where((_T.c.owner_id == visible_to) | _T.c.project_id.in_(shared))
    return Cut(_T.c.id, limit, cursor, falling=True).page(c, query, _upload_of)


def settle(  # noqa: PLR0913, PLR0917  one for each column
    c: Connection, id_: str, state: UploadState, size: int, sha256: str, facts: dict[str, Any],
    problem: dict[str, Any] | None = None,
) -> Upload:  # fmt: skip
    """Note what became of an upload. Raises NotFoundError."""
    values = {"state": state.value, "size": size, "sha256": sha256, "facts": facts, "problem": problem}
    c.execute(update(_T).where(_T.c.id == ids.check(id_, "f")).values(**values))
    return get(c, id_)


def awaited(c: Connection, user_id: str) -> int:
    """The number of a user's uploads whose bytes are awaited."""
    found = select(func.count()).select_from(_T).where(_T.c.owner_id == user_id, _T.c.state == UploadState.OPEN.value)
    return c.execute(found).scalar_one()


def awaited_since(c: Connection, before: str) -> list[str]:
    """Ids of uploads that were begun before this moment (RFC 3339) and whose bytes are awaited still, oldest first."""
    found = select(_T.c.id).where(_T.c.state == UploadState.OPEN.value, _T.c.created < before).order_by(_T.c.id)
    return list(c.execute(found).scalars())


def known(c: Connection, upload_ids: Sequence[str]) -> set[str]:
    """Those of the ids that are ids of uploads."""
    return set(c.execute(select(_T.c.id).where(_T.c.id.in_(upload_ids))).scalars())


def drop(c: Connection, id_: str) -> None:
    """Remove an upload. Raises NotFoundError."""
    if not c.execute(delete(_T).where(_T.c.id == ids.check(id_, "f"))).rowcount:
        raise ids.missing(id_, "f")


def stored_bytes(c: Connection, user_id: str) -> int:
    """Bytes of a user's uploads, scripts and results.

    Of uploads those that are ready: the bytes of refused ones are gone, whatever their size was. A deleted script
    counts as long as it is kept for jobs.
    """
    ready = (_T.c.owner_id == user_id, _T.c.state == UploadState.READY.value)
    brought = select(func.coalesce(func.sum(_T.c.size), 0)).where(*ready)
    scripts = select(func.coalesce(func.sum(_R.c.size), 0)).where(_R.c.owner_id == user_id)
    made = select(func.coalesce(func.sum(_J.c.result_bytes), 0)).where(_J.c.owner_id == user_id)
    whole = brought.scalar_subquery() + scripts.scalar_subquery() + made.scalar_subquery()
    return int(c.execute(select(whole)).scalar_one())


def _upload_of(row: Row[Any]) -> Upload:
    return Upload(row.id, row.owner_id, row.project_id, row.name, UploadState(row.state), row.size, row.created,
                  row.sha256, row.facts, row.problem, row.labels)  # fmt: skip
