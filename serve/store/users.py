"""Users."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from serve.store import ids, tables
from serve.store.pages import Cut, Page
from serve.store.store import now
from swathe.user import Quota, Role, User

_T = tables.users
_CHANGEABLE = frozenset({"name", "role", "active", "quota"})


def add(c: Connection, email: str, role: Role = Role.MEMBER, name: str = "", subject: str = "") -> User:
    """Add a user. Raises ConflictError where the address or subject is taken."""
    id_ = ids.new("u")
    c.execute(insert(_T).values(id=id_, email=email.strip().lower(), name=name, role=Role(role).value, active=True,
                                quota={}, subject=subject or None, created=now()))  # fmt: skip
    return get(c, id_)


def get(c: Connection, id_: str) -> User:
    """The user of this id. Raises NotFoundError."""
    row = c.execute(select(_T).where(_T.c.id == ids.check(id_, "u"))).first()
    if row is None:
        raise ids.missing(id_, "u")
    return user_of(row)


def hold(c: Connection, id_: str) -> None:
    """Let nobody else pass here for the same user until this transaction ends."""
    c.execute(select(_T.c.id).where(_T.c.id == id_).with_for_update())


def by_email(c: Connection, email: str) -> User | None:
    """The user who has this address; None: nobody has it."""
    row = c.execute(select(_T).where(_T.c.email == email.strip().lower())).first()
    return None if row is None else user_of(row)


def by_subject(c: Connection, subject: str) -> User | None:
    """The user with this ``issuer|sub`` of an identity provider; None: there is none."""
    row = c.execute(select(_T).where(_T.c.subject == subject)).first()
    return None if row is None else user_of(row)


def change(c: Connection, id_: str, **changes: Any) -> User:
    """Change ``name``, ``role``, ``active``, ``quota``. Raises NotFoundError."""
    if strange := set(changes) - _CHANGEABLE:
        raise TypeError(f"users have no {sorted(strange)} to change")
    if isinstance(quota := changes.get("quota"), Quota):
        changes["quota"] = {name: value for name, value in asdict(quota).items() if value is not None}
    if changes:
        c.execute(update(_T).where(_T.c.id == ids.check(id_, "u")).values(**changes))
    return get(c, id_)


def others(c: Connection, role: Role, id_: str) -> int:
    """How many active ones of that role there are beside this one. Two who ask at once do not both count the other."""
    query = select(_T.c.id).where(_T.c.role == Role(role).value, _T.c.active, _T.c.id != id_).with_for_update()
    return len(c.execute(query).all())


def listed(c: Connection, limit: int, cursor: str | None = None) -> Page[User]:
    """All users, oldest first."""
    return Cut(_T.c.id, limit, cursor).page(c, select(_T), user_of)


def count(c: Connection) -> int:
    """The number of users."""
    return c.execute(select(func.count()).select_from(_T)).scalar_one()


def user_of(row: Row[Any]) -> User:
    """A user, from all columns of the table."""
    return User(row.id, row.email, row.name, Role(row.role), row.active, row.created, Quota(**row.quota),
                row.subject or "")  # fmt: skip
