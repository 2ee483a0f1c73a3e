"""Projects."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from serve.store import ids, tables
from serve.store.pages import Cut, Page
from serve.store.store import now
from swathe.errors import ConflictError
from swathe.project import Project

_T = tables.projects
_CHANGEABLE = frozenset({"name", "description", "shared", "labels"})


def add(
    c: Connection, owner: str, name: str, *, description: str = "", shared: bool = False,
    labels: dict[str, Any] | None = None,
) -> Project:  # fmt: skip
    """A new one. Raises ConflictError (``project.taken``) where they have one of that name."""
    _check_name(c, owner, name)
    id_, moment = ids.new("p"), now()
    c.execute(insert(_T).values(id=id_, owner_id=owner, name=name, description=description, shared=shared,
                                labels=labels or {}, created=moment, updated=moment))  # fmt: skip
    return get(c, id_)


def get(c: Connection, id_: str) -> Project:
    """The project of this id. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "p"))).first()
    if row is None:
        raise ids.missing(id_, "p")
    return _project_of(row)


def listed(c: Connection, limit: int, cursor: str | None = None, visible_to: str | None = None) -> Page[Project]:
    """Projects, oldest first: own and shared ones of a user; None: all."""
    query = select(_T)
    if visible_to is not None:
        query = query.where((_T.c.owner_id == visible_to) | _T.c.shared)
    return Cut(_T.c.id, limit, cursor).page(c, query, _project_of)


def count(c: Connection, owner: str) -> int:
    """The number of a user's projects."""
    return c.execute(select(func.count()).select_from(_T).where(_T.c.owner_id == owner)).scalar_one()


def change(c: Connection, id_: str, **changes: Any) -> Project:
    """``name``, ``description``, ``shared``, ``labels``. Raises NotFoundError, ConflictError (``project.taken``)."""
    if strange := set(changes) - _CHANGEABLE:
        raise TypeError(f"projects have no {sorted(strange)} to change")
    found = get(c, id_)
    if "name" in changes and changes["name"] != found.name:
        _check_name(c, found.owner, changes["name"])
    c.execute(update(_T).where(_T.c.id == id_).values(updated=now(), **changes))
    return get(c, id_)


def drop(c: Connection, id_: str) -> None:
    """Remove a project; what was in it is in none then. Raises NotFoundError."""
    if not c.execute(delete(_T).where(_T.c.id == ids.check(id_, "p"))).rowcount:
        raise ids.missing(id_, "p")


def _check_name(c: Connection, owner: str, name: str) -> None:
    if c.execute(select(_T.c.id).where(_T.c.owner_id == owner, _T.c.name == name)).first():
        raise ConflictError(f"you have a project {name[:80]!r} already", code="project.taken", field="name",
                            hint="choose another name")  # fmt: skip


def _project_of(row: Row[Any]) -> Project:
    return Project(row.id, row.owner_id, row.name, row.description, row.shared, row.created, row.updated, row.labels)
