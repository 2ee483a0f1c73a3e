"""Replies to requests that carried a key of their own: sent again, they get the first answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from serve.store import tables
from serve.store.store import moment, upsert
from swathe.errors import ConflictError

_T = tables.replies
_GIVEN_UP_S = 20.0
"""Without a sign of life, after which a request is taken for dead, and its key may begin again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was given."""

    status: int
    """Status of HTTP."""
    headers: dict[str, str]
    """Headers that belong to the answer."""
    body: bytes
    """Body, as it was sent."""


def begin(c: Connection, user_id: str, operation: str, key: str, body_hash: str) -> Reply | None:
    """The answer that stands; None: this request is the first, and has to ``keep`` its answer or ``forget`` the key.

    Raises ConflictError (``idempotency.body``: the same key came with another request; ``idempotency.running``).
    """
    at = moment(c)
    claim = {"body_hash": body_hash, "status": None, "headers": None, "body": None, "created": at}
    dead = _T.c.status.is_(None) & (_T.c.created <= at - _GIVEN_UP_S)
    query = upsert(c, _T).values(user_id=user_id, operation=operation, key=key, **claim)
    query = query.on_conflict_do_update(index_elements=list(_T.primary_key), set_=claim, where=dead)
    if c.execute(query.returning(_T.c.key)).first():
        return None
    return _standing(c, _of(user_id, operation, key), body_hash)


def keep(  # noqa: PLR0913, PLR0917  three to name it, three to answer
    c: Connection, user_id: str, operation: str, key: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:  # fmt: skip
    """The answer; in the transaction of what it tells of, where there is one.

    Raises ConflictError (``idempotency.running``) where the key was given to a later request meanwhile, which has
    answered: then what this transaction did does not stand.
    """
    open_ = _of(user_id, operation, key) & _T.c.status.is_(None)
    if not c.execute(update(_T).where(open_).values(status=status, headers=dict(headers), body=body)).rowcount:
        raise _running()


def renew(c: Connection, user_id: str, operation: str, key: str) -> None:
    """Note that the request is still at work, so that it is not taken for dead."""
    open_ = _of(user_id, operation, key) & _T.c.status.is_(None)
    c.execute(update(_T).where(open_).values(created=moment(c)))


def forget(c: Connection, user_id: str, operation: str, key: str) -> None:
    """Note that the request came to nothing: its key may begin again."""
    c.execute(delete(_T).where(_of(user_id, operation, key), _T.c.status.is_(None)))


def sweep(c: Connection, older_than: float) -> int:
    """Remove answers that are older than this moment (seconds since 1970); gives their number."""
    return c.execute(delete(_T).where(_T.c.created < older_than)).rowcount


def _standing(c: Connection, this: ColumnElement[bool], body_hash: str) -> Reply:
    row: Any = c.execute(select(_T).where(this)).one()
    if row.body_hash != body_hash:
        raise ConflictError("this key came with another request before", code="idempotency.body",
                            field="Idempotency-Key", hint="use a new key for a new request")  # fmt: skip
    if row.status is None:
        raise _running()
    return Reply(row.status, row.headers, row.body)


def _of(user_id: str, operation: str, key: str) -> ColumnElement[bool]:
    return (_T.c.user_id == user_id) & (_T.c.operation == operation) & (_T.c.key == key)


def _running() -> ConflictError:
    return ConflictError("another request with this key is at work", code="idempotency.running",
                         field="Idempotency-Key", hint="try again in a moment")  # fmt: skip
