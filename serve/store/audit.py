"""The audit log: who did what, written with what was done, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from serve.store import tables
from serve.store.pages import Cut, Page
from serve.store.store import now
from swathe.user import Caller

_T = tables.audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log."""

    seq: int
    """Number of the line; later lines have larger ones."""
    at: str
    """UTC, RFC 3339."""
    user: str | None
    """Id of the user who did it; None: the service itself."""
    key: str | None
    """Id of the key that was used."""
    action: str
    """Dotted words, e.g. ``job.submit``."""
    subject: str
    """Id of what it was done to."""
    facts: dict[str, Any]
    """What else is known of it."""


def note(c: Connection, caller: Caller | None, action: str, subject: str = "", **facts: Any) -> None:
    """Write one line, in the transaction of what it tells of."""
    user, key = (caller.user.id, caller.key) if caller else (None, None)
    c.execute(insert(_T).values(at=now(), user_id=user, key_id=key, action=action, subject=subject, facts=facts))


def listed(c: Connection, limit: int, cursor: str | None = None, user: str | None = None) -> Page[Entry]:
    """Lines of the audit log, newest first: what one user did, or all."""
    query = select(_T) if user is None else select(_T).where(_T.c.user_id == user)
    return Cut(_T.c.seq, limit, cursor, falling=True).page(c, query, _entry_of)


def _entry_of(row: Row[Any]) -> Entry:
    return Entry(row.seq, row.at, row.user_id, row.key_id, row.action, row.subject, row.facts)
