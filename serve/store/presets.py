"""Presets: names for models and how they are to be used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from serve.store import ids, tables
from serve.store.store import now
from swathe.batch import Preset

_T = tables.presets
_CHANGEABLE = frozenset({"name", "model", "shared", "labels"})


def add(c: Connection, owner: str, kind: str, name: str, **given: Any) -> Preset:
    """Add a preset; ``model``, ``shared``, ``labels`` as given."""
    id_, moment = ids.new("s"), now()
    values = {"model": None, "shared": False, "labels": {}, **given}
    c.execute(insert(_T).values(id=id_, owner_id=owner, kind=kind, name=name, created=moment, updated=moment, **values))
    return get(c, id_)


def get(c: Connection, id_: str) -> Preset:
    """The preset of this id. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "s"))).first()
    if row is None:
        raise ids.missing(id_, "s")
    return _preset_of(row)


def listed(c: Connection, kind: str, visible_to: str | None = None) -> list[Preset]:
    """Presets, newest first: own and shared ones of a user; None: all."""
    query = select(_T).where(_T.c.kind == kind).order_by(_T.c.id.desc())
    if visible_to is not None:
        query = query.where((_T.c.owner_id == visible_to) | _T.c.shared)
    return [_preset_of(row) for row in c.execute(query)]


def change(c: Connection, id_: str, **changes: Any) -> Preset:
    """Change ``name``, ``model``, ``shared``, ``labels``. Raises NotFoundError."""
    if strange := set(changes) - _CHANGEABLE:
        raise TypeError(f"presets have no {sorted(strange)} to change")
    c.execute(update(_T).where(_T.c.id == ids.check(id_, "s")).values(updated=now(), **changes))
    return get(c, id_)


def drop(c: Connection, id_: str) -> None:
    """Remove a preset. Raises NotFoundError."""
    if not c.execute(delete(_T).where(_T.c.id == ids.check(id_, "s"))).rowcount:
        raise ids.missing(id_, "s")


def _preset_of(row: Row[Any]) -> Preset:
    return Preset(row.id, row.owner_id, row.kind, row.name, row.model, row.shared, row.created, row.updated, row.labels)
