"""Models: cards that were added while the service ran, and which of all are switched on or off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from serve.store import tables
from serve.store.store import now, upsert
from swathe.errors import NotFoundError

_T, _C = tables.models, tables.counters
_COUNTER = "models"


@dataclass(frozen=True, slots=True)
class Model:
    """A card that was added, or what was decided about a shipped one."""

    id: str
    """Id of the card."""
    card: dict[str, Any] | None
    """The card; None for a shipped one that was switched on or off."""
    enabled: bool
    """Whether it may be used."""
    owner: str | None
    """Id of the user who added it."""
    shared: bool
    """Whether all users see it."""
    problem: dict[str, Any] | None
    """RFC 9457: why it cannot be used."""
    version: int
    """Number that grows when its card is replaced."""
    created: str
    """When it was added: UTC, RFC 3339."""
    updated: str
    """When it was changed last: UTC, RFC 3339."""


def put(c: Connection, model: Model) -> None:
    """Add it, or replace the one of that id."""
    values = {
        "card": model.card, "enabled": model.enabled, "owner_id": model.owner, "shared": model.shared,
        "problem": model.problem, "version": model.version, "created": model.created, "updated": model.updated,
    }  # fmt: skip
    fresh = upsert(c, _T).values(id=model.id, **values)
    c.execute(fresh.on_conflict_do_update(index_elements=[_T.c.id], set_=values))
    _count_up(c)


def get(c: Connection, id_: str) -> Model:
    """The model of this id. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == id_)).first()
    if row is None:
        raise _missing(id_)
    return _model_of(row)


def listed(c: Connection) -> list[Model]:
    """All that anything was decided about, by id."""
    return [_model_of(row) for row in c.execute(select(_T).order_by(_T.c.id))]


def enable(c: Connection, id_: str, enabled: bool) -> None:
    """Switch a model on or off, a shipped one, too."""
    moment = now()
    fresh = upsert(c, _T).values(id=id_, enabled=enabled, shared=True, version=1, created=moment, updated=moment)
    c.execute(fresh.on_conflict_do_update(index_elements=[_T.c.id], set_={"enabled": enabled, "updated": moment}))
    _count_up(c)


def drop(c: Connection, id_: str) -> None:
    """Forget what was added or decided. Raises NotFoundError."""
    if not c.execute(delete(_T).where(_T.c.id == id_)).rowcount:
        raise _missing(id_)
    _count_up(c)


def revision(c: Connection) -> int:
    """A number that grows with every change, so that a list in memory can be known to be current."""
    return c.execute(select(_C.c.value).where(_C.c.name == _COUNTER)).scalar_one_or_none() or 0


def _count_up(c: Connection) -> None:
    fresh = upsert(c, _C).values(name=_COUNTER, value=1)
    c.execute(fresh.on_conflict_do_update(index_elements=[_C.c.name], set_={"value": _C.c.value + 1}))


def _missing(id_: str) -> NotFoundError:
    return NotFoundError(f"nothing is known of a model {id_[:80]!r}", code="model.unknown", field="model")


def _model_of(row: Row[Any]) -> Model:
    return Model(row.id, row.card, row.enabled, row.owner_id, row.shared, row.problem, row.version, row.created,
                 row.updated)  # fmt: skip
