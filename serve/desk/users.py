"""Users: for administrators, and those whom an identity provider vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serve.desk import rights
from serve.store import audit, users
from swathe.errors import AccessError, ConflictError, ForbiddenError
from swathe.user import SCOPES_OF, Caller, Role, User

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from serve.store.pages import Page
    from serve.store.store import Store

_OWN = frozenset({"name"})
"""What users may change about themselves."""


class Users:
    """The use cases around users."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._settings, self._store = settings, store

    def add(self, caller: Caller, email: str, role: Role = Role.MEMBER, name: str = "") -> User:
        """Add a user. Raises ConflictError (``user.taken``)."""
        rights.require_admin(caller)
        with self._store.begin() as c:
            if users.by_email(c, email.strip().lower()) is not None:
                raise ConflictError("there is a user with this address already", code="user.taken", field="email")
            made = users.add(c, email.strip().lower(), role, name)
            audit.note(c, caller, "user.add", made.id, role=role)
        return made

    def get(self, caller: Caller, id_: str) -> User:
        """The caller; other users for administrators. Raises NotFoundError."""
        rights.see(caller, id_, f"user {id_}")
        with self._store.read() as c:
            return users.get(c, id_)

    def listed(self, caller: Caller, limit: int = 100, cursor: str | None = None) -> Page[User]:
        """All users, for administrators."""
        rights.require_admin(caller)
        with self._store.read() as c:
            return users.listed(c, limit, cursor)

    def change(self, caller: Caller, id_: str, **changes: Any) -> User:
        """``name``, ``role``, ``active``, ``quota``; of oneself the name. Raises NotFoundError, ForbiddenError.

        The last administrator stays one: ConflictError (``user.last_admin``).
        """
        rights.see(caller, id_, f"user {id_}")
        if not caller.admin and set(changes) - _OWN:
            raise ForbiddenError("an administrator changes this", code="access.admin", hint="ask one of them")
        with self._store.begin() as c:
            found = users.get(c, id_)
            made = users.change(c, id_, **changes)
            if _steps_down(found, made) and not users.others(c, Role.ADMIN, id_):
                raise ConflictError("this is the last administrator", code="user.last_admin",
                                    hint="make another one first")  # fmt: skip
            audit.note(c, caller, "user.change", id_, fields=sorted(changes))
        return made

    def of_token(self, claims: Mapping[str, Any]) -> Caller:
        """Who a token speaks of, made at the first time. The API has checked signature, issuer, audience and times.

        Raises AccessError (``access.inactive``), ConflictError (``user.taken``: the address belongs to another user).
        """
        subject = f"{claims['iss']}|{claims['sub']}"
        with self._store.read() as c:
            found = users.by_subject(c, subject)
        found = found or self._welcomed(subject, claims)
        if not found.active:
            raise AccessError("this user is switched off", code="access.inactive", hint="ask an administrator")
        return Caller(found, SCOPES_OF[found.role])

    def _welcomed(self, subject: str, claims: Mapping[str, Any]) -> User:
        """Without rights beyond those of the settings, whatever the token says of roles."""
        email = _address(claims)
        with self._store.begin() as c:
            known = users.by_subject(c, subject)  # a second request was as fast
            if known is not None:
                return known
            if users.by_email(c, email) is not None:
                raise ConflictError("a user with this address was here before", code="user.taken",
                                    hint="an administrator has to remove or rename that one")  # fmt: skip
            made = users.add(c, email, self._settings.limits.token_role, str(claims.get("name", ""))[:200], subject)
            audit.note(c, None, "user.add", made.id, identity=subject)
        return made


def _steps_down(before: User, after: User) -> bool:
    was, stays = (user.role is Role.ADMIN and user.active for user in (before, after))
    return was and not stays


def _address(claims: Mapping[str, Any]) -> str:
    """The address where the provider says that it has checked it, else one that says who it is and reaches nobody.

    Some providers let people write any address and send no ``email_verified``: it may be a colleague's.
    """
    said = str(claims.get("email", "")).strip().lower()
    if "@" in said and claims.get("email_verified") is True:
        return said
    return f"{claims['sub']}@{str(claims['iss']).partition('://')[2].partition('/')[0]}".lower()
