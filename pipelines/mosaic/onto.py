"""Areas in longitude and latitude on the plane of a CRS, in one piece: where the plane is cut, x run on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from pipelines.mosaic.frame import LONLAT, beside, ends, period, transformer
from swathe.aoi import AOI
from swathe.errors import AreaError

Line = NDArray[np.float64]
"""(n, 2) longitude and latitude, or x and y."""
_TURN = 360.0
_STEPS = 256
"""Points along the longest side of an area before it is bent into another CRS."""
_NEARLY = 1e-9
"""Of once round the world: what begins so near to the eastern end of a plane begins at its western one. 4 cm."""
_LONGEST, _HALVINGS, _SHRUNK = 64, 24, 0.25
"""Steps that are looked at for a tear, how often they are halved, and to what of its length one shrinks at least."""


def onto(aoi: AOI, crs: str) -> Polygon | MultiPolygon:
    """The area in a CRS, its edges bent as they must; where the plane of the CRS is cut in it, x run on eastwards.

    Raises AreaError where it has no place in that CRS (``area.projection``), or lies at both ends of a plane on which
    x cannot run on (``area.cut``).
    """
    area = in_one_piece(aoi.geometry)
    parts = shapely.get_parts(area)
    dense = [shapely.segmentize(part, max(_sides(part)) / _STEPS) for part in parts]
    if not period(crs) and any(_torn(line, crs) for line in (*_rings(dense), _between(parts))):
        raise _cut(crs, area)
    about = _start(area, crs)
    bent = [shapely.transform(part, lambda xy: _placed(xy, crs, about)) for part in dense]
    if not all(np.isfinite(shapely.get_coordinates(part)).all() for part in bent):
        raise _unprojectable(crs)
    merged = shapely.union_all([shapely.make_valid(part) for part in bent])
    polygons = [p for p in shapely.get_parts(merged) if isinstance(p, Polygon | MultiPolygon) and p.area > 0]
    whole = shapely.union_all(polygons)
    if not isinstance(whole, Polygon | MultiPolygon) or whole.is_empty:
        raise _unprojectable(crs)
    return whole


def in_one_piece(area: BaseGeometry) -> BaseGeometry:
    """Polygons in -180..180 with longitudes that run on past 180, where they are narrower in that way."""
    parts = shapely.get_parts(area)
    begin = _begin(sorted((west, east) for west, _, east, _ in shapely.bounds(parts)))
    if begin <= area.bounds[0]:
        return area
    behind = [part for part in parts if part.bounds[0] < begin]
    moved = shapely.transform(np.array(behind, object), lambda xy: xy + np.array([_TURN, 0.0]))
    return shapely.union_all([*(part for part in parts if part.bounds[0] >= begin), *moved])


def _begin(spans: Sequence[tuple[float, float]]) -> float:
    """The longitude east of the widest gap between spans of longitude, which are sorted: that at ±180 before others."""
    end, begin = spans[0][1], spans[0][0]
    widest = begin + _TURN - max(east for _, east in spans)
    for west, east in spans:
        if west - end > widest:
            widest, begin = west - end, west
        end = max(end, east)
    return begin


def laid(geometry: BaseGeometry, crs: str) -> BaseGeometry:
    """A geometry in longitude and latitude on a CRS's plane, each part in one piece; what has no place is not finite.

    Its vertices alone are moved. Parts on both sides of ±180° may be whole turns apart (``frame.turns``).
    """
    if shapely.is_empty(geometry):
        return geometry
    return shapely.transform(geometry, lambda xy: _placed(xy, crs, _start(geometry, crs)))


def _start(area: BaseGeometry, crs: str) -> tuple[float, float]:
    """Easting where an area begins in the west, between the ends of the plane, and its longitude."""
    west, south, _, north = area.bounds
    whole, (_, last) = period(crs), ends(crs)
    x, _ = transformer(LONLAT, crs).transform(west, (south + north) / 2)
    return (x - whole if x > last - _NEARLY * whole else x), west


def _placed(lonlat: Line, crs: str, about: tuple[float, float]) -> Line:
    try:
        x, y = transformer(LONLAT, crs).transform(lonlat[:, 0], lonlat[:, 1])
    except ProjError:
        return np.full_like(lonlat, np.inf)
    whole, x = period(crs), np.asarray(x)
    if whole:
        with np.errstate(invalid="ignore"):
            x = beside(x, lonlat[:, 0], whole, about)
    return np.column_stack([x, y])


# --- planes on which nothing runs on --------------------------------------------------------------------------------


def _torn(line: Line, crs: str) -> bool:
    """Whether a plane is cut between two neighbours of a line: however near they come, they stay far apart there."""
    a, b = line[:-1], line[1:]
    there = [_placed(side, crs, (0.0, 0.0)) for side in (a, b)]
    with np.errstate(invalid="ignore"):
        first = _apart(*there)
        longest = np.argsort(np.where(np.isfinite(first), -first, 0.0))[:_LONGEST]
        a, b, first = a[longest], b[longest], first[longest]
        at, to = (side[longest] for side in there)
        for _ in range(_HALVINGS):
            middle = (a + b) / 2
            between = _placed(middle, crs, (0.0, 0.0))
            west = (_apart(at, between) >= _apart(between, to))[:, None]
            a, b = np.where(west, a, middle), np.where(west, middle, b)
            at, to = np.where(west, at, between), np.where(west, between, to)
        return bool((_apart(at, to) > _SHRUNK * first).any())


def _apart(one: Line, other: Line) -> NDArray[np.float64]:
    return np.hypot(*(one - other).T)


def _rings(parts: Sequence[BaseGeometry]) -> list[Line]:
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(parts)]


def _between(parts: NDArray[np.object_]) -> Line:
    """A line from part to part, west to east: islands on both sides of a cut touch it nowhere."""
    within = sorted((point.x, point.y) for point in shapely.point_on_surface(parts))
    if len(within) == 1:
        return np.array(within * 2)
    line = shapely.LineString(within)
    return shapely.get_coordinates(shapely.segmentize(line, line.length / _STEPS))


def _sides(part: BaseGeometry) -> tuple[float, float]:
    west, south, east, north = part.bounds
    return east - west, north - south


def _cut(crs: str, area: BaseGeometry) -> AreaError:
    west, south, east, north = area.bounds
    zone = int(((west + east) / 2 + 180.0) % _TURN // 6) + 1
    utm = (32600 if south + north >= 0 else 32700) + zone
    return AreaError(
        f"the plane of {crs[:40]} is cut in the area, which would lie at both of its ends",
        code="area.cut",
        hint=f"choose a CRS in which it is in one piece with --crs: a UTM zone (EPSG:{utm}), or one whose coordinates "
        "run on, such as EPSG:3857 and EPSG:4326",
        field="--crs",
    )


def _unprojectable(crs: str) -> AreaError:
    return AreaError(
        f"part of the area cannot exist in {crs[:40]}",
        code="area.projection",
        hint="choose a CRS made for the place with --crs, or draw the area smaller",
        field="--crs",
    )
