"""Conditions of a search as SQL with parameters, and the tests in Python that SQL calls where it cannot tell itself.

A condition has three outcomes, as in SQL: true, false, and unknown (NULL), which an item gets for a property that it
lacks or that is of another type. Only true is a match; the opposite of unknown is unknown.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import shapely
from shapely.geometry.base import BaseGeometry

from pipelines.catalogue.places import Box, boxes_of

Sql = tuple[str, tuple[Any, ...]]
"""Text with question marks, and what they stand for."""
Test = Callable[..., int | None]
HITS, MATCHES = "stac_hits", "stac_matches"
"""Names of the functions that SQLite calls."""
_numbers = itertools.count()
_at_work: dict[int, Tests] = {}


@dataclass(slots=True)
class Tests:
    """What the SQL of one search calls. At work, and found by their number, inside a ``with``."""

    hits: list[Test] = field(default_factory=list)
    """(west, south, east, north, WKB) -> whether it is met."""
    matches: list[Test] = field(default_factory=list)
    """(properties, document) -> whether it is met."""
    number: int = field(default_factory=lambda: next(_numbers))
    """In this process."""

    def __enter__(self) -> Self:
        _at_work[self.number] = self
        return self

    def __exit__(self, *_: object) -> None:
        del _at_work[self.number]

    def hit(self, test: Test) -> str:
        """Add one on places; how SQL calls it."""
        self.hits.append(test)
        return f"{HITS}({self.number}, {len(self.hits) - 1}, west, south, east, north, geometry)"

    def match(self, test: Test) -> str:
        """Add one on documents; the same."""
        self.matches.append(test)
        document = "(SELECT document FROM stac_documents AS d WHERE d.key = stac_items.key)"
        return f"{MATCHES}({self.number}, {len(self.matches) - 1}, properties, {document})"


def equip(connection: sqlite3.Connection) -> None:
    """Give a connection the functions, once: SQLite does not exchange them while a statement is being read."""
    if connection.execute("SELECT 1 FROM pragma_function_list WHERE name = ?", (HITS,)).fetchall():
        return
    connection.create_function(MATCHES, -1, lambda number, test, *row: _at_work[number].matches[test](*row))
    connection.create_function(HITS, -1, lambda number, test, *row: _at_work[number].hits[test](*row))


def joined(conditions: Sequence[Sql], word: str = "AND") -> Sql:
    """All of them, or any of them."""
    text = f" {word} ".join(f"({sql})" for sql, _ in conditions)
    return text or ("1" if word == "AND" else "0"), tuple(p for _, params in conditions for p in params)


def near(found: Sequence[Box]) -> Sql:
    """Items whose boxes in the index meet one of ``found``: some too many, never one too few."""
    one = "SELECT item FROM stac_boxes WHERE west <= ? AND east >= ? AND south <= ? AND north >= ?"
    params = tuple(n for west, south, east, north in found for n in (east, west, north, south))
    return f"key IN ({' UNION '.join([one] * len(found))})", params


def meets(wanted: Sequence[BaseGeometry], tests: Tests) -> Sql:
    """Items whose geometry shares a point with one of ``wanted``, exactly; NULL for items without one.

    What is wanted is cut at the antimeridian.
    """
    return tests.hit(_spatial(wanted)), ()


def meets_indexed(wanted: Sequence[BaseGeometry], tests: Tests) -> Sql:
    """The same by way of the index, where it has to be true for the whole search."""
    return joined([near([box for one in wanted for box in boxes_of(one)]), meets(wanted, tests)])


def _spatial(wanted: Sequence[BaseGeometry]) -> Test:
    for one in wanted:
        shapely.prepare(one)
    frames = [one.bounds for one in wanted if one.geom_type == "Polygon" and one.equals(shapely.box(*one.bounds))]

    def test(west: float | None, south: float, east: float, north: float, wkb: bytes | None) -> int | None:
        if wkb is None or west is None:
            return None
        if any(f[0] <= west <= east <= f[2] and f[1] <= south and north <= f[3] for f in frames):
            return 1  # within a box: no need to look at its corners
        geometry = shapely.from_wkb(wkb)
        return int(any(shapely.intersects(one, geometry) for one in wanted))

    return test


def during(first: int, last: int) -> Sql:
    """Items whose time, or stretch of time, shares an instant with first..last."""
    return 'start <= ? AND "end" >= ?', (last, first)
