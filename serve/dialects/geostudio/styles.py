"""Styles of layers as wishes write them: colours of any form that can be read, and nothing else of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from swathe.sld import Colour, Kind

_HEX = re.compile(r"#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_SHORT = 5
"""Signs of ``#rgba``; shorter forms name each digit once."""
_PERCENT = 100.0
MOST_COLOURS, _LABEL = 256, 200
"""Rows, and characters of a label, that a layer has."""
_KINDS: tuple[tuple[str, Kind], ...] = (("segmentation", "values"), ("regression", "ramp"))
_SHAPES = (("polygon_style", ("fill", "stroke")), ("line_style", ("stroke",)), ("point_style", ("fill", "stroke")))
"""Parts of a style of shapes, and what of each is its colour, the first that is said."""
_PRESENT = 1.0
"""The number of a raster where a shape is."""


def styled(style: Any) -> tuple[tuple[Colour, ...], Kind] | None:
    """The colours that a wish asks for; None: none that can be read."""
    for name, kind in _KINDS:
        found = [colour for row in rows_of(style, name) if (colour := _colour(row)) is not None]
        if found:
            return tuple(found[:MOST_COLOURS]), kind
    return _of_shapes(style)


def property_of(style: Any) -> str:
    """The column of numbers that a style of shapes takes its colours from; empty: they all look alike."""
    if any(rows_of(style, name) for name, _ in _KINDS):
        return ""
    for said, _ in _shape_colours(style):
        if isinstance(said, dict) and isinstance(said.get("property_name"), str):
            return said["property_name"]
        if read_colour(said) is not None:
            break
    return ""


def rows_of(style: Any, name: str) -> list[Mapping[str, Any]]:
    """Rows of one part of a style, whatever else was sent in their place."""
    rows = style.get(name) if isinstance(style, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def read_colour(text: Any) -> tuple[str, float] | None:
    """``#rrggbb`` and an opacity, of any of the forms with ``#``; None: it is none of them."""
    given = str(text or "").strip().lower()
    if not _HEX.fullmatch(given):
        return None
    digits = "".join(c * 2 for c in given[1:]) if len(given) <= _SHORT else given[1:]
    return f"#{digits[:6]}", int(digits[6:] or "ff", 16) / 255


def _of_shapes(style: Any) -> tuple[tuple[Colour, ...], Kind] | None:
    """One colour where shapes are, or those of their numbers, mixed in between."""
    for said, opacity in _shape_colours(style):
        if stops := _stops(said):
            return stops, "ramp"
        if (read := read_colour(said)) is not None:
            return (Colour(_PRESENT, read[0], read[1] * opacity),), "values"
    return None


def _shape_colours(style: Any) -> Iterator[tuple[Any, float]]:
    """What is said of colours, and the opacity beside it; polygons first, as they fill a map."""
    for kind, names in _SHAPES:
        part = style.get(kind) if isinstance(style, dict) else None
        if not isinstance(part, dict):
            continue
        for name in names:
            opacity = _number(part.get(f"{name}_opacity"))
            yield part.get(name), 1.0 if opacity is None else _share(opacity)


def _stops(said: Any) -> tuple[Colour, ...]:
    """Of ``{"property_name": …, "property_values": [{"value": …, "output": "#rrggbb"}, …]}``."""
    if not isinstance(said, dict) or not isinstance(said.get("property_name"), str):
        return ()
    rows = [{"color": row.get("output"), "quantity": row.get("value")} for row in rows_of(said, "property_values")]
    return tuple(colour for row in rows if (colour := _colour(row)) is not None)[:MOST_COLOURS]


def _colour(row: Mapping[str, Any]) -> Colour | None:
    read, value = read_colour(row.get("color")), _number(row.get("quantity"))
    if read is None or value is None:
        return None
    said = _number(row.get("opacity"))
    opacity = read[1] * (1.0 if said is None else _share(said))
    label = row.get("label")
    return Colour(value, read[0], opacity, "" if label is None else str(label)[:_LABEL])


def _share(opacity: float) -> float:
    """0..1; more than 1 was said in percent."""
    return min(1.0, max(0.0, opacity / _PERCENT if opacity > 1 else opacity))


def _number(given: Any) -> float | None:
    try:
        found = float(given)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
