"""Conditions of a search as SQL with parameters, and the tests in Python that SQL calls where it cannot tell itself.

A condition has three outcomes, as in SQL: true, false, and unknown (NULL), which an item gets for a property that it
lacks or that is of another type. Only true is a match; the opposite of unknown is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from pipelines.catalogue.places import Box, boxes_of

Sql = tuple[str, tuple[Any, ...]]
"""Text with question marks, and what they stand for."""
Test = Callable[..., int | None]
HITS, MATCHES = "stac_hits", "stac_matches"
"""Names of the functions that a search gives to SQLite."""


@dataclass(slots=True)
class Tests:
    """What a search's SQL calls, by number."""

    hits: list[Test] = field(default_factory=list)
    """(west, south, east, north, WKB) -> whether it is met."""
    matches: list[Test] = field(default_factory=list)
    """(properties, document) -> whether it is met."""

    def hit(self, number: int, *row: Any) -> int | None:
        """Called by SQLite."""
        return self.hits[number](*row)

    def match(self, number: int, *row: Any) -> int | None:
        """Called by SQLite."""
        return self.matches[number](*row)


def joined(conditions: Sequence[Sql], word: str = "AND") -> Sql:
    """All of them, or any of them."""
    text = f" {word} ".join(f"({sql})" for sql, _ in conditions)
    return text or ("1" if word == "AND" else "0"), tuple(p for _, params in conditions for p in params)


def near(found: Sequence[Box]) -> Sql:
    """Items whose boxes in the index meet one of ``found``: some too many, never one too few."""
    one = "SELECT item FROM stac_boxes WHERE west <= ? AND east >= ? AND south <= ? AND north >= ?"
    params = tuple(n for west, south, east, north in found for n in (east, west, north, south))
    return f"key IN ({' UNION '.join([one] * len(found))})", params


def meets(geometry: BaseGeometry, tests: Tests) -> Sql:
    """Items whose geometry shares a point with ``geometry`` (cut at the antimeridian), exactly; NULL without one."""
    tests.hits.append(_spatial(geometry))
    return f"{HITS}({len(tests.hits) - 1}, west, south, east, north, geometry)", ()


def meets_indexed(geometry: BaseGeometry, tests: Tests) -> Sql:
    """The same by way of the index, where it has to be true for the whole search."""
    return joined([near(boxes_of(geometry)), meets(geometry, tests)])


def _spatial(wanted: BaseGeometry) -> Test:
    shapely.prepare(wanted)
    inner = wanted.bounds if wanted.geom_type == "Polygon" and wanted.equals(shapely.box(*wanted.bounds)) else None

    def test(west: float | None, south: float, east: float, north: float, wkb: bytes | None) -> int | None:
        if wkb is None or west is None:
            return None
        if inner and inner[0] <= west <= east <= inner[2] and inner[1] <= south and north <= inner[3]:
            return 1  # within a box: no need to look at its corners
        return int(shapely.intersects(wanted, shapely.from_wkb(wkb)))

    return test


def during(first: int, last: int) -> Sql:
    """Items whose time, or stretch of time, shares an instant with first..last."""
    return 'start <= ? AND "end" >= ?', (last, first)
