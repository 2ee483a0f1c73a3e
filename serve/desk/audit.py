"""Who did what: for administrators all of it, for everybody what they did themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.desk import rights
from serve.store import audit

if TYPE_CHECKING:
    from serve.store.audit import Entry
    from serve.store.pages import Page
    from serve.store.store import Store
    from swathe.user import Caller


class Audit:
    """Lines that are written with each change and never altered."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def listed(
        self, caller: Caller, limit: int = 100, cursor: str | None = None, user: str | None = None
    ) -> Page[Entry]:  # fmt: skip
        """Newest first. Raises NotFoundError where somebody else's are asked for."""
        whose = user if caller.admin else user or caller.user.id
        rights.see(caller, whose, f"user {whose}")
        with self._store.read() as c:
            return audit.listed(c, limit, cursor, user=whose)
