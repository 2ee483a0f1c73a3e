"""A search: what is asked, as a value, and the page that answers it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipelines.catalogue.conditions import Sql, Tests, during, equip, joined, meets_indexed
from pipelines.catalogue.entry import whole
from pipelines.catalogue.filters import filter_sql, query_sql
from pipelines.catalogue.moments import interval
from pipelines.catalogue.order import SortKey, after, order_of, ordered, selected, token_of, values_of
from pipelines.catalogue.places import boxes, drawn, geometry_of
from swathe.errors import InputError

MOST = 1000
"""Items of one page."""
_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked of a catalogue; everything given has to hold."""

    collections: tuple[str, ...] | None = None
    """Ids; None: all of them. An empty tuple finds nothing."""
    ids: tuple[str, ...] | None = None
    """Of items; None: all."""
    bbox: Sequence[float] | None = None
    """west, south, east, north (or with heights), degrees; west > east crosses the antimeridian."""
    intersects: dict[str, Any] | None = None
    """GeoJSON geometry; not together with ``bbox``."""
    datetime: str | None = None
    """Instant or interval, RFC 3339."""
    filter: str | dict[str, Any] | None = None
    """CQL2 text or JSON."""
    query: dict[str, Any] = field(default_factory=dict)
    """property -> operator -> value."""
    sortby: tuple[tuple[str, bool], ...] = ()
    """(field, descending); none: newest first."""
    limit: int = 10
    """Items of the page, at most ``MOST``."""
    token: str | None = None
    """Of the page before."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the items that a search found."""

    items: tuple[dict[str, Any], ...]
    """STAC Items as they were registered, without links that follow from where they are served."""
    token: str | None
    """For the next page; None: this was the last one."""
    matched: int
    """Items that the search finds on all its pages."""


def answer(connection: sqlite3.Connection, search: Search, seconds: float, only: Sql = ("1", ())) -> Page:
    """Run a search, among the items that ``only`` lets through.

    Raises InputError whose ``field`` names what is wrong with it, or ``catalogue.slow``.
    """
    if not search.limit >= 1:
        raise InputError("a page holds at least one item", code="catalogue.limit", field="limit", hint="give 1 or more")
    tests, keys, limit = Tests(), order_of(search.sortby), min(search.limit, MOST)
    where = joined([*conditions(search, tests), only])
    follows = [after(keys, values_of(search.token, keys))] if search.token else []
    equip(connection)
    with tests, _bounded(connection, seconds):
        rows = _rows(connection, joined([where, *follows]), keys, limit + 1)
        matched = len(rows) if not follows and len(rows) <= limit else _count(connection, where)
    here = rows[:limit]
    token = token_of(keys, here[-1][2:]) if len(rows) > limit else None
    return Page(tuple(whole(properties, document) for properties, document, *_ in here), token, matched)


def conditions(search: Search, tests: Tests) -> list[Sql]:
    """All that has to hold, the cheap ones first."""
    if search.bbox is not None and search.intersects is not None:
        raise InputError(
            "bbox and intersects cannot be asked for together",
            code="catalogue.twice",
            field="intersects",
            hint="leave one of them out",
        )
    found = [
        _among(name, given)
        for name, given in (("collection", search.collections), ("id", search.ids))
        if given is not None
    ]
    if search.datetime is not None:
        found.append(during(*interval(search.datetime)))
    if search.bbox is not None:
        found.append(meets_indexed([drawn(box) for box in boxes(search.bbox)], tests))
    if search.intersects is not None:
        found.append(meets_indexed([geometry_of(search.intersects, field="intersects")], tests))
    if search.query:
        found += query_sql(search.query, tests)
    if search.filter is not None:
        found += filter_sql(search.filter, tests)
    return found


def _among(column: str, values: Sequence[str]) -> Sql:
    return f"{column} IN ({', '.join('?' * len(values))})", tuple(values)


def _rows(connection: sqlite3.Connection, where: Sql, keys: Sequence[SortKey], count: int) -> list[tuple[Any, ...]]:
    """(properties, document, k0, k1, …). Documents are fetched for the rows of the page alone, not for all sorted."""
    values, paths = selected(keys)
    names = ", ".join(f"k{i}" for i in range(len(keys)))
    sql = (
        f"WITH page AS (SELECT key AS row, {values} FROM stac_items WHERE {where[0]}"  # noqa: S608  our own words; all values are bound
        f" ORDER BY {ordered(keys)} LIMIT ?)"
        f" SELECT properties, document, {names} FROM page JOIN stac_items AS i ON i.key = row"
        f" JOIN stac_documents AS d ON d.key = row ORDER BY {ordered(keys)}"
    )
    return connection.execute(sql, (*paths, *where[1], count)).fetchall()


def _count(connection: sqlite3.Connection, where: Sql) -> int:
    sql = f"SELECT count(*) FROM stac_items WHERE {where[0]}"  # noqa: S608  the same
    return connection.execute(sql, where[1]).fetchone()[0]


@contextmanager
def _bounded(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Give up after a time, so that no question can hold a service for long."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        raise InputError(
            f"the search took longer than {seconds:g} s",
            code="catalogue.slow",
            hint="narrow it down: a box, a time, a collection",
        ) from None
    finally:
        connection.set_progress_handler(None, 0)
