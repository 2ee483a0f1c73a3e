"""Geometries of items and of searches: longitudes brought into -180..180 and cut there, boxes for the index."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from swathe.errors import InputError

Box = tuple[float, float, float, float]
"""(west, south, east, north), never across the antimeridian."""
MOST_CORNERS = 200_000
"""Of one geometry."""
_HALF, _WHOLE, _POLE = 180.0, 360.0, 90.0


def boxes(bbox: Sequence[float], field: str = "bbox") -> list[Box]:
    """One box, or two where west > east; heights are dropped. Raises InputError (``catalogue.bbox``)."""
    if len(bbox) not in (4, 6):
        raise _unclear(bbox, "it has 4 numbers, or 6 with heights", field)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in bbox):
        raise _unclear(bbox, "it has to consist of numbers", field)
    half = len(bbox) // 2
    west, south, east, north = (float(n) for n in (*bbox[:2], *bbox[half : half + 2]))
    if south > north:
        raise _unclear(bbox, "its south lies north of its north", field)
    if south < -_POLE or north > _POLE:
        raise _unclear(bbox, "latitudes go from -90 to 90, and longitude comes first", field)
    if not (-_HALF <= west <= _HALF and -_HALF <= east <= _HALF):
        raise _unclear(bbox, "longitudes go from -180 to 180; west > east crosses the antimeridian", field)
    if west > east:
        return [(west, south, _HALF, north), (-_HALF, south, east, north)]
    return [(west, south, east, north)]


def geometry_of(raw: Any, bbox: Sequence[float] | None = None, field: str = "geometry") -> BaseGeometry:
    """From GeoJSON: valid, flat, in -180..180 and cut at the antimeridian.

    A polygon that was not cut, though its ``bbox`` says that it crosses, is; so are longitudes beyond ±180. Raises
    InputError (``catalogue.geometry``).
    """
    try:
        found = shapely.force_2d(shapely.from_geojson(json.dumps(raw, allow_nan=False)))
    except (ValueError, TypeError, RecursionError, shapely.GEOSException) as error:
        raise _no_geometry(f"it cannot be read: {error}", field) from None
    xy = shapely.get_coordinates(found)
    if not len(xy):
        raise _no_geometry("it is empty", field)
    if len(xy) > MOST_CORNERS:
        raise _no_geometry(f"it has {len(xy)} corners, more than {MOST_CORNERS}", field)
    if not np.isfinite(xy).all() or np.abs(xy[:, 1]).max() > _POLE or np.abs(xy[:, 0]).max() > _WHOLE:
        raise _no_geometry("longitudes and latitudes in degrees are wanted, longitude first", field)
    if bbox is not None and bbox[0] > bbox[len(bbox) // 2] and not _is_cut(found):
        found = shapely.transform(found, _eastward)
    return _wrapped(found if found.is_valid else shapely.make_valid(found))


def drawn(box: Box) -> BaseGeometry:
    """A box as a geometry, a line or a point where it has no width or height: a polygon without area meets nothing."""
    west, south, east, north = box
    if west < east and south < north:
        return shapely.box(*box)
    return shapely.Point(west, south) if (west, south) == (east, north) else shapely.LineString([box[:2], box[2:]])


def boxes_of(geometry: BaseGeometry) -> list[Box]:
    """What the index keeps: one box, or two where the geometry is cut at the antimeridian."""
    west, south, east, north = geometry.bounds
    parts = [part.bounds for part in shapely.get_parts(geometry)]
    if (west, east) != (-_HALF, _HALF) or not all(p[0] >= 0 or p[2] <= 0 for p in parts):
        return [(west, south, east, north)]
    halves = [[p for p in parts if p[0] >= 0], [p for p in parts if p[0] < 0]]
    return [(min(p[0] for p in h), min(p[1] for p in h), max(p[2] for p in h), max(p[3] for p in h)) for h in halves]


def bbox_of(found: Sequence[Box]) -> Box:
    """One box of those of an item; west > east where there are two."""
    return found[0][0], min(b[1] for b in found), found[-1][2], max(b[3] for b in found)


def _eastward(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Western longitudes counted on beyond 180."""
    return np.stack([np.where(xy[:, 0] < 0, xy[:, 0] + _WHOLE, xy[:, 0]), xy[:, 1]], axis=1)


def _is_cut(geometry: BaseGeometry) -> bool:
    """Whether its parts end at ±180, or none of them is so wide that it may be meant to cross there."""
    west, _, east, _ = shapely.bounds(shapely.get_parts(geometry)).T
    return bool((east - west <= _HALF).all() or ((east == _HALF).any() and (west == -_HALF).any()))


def _wrapped(geometry: BaseGeometry) -> BaseGeometry:
    west, _, east, _ = geometry.bounds
    if west >= -_HALF and east <= _HALF:
        return geometry
    parts = []
    for turn in (-_WHOLE, 0.0, _WHOLE):
        inside = shapely.intersection(geometry, shapely.box(turn - _HALF, -_POLE, turn + _HALF, _POLE))
        if not inside.is_empty:
            parts.append(shapely.transform(inside, lambda xy, t=turn: xy - (t, 0)))
    return shapely.union_all(parts)


def _unclear(bbox: Sequence[float], why: str, field: str) -> InputError:
    return InputError(
        f"the box {str(list(bbox))[:120]} cannot be used: {why}",
        code="catalogue.bbox",
        field=field,
        hint="the order is west,south,east,north",
    )


def _no_geometry(why: str, field: str) -> InputError:
    return InputError(
        f"the geometry cannot be used: {why}"[:400],
        code="catalogue.geometry",
        field=field,
        hint="give a GeoJSON geometry in longitude and latitude",
    )
