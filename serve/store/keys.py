"""Keys. What opens is never kept: only its first eight characters and an HMAC of the whole."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from serve.store import ids, tables, users
from serve.store.store import now, text_of
from swathe.user import Key, Scope, User

_T = tables.keys
_LETTERS = string.ascii_letters + string.digits
_LENGTH, _PREFIX = 32, 8
_MINUTE = len("2026-01-31T10:50")
_LONGEST = 1000
"""Characters of what a client sends that are looked at."""


@dataclass(frozen=True, slots=True)
class Pepper:
    """The secret of an installation: without it, what is kept of keys opens nothing and can be matched to nothing."""

    secret: bytes = field(repr=False)
    """The secret, at least 16 bytes."""

    def digest(self, text: str) -> bytes:
        """The digest of a key's 32 characters."""
        return hmac.digest(self.secret, text.encode(), hashlib.sha256)


def make(
    c: Connection, pepper: Pepper, user_id: str, scopes: Iterable[Scope], label: str = "", days: float | None = None
) -> tuple[Key, str]:
    """A new key, and the 32 characters that open. ``days``: None: for ever."""
    text = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    id_, expires = ids.new("k"), None if days is None else text_of(datetime.now(UTC) + timedelta(days=days))
    c.execute(
        insert(_T).values(
            id=id_, user_id=user_id, prefix=text[:_PREFIX], digest=pepper.digest(text), scopes=sorted(scopes),
            label=label, created=now(), expires=expires, active=True,
        )
    )  # fmt: skip
    return get(c, id_), text


def find(c: Connection, pepper: Pepper, text: str) -> tuple[Key, User] | None:
    """Whose key this is, in whatever form a dialect writes it; whether it is still good is for the caller to see.

    The last 32 letters and digits count. A wrong key takes as long as a right one.
    """
    plain = "".join(letter for letter in text[-_LONGEST:] if letter in _LETTERS)[-_LENGTH:]
    digest = pepper.digest(plain)
    row = c.execute(select(_T).where(_T.c.prefix == plain[:_PREFIX])).first()
    held = row.digest if row is not None else bytes(len(digest))
    if not hmac.compare_digest(held, digest) or row is None:
        return None
    return _key_of(row), users.get(c, row.user_id)


def get(c: Connection, id_: str) -> Key:
    """The key of this id. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "k"))).first()
    if row is None:
        raise ids.missing(id_, "k")
    return _key_of(row)


def of_user(c: Connection, user_id: str) -> list[Key]:
    """Keys of a user, oldest first."""
    return [_key_of(row) for row in c.execute(select(_T).where(_T.c.user_id == user_id).order_by(_T.c.id))]


def count(c: Connection, user_id: str) -> int:
    """The number of a user's keys that have not expired; one that is switched off may be switched on again."""
    lasting = _T.c.expires.is_(None) | (_T.c.expires > now())
    return c.execute(select(func.count()).select_from(_T).where(_T.c.user_id == user_id, lasting)).scalar_one()


def change(c: Connection, id_: str, active: bool) -> Key:
    """Switch a key on or off. Raises NotFoundError."""
    c.execute(update(_T).where(_T.c.id == ids.check(id_, "k")).values(active=active))
    return get(c, id_)


def drop(c: Connection, id_: str) -> None:
    """Remove a key for ever. Raises NotFoundError."""
    if not c.execute(delete(_T).where(_T.c.id == ids.check(id_, "k"))).rowcount:
        raise ids.missing(id_, "k")


def touch(c: Connection, id_: str) -> None:
    """Note that a key was used, once a minute."""
    minute = now()[:_MINUTE]
    stale = _T.c.used.is_(None) | (_T.c.used < minute)
    c.execute(update(_T).where(_T.c.id == id_, stale).values(used=f"{minute}:00.000Z"))


def _key_of(row: Row[Any]) -> Key:
    return Key(row.id, row.user_id, row.prefix, frozenset(Scope(s) for s in row.scopes), row.label, row.created,
               row.expires, row.active, row.used)  # fmt: skip
