"""Where a scene lies on the globe, whatever its catalogue did about the antimeridian."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from swathe.aoi import AOI
from swathe.errors import AreaError

_HALF = 180.0


def footprint_of(item: Mapping[str, Any]) -> Polygon | MultiPolygon | None:
    """Of a STAC item: its geometry, else its bbox, in longitude and latitude and cut at ±180; None where it has none.

    Outlines that jump from 179 to -179 without being cut, as many catalogues write them, are read as crossing.
    """
    geometry = _geometry(item.get("geometry")) or _box(item.get("bbox"))
    return None if geometry is None else _cut(geometry)


def _geometry(raw: Any) -> BaseGeometry | None:
    if not isinstance(raw, Mapping):
        return None
    try:
        found = shapely.from_geojson(json.dumps(raw))
    except (ValueError, shapely.GEOSException):
        return None
    return None if found is None or found.is_empty else found


def _box(raw: Any) -> BaseGeometry | None:
    numbers = [float(x) for x in raw if isinstance(x, int | float)] if isinstance(raw, list | tuple) else []
    if len(numbers) == 6:  # noqa: PLR2004  with heights
        numbers = [*numbers[:2], *numbers[3:5]]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):  # noqa: PLR2004  corners
        return None
    west, south, east, north = numbers
    return shapely.box(west, south, east + 2 * _HALF if east < west else east, north)


def _cut(geometry: BaseGeometry) -> Polygon | MultiPolygon | None:
    for turn in (lambda g: g, _unwrapped, _band):
        try:
            return AOI.of(turn(geometry)).geometry
        except AreaError:
            continue
    return None


def _unwrapped(geometry: BaseGeometry) -> BaseGeometry:
    """Western longitudes moved east, so that an outline across the antimeridian is in one piece."""
    return shapely.transform(
        geometry, lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]])
    )


def _band(geometry: BaseGeometry) -> BaseGeometry:
    """All longitudes of its latitudes, up to the pole: what is left to say of an outline around it."""
    _, south, _, north = geometry.bounds
    return shapely.box(-_HALF, south, _HALF, 90) if south + north > 0 else shapely.box(-_HALF, -90, _HALF, north)
