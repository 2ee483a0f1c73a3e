"""Pages of lists. A cursor names the last row seen, so that any page costs what the first one does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Select

from swathe.errors import InputError

T = TypeVar("T")
_ID = re.compile(r"[a-z][0-9a-hjkmnp-tv-z]{26}")
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list."""

    items: tuple[T, ...]
    """Entries, in the list's order."""
    cursor: str | None
    """Where the next page begins; None: this was the last one."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a list is wanted."""

    column: ColumnElement[Any]
    """Column that the list is ordered by; unique and indexed."""
    limit: int
    """Rows of the page, at least 1."""
    cursor: str | None = None
    """Cursor that the page before gave."""
    falling: bool = False
    """Whether the largest comes first."""

    def of(self, query: Select[Any]) -> Select[Any]:
        """The query cut to this page and one row more. Raises InputError (``cursor.invalid``)."""
        column = self.column
        if self.cursor is not None:
            place = self._place(self.cursor)
            query = query.where(column < place if self.falling else column > place)
        return query.order_by(column.desc() if self.falling else column).limit(max(self.limit, 1) + 1)

    def page(self, c: Connection, query: Select[Any], make: Callable[[Any], T]) -> Page[T]:
        """Run the query and give its page."""
        rows = c.execute(self.of(query)).all()
        here = rows[: max(self.limit, 1)]
        more = len(rows) > len(here)
        return Page(tuple(make(row) for row in here), str(getattr(here[-1], self._name)) if more else None)

    @property
    def _name(self) -> str:
        return str(self.column.key)

    def _place(self, cursor: str) -> str | int:
        """What the column is compared with."""
        whole = self.column.type.python_type is int
        if not (_NUMBER if whole else _ID).fullmatch(cursor):
            raise InputError(f"{cursor[:80]!r} is no cursor", code="cursor.invalid", field="cursor",
                             hint="use the one that came with the page before")  # fmt: skip
        return int(cursor) if whole else cursor
