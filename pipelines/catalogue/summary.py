"""Where and when the items of a collection are, and which values some of their properties have."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from pipelines.catalogue.conditions import Sql
from pipelines.catalogue.moments import instant_text

_VALUES = ("platform", "constellation", "proj:code", "swathe:model.id", "processing:level")
"""Summarised as lists, where there are not too many."""
_RANGES = ("gsd", "eo:cloud_cover", "swathe:valid_fraction")
"""Summarised as smallest and largest."""
_MOST_VALUES = 50
_EAST = 180.0


def summarise(connection: sqlite3.Connection, collection: str, only: Sql) -> dict[str, Any]:
    """``extent`` (None without items) and ``summaries`` of the items at hand, as far as ``only`` lets them through."""
    items = (f"FROM stac_items WHERE collection = ? AND {only[0]}", (collection, *only[1]))
    found = connection.execute(f"{_TIMES} {items[0]}", items[1]).fetchone()
    if found[0] is None:
        return {"extent": None, "summaries": {}}
    interval = [instant_text(found[0]), instant_text(found[1])]
    extent = {"spatial": {"bbox": [_bbox(connection, items)]}, "temporal": {"interval": [interval]}}
    return {"extent": extent, "summaries": _summaries(connection, items)}


_TIMES = 'SELECT min(start), max("end")'
_ROUND = """SELECT min(west), max(east), min(south), max(north), max(west > east),
    min(CASE WHEN west >= 0 THEN west END), max(CASE WHEN west > east OR west < 0 THEN east END)"""


def _bbox(connection: sqlite3.Connection, items: Sql) -> list[float]:
    """Around all items; across the antimeridian where an item crosses it and that way round is narrower."""
    row = connection.execute(f"{_ROUND} {items[0]} AND west IS NOT NULL", items[1]).fetchone()
    west, east, south, north, crossing, eastern, western = row
    if west is None:
        return [-_EAST, -90.0, _EAST, 90.0]
    if not crossing:
        return [west, south, east, north]
    if eastern is not None and western is not None and eastern > western:
        return [eastern, south, western, north]
    return [-_EAST, south, _EAST, north]


def _summaries(connection: sqlite3.Connection, items: Sql) -> dict[str, Any]:
    """In one pass over the properties."""
    values: dict[str, set[str]] = {name: set() for name in _VALUES}
    spans: dict[str, list[float]] = {}
    for (text,) in connection.execute(f"SELECT properties {items[0]}", items[1]):
        properties = json.loads(text)
        for name, seen in values.items():
            value = _value(properties, name)
            if isinstance(value, str) and len(seen) <= _MOST_VALUES:
                seen.add(value)
        for name in _RANGES:
            number = properties.get(name)
            if isinstance(number, int | float) and not isinstance(number, bool):
                low, high = spans.get(name, (number, number))
                spans[name] = [min(low, number), max(high, number)]
    listed = {name.removesuffix(".id"): sorted(seen) for name, seen in values.items() if 0 < len(seen) <= _MOST_VALUES}
    return listed | {name: {"minimum": low, "maximum": high} for name, (low, high) in spans.items()}


def _value(properties: dict[str, Any], name: str) -> Any:
    name, _, inner = name.partition(".")
    value = properties.get(name)
    return value.get(inner) if inner and isinstance(value, dict) else value
