"""Leases: who alone may do something, until when that is believed, and a number that grows with each holder."""

from __future__ import annotations

from sqlalchemy import Connection, update

from serve.store import tables
from serve.store.store import moment, upsert

_T = tables.leases


def take(c: Connection, name: str, holder: str, seconds: float) -> int | None:
    """The epoch of whoever has it now, one more than the last one's; None: somebody else has it."""
    at = moment(c)
    fresh = upsert(c, _T).values(name=name, holder=holder, until=at + seconds, epoch=1)
    free = (_T.c.until <= at) | (_T.c.holder == holder)
    query = fresh.on_conflict_do_update(
        index_elements=[_T.c.name], where=free,
        set_={"holder": holder, "until": at + seconds, "epoch": _T.c.epoch + 1},
    )  # fmt: skip
    return c.execute(query.returning(_T.c.epoch)).scalar_one_or_none()


def renew(c: Connection, name: str, holder: str, epoch: int, seconds: float) -> bool:
    """Hold it for so many seconds more. False: it was given to somebody else, or has run out."""
    at = moment(c)
    mine = (_T.c.name == name) & (_T.c.holder == holder) & (_T.c.epoch == epoch) & (_T.c.until > at)
    return bool(c.execute(update(_T).where(mine).values(until=at + seconds)).rowcount)


def give(c: Connection, name: str, holder: str, epoch: int) -> None:
    """Give the lease back, so that the next one can have it at once."""
    mine = (_T.c.name == name) & (_T.c.holder == holder) & (_T.c.epoch == epoch)
    c.execute(update(_T).where(mine).values(until=0.0))
