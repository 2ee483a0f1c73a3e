"""Keys: made, found by what a client sends, withdrawn. The key itself is seen once, by whoever made it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from serve.desk import rights
from serve.desk.usage import check_count
from serve.store import audit, keys, users
from serve.store.keys import Pepper
from serve.store.store import now
from swathe.errors import AccessError, LimitError, StoreError
from swathe.user import SCOPES_OF, Caller, Scope

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.user import Key

PREFIX = "swk-"
"""How our own API shows a key; other dialects have forms of their own."""
_MINUTE = len("2026-01-31T10:50")


class Keys:
    """The use cases around keys: one's own, and everybody's for administrators."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._pepper, self._store = Pepper(settings.pepper.encode()), store
        self._most = settings.limits.keys_per_user

    def open(self, text: str) -> Caller:
        """Who holds a key. Raises AccessError (``access.key``), the same for every key that opens nothing."""
        with self._store.read() as c:
            found = keys.find(c, self._pepper, text)
        if found is None:
            raise _closed()
        key, user = found
        moment = now()
        if not (key.active and user.active) or (key.expires is not None and key.expires <= moment):
            raise _closed()
        if (key.used or "")[:_MINUTE] != moment[:_MINUTE]:
            with suppress(StoreError), self._store.begin() as c:  # a note of no weight: nobody waits for it
                keys.touch(c, key.id)
        return Caller(user, key.scopes & SCOPES_OF[user.role], key.id)

    def make(
        self, caller: Caller, label: str = "", scopes: Iterable[Scope] | None = None, days: int | None = None,
        user: str | None = None, most: int = 0,
    ) -> tuple[Key, str]:  # fmt: skip
        """A new key, and what opens. ``scopes``: None: all that are possible; ``days``: None: for ever.

        ``most``: how many of this label a user may have; 0: as many as of all. Raises NotFoundError (somebody else's),
        ForbiddenError (more than the caller's own key may do), LimitError (``limit.keys``).
        """
        rights.require(caller, Scope.KEYS)
        whose = user or caller.user.id
        rights.see(caller, whose, f"user {whose}")
        with self._store.begin() as c:
            owner = users.get(c, whose)
            users.hold(c, whose)  # two requests at once do not both make the last one
            if most:
                _check_room(keys.of_user(c, whose), label, most)
            if not caller.admin:
                check_count(keys.count(c, whose), self._most, "keys", "limit.keys")
            given = rights.granted(caller, scopes, SCOPES_OF[owner.role])
            key, secret = keys.make(c, self._pepper, whose, given, label=label, days=days)
            audit.note(c, caller, "key.make", key.id, user=whose, scopes=sorted(given))
        return key, PREFIX + secret

    def listed(self, caller: Caller, user: str | None = None) -> list[Key]:
        """Keys of a user. Raises NotFoundError."""
        rights.require(caller, Scope.KEYS)
        whose = user or caller.user.id
        rights.see(caller, whose, f"user {whose}")
        with self._store.read() as c:
            return keys.of_user(c, whose)

    def change(self, caller: Caller, id_: str, *, active: bool) -> Key:
        """Switch a key on or off. Raises NotFoundError."""
        rights.require(caller, Scope.KEYS)
        with self._store.begin() as c:
            rights.see(caller, keys.get(c, id_).user, f"key {id_}")
            made = keys.change(c, id_, active)
            audit.note(c, caller, "key.change", id_, active=active)
        return made

    def drop(self, caller: Caller, id_: str) -> None:
        """Remove a key for ever. Raises NotFoundError."""
        rights.require(caller, Scope.KEYS)
        with self._store.begin() as c:
            rights.see(caller, keys.get(c, id_).user, f"key {id_}")
            keys.drop(c, id_)
            audit.note(c, caller, "key.drop", id_)


def _closed() -> AccessError:
    return AccessError("this key opens nothing", code="access.key", hint="check it, or make a new one")


def _check_room(there: Iterable[Key], label: str, most: int) -> None:
    count = sum(key.label == label for key in there)
    if count >= most:
        raise LimitError(f"there are {count} keys labelled {label!r}, {most} are allowed", code="limit.keys",
                         hint="delete one of them first")  # fmt: skip
