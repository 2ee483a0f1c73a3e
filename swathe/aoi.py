"""An area of interest: a place on Earth, in longitude and latitude, split where it crosses the antimeridian."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import shapely
from pyproj import Geod
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from swathe.errors import AreaError

_GEOD = Geod(ellps="WGS84")
_WKT = re.compile(r"\s*(?:SRID=(\d+);)?\s*([A-Z]+)(\s+Z|\s+M|\s+ZM)?\s*(\(|EMPTY)", re.IGNORECASE)
_NUMBER = r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*"
_BOX = re.compile(rf"{_NUMBER}(?:,{_NUMBER}){{3}}|{_NUMBER}(?:\s{_NUMBER}){{3}}")
_LONGEST_BOX = 200
_STEPS = 256
_MOST_MEETINGS = 4_000
"""Of edges of an outline that is to be repaired: that takes the square of them, here some seconds."""
_AT_ONCE = 16
_LONLAT = ("4326", "CRS84", "WGS84", "WGS 84")


@dataclass(frozen=True, slots=True)
class AOI:
    """Made with :meth:`parse` or :meth:`of`, which check and repair."""

    geometry: Polygon | MultiPolygon
    """Valid, EPSG:4326 as longitude, latitude; longitudes in -180..180, cut at ±180."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``minlon,minlat,maxlon,maxlat``, GeoJSON or WKT; minlon > maxlon crosses ±180°, up to 180° wide.

        Raises AreaError (``area.unreadable``, ``.reversed``, ``.latitude``, ``.longitude``, ``.not_polygon``,
        ``.empty``, ``.crs``, ``.antimeridian``). Files are read by ``pipelines.imagery.area``.
        """
        text = text.strip()
        if len(text) < _LONGEST_BOX and _BOX.fullmatch(text):
            return cls._box(*(float(x) for x in re.split(r"[,\s]+", text)))
        if text.startswith("{"):
            return cls.of(_geojson(text))
        if _WKT.match(text):
            return cls.of(_wkt(text))
        raise _error(
            "unreadable", f"{text[:60]!r} is no area", "give minlon,minlat,maxlon,maxlat, a file, GeoJSON or WKT"
        )

    @classmethod
    def of(cls, geometry: BaseGeometry) -> Self:
        """From any geometry in longitude and latitude: repaired, wrapped to -180..180 and cut there."""
        _check(geometry)
        flat = shapely.force_2d(geometry)
        if any(_has_long_edge(p) for p in _leaves(flat) if isinstance(p, Polygon)):
            raise _error(
                "antimeridian",
                "an edge of the area is longer than 180° of longitude, so it is not clear which way round it goes",
                "cut the area at 180° (RFC 7946), or let longitudes run on past 180",
            )
        return cls(_wrapped(_repaired(flat)))

    @classmethod
    def _box(cls, west: float, south: float, east: float, north: float) -> Self:
        if south > north:
            raise _error("reversed", f"the southern edge {south:g} lies north of the northern {north:g}",
                         "the order is minlon,minlat,maxlon,maxlat")  # fmt: skip
        if west > east:
            parts = [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
            outside = max(abs(west), abs(east)) > 180  # noqa: PLR2004  degrees
        else:
            parts = [shapely.box(west, south, east, north)]
            outside = west < -360 or east > 360  # noqa: PLR2004  degrees
        if outside:
            raise _error("longitude", f"longitudes {west:g} and {east:g} leave the Earth",
                         "the order is minlon,minlat,maxlon,maxlat")  # fmt: skip
        if west > east:
            _check_crossing(west, south, east, north)
        for part in parts:
            _check(part)
        return cls(_wrapped(_repaired(shapely.union_all(parts))))

    @property
    def area_km2(self) -> float:
        """On the ellipsoid WGS84."""
        return ellipsoid_km2(self.geometry)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north); west > east where the area crosses the antimeridian."""
        west, south, east, north = self.geometry.bounds
        if not self.crosses:
            return west, south, east, north
        halves = [p.bounds for p in shapely.get_parts(self.geometry)]
        eastern = [b for b in halves if b[0] >= 0]
        western = [b for b in halves if b[0] < 0]
        return min(b[0] for b in eastern), south, max(b[2] for b in western), north

    @property
    def crosses(self) -> bool:
        """Whether it touches ±180° from both sides and is narrower that way round."""
        west, _, east, _ = self.geometry.bounds
        parts = shapely.get_parts(self.geometry)
        straddles = all(p.bounds[0] >= 0 or p.bounds[2] <= 0 for p in parts)
        return west == -180 and east == 180 and straddles  # noqa: PLR2004  degrees


def ellipsoid_km2(geometry: BaseGeometry) -> float:
    """Area of polygons in longitude and latitude; edges are straight on the map (parallels, meridians), as drawn.

    Summed over quarters of the globe, because a geodesic area is told modulo the Earth's.
    """
    west, _, east, _ = geometry.bounds
    total = 0.0
    for k in range(math.floor(west / 90), math.ceil(east / 90)):
        part = shapely.intersection(geometry, shapely.box(90 * k, -90, 90 * (k + 1), 90))
        for polygon in _leaves(part):
            if isinstance(polygon, Polygon) and not polygon.is_empty:
                x0, y0, x1, y1 = polygon.bounds
                dense = shapely.segmentize(shapely.orient_polygons(polygon), max(x1 - x0, y1 - y0) / _STEPS)
                total += abs(_GEOD.geometry_area_perimeter(dense)[0])
    return total / 1e6


# --- reading text ---------------------------------------------------------------------------------------------------


def _geojson(text: str) -> BaseGeometry:
    try:
        raw = json.loads(text)
        _refuse_crs(raw)
        shapes = [shapely.from_geojson(json.dumps(g)) for g in _geometries(raw)]
        return shapes[0] if len(shapes) == 1 else shapely.GeometryCollection(shapes)
    except (ValueError, RecursionError, shapely.GEOSException) as error:
        raise _error("unreadable", f"this is no GeoJSON: {error}", "check it, for example on geojson.io") from None


def _geometries(raw: Any) -> Iterable[dict[str, Any]]:
    """Geometries of a FeatureCollection, a Feature or a geometry."""
    if not isinstance(raw, dict):
        raise ValueError("an object was expected")  # noqa: TRY004  what the caller turns into a problem
    if raw.get("type") == "FeatureCollection":
        features = raw.get("features") or []
        if not isinstance(features, list):
            raise ValueError("its features are no list")
        for feature in features:
            yield from _geometries(feature)
    elif raw.get("type") == "Feature":
        if raw.get("geometry") is not None:
            yield raw["geometry"]
    else:
        yield raw


def _refuse_crs(raw: Any) -> None:
    """Old GeoJSON could name another CRS; today it is always longitude and latitude."""
    named = raw.get("crs") if isinstance(raw, dict) else None
    if named and not any(name in json.dumps(named) for name in _LONLAT):
        raise _error("crs", "the GeoJSON is not in longitude and latitude",
                     "convert it: ogr2ogr -t_srs EPSG:4326 OUT.geojson IN.geojson")  # fmt: skip


def _wkt(text: str) -> BaseGeometry:
    match = _WKT.match(text)
    if match and match[1] and match[1] != "4326":
        raise _error("crs", f"the WKT is in EPSG:{match[1]}", "give longitude and latitude (SRID=4326)")
    try:
        return shapely.from_wkt(text.partition(";")[2] if match and match[1] else text)
    except shapely.GEOSException as error:
        raise _error("unreadable", f"this is no WKT: {error}", "check its brackets and commas") from None


# --- checking and repairing -----------------------------------------------------------------------------------------


def _error(code: str, detail: str, hint: str) -> AreaError:
    return AreaError(detail, code=f"area.{code}", hint=hint, field="--aoi")


def _check(geometry: BaseGeometry) -> None:
    parts = _leaves(geometry)
    if not parts or all(p.is_empty for p in parts):
        raise _error("empty", "the area is empty", "give a polygon")
    strange = [p.geom_type for p in parts if not isinstance(p, Polygon)]
    if strange:
        raise _error("not_polygon", f"a {strange[0]} has no area", "give polygons, or draw a buffer around it")
    xy = shapely.get_coordinates(geometry)
    if not np.isfinite(xy).all():
        raise _error("unreadable", "the area has coordinates that are no numbers", "check it")
    far = float(np.abs(xy[:, 1]).max())
    if far > 90:  # noqa: PLR2004  degrees
        raise _error(
            "latitude", f"latitude {far:g} is beyond the pole", "longitude comes first, then latitude, in degrees"
        )
    wide = float(np.abs(xy[:, 0]).max())
    if wide > 360 or float(np.ptp(xy[:, 0])) > 360:  # noqa: PLR2004  degrees
        raise _error("longitude", f"longitude {wide:g} leaves the Earth", "give degrees, -180 to 180")


def _check_crossing(west: float, south: float, east: float, north: float) -> None:
    """Across the antimeridian a box reaches half-way round the Earth at most: wider ones are corners that were swapped.

    Whoever means the wide one can say so, with longitudes that run on past 180.
    """
    width = 360 + east - west
    if width <= 180:  # noqa: PLR2004  degrees
        return
    wide = (west - 360, south, east, north) if west >= 0 else (west, south, east + 360, north)
    raise _error(
        "reversed",
        f"the western edge {west:g} lies east of the eastern {east:g}: {width:g}° across the antimeridian",
        f"the order is minlon,minlat,maxlon,maxlat: give {_written(east, south, west, north)}, or "
        f"{_written(*wide)} if it is meant to go round the Earth",
    )


def _written(*bounds: float) -> str:
    return ",".join(f"{number:.10g}" for number in bounds)


def _leaves(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Single geometries, of collections of collections too."""
    parts = list(shapely.get_parts(geometry))
    return parts if parts == [geometry] else [leaf for part in parts for leaf in _leaves(part)]


def _has_long_edge(polygon: Polygon) -> bool:
    rings = [polygon.exterior, *polygon.interiors]
    steps = [np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) for ring in rings]
    return any(bool(((s > 180) & (s < 360)).any()) for s in steps)  # noqa: PLR2004  degrees


def _repaired(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """Valid polygons: self-crossings resolved, zero-width parts dropped."""
    _expect_repairable(_leaves(geometry))
    valid = [part for leaf in _leaves(geometry) for part in _leaves(shapely.make_valid(leaf))]
    merged = shapely.union_all([part for part in valid if isinstance(part, Polygon)])
    if not isinstance(merged, Polygon | MultiPolygon) or merged.is_empty or merged.area == 0 or math.isnan(merged.area):
        raise _error("empty", "the area has no extent", "give a polygon with three different corners")
    return merged


def _expect_repairable(leaves: Iterable[BaseGeometry]) -> None:
    """Raises AreaError where outlines cross themselves so often that to resolve it would take a whole machine."""
    left = _MOST_MEETINGS
    for leaf in leaves:
        left -= 0 if shapely.is_valid(leaf) else _meetings(leaf, left)
        if left < 0:
            raise _error("unreadable", f"its outline of {shapely.get_num_coordinates(leaf):,} corners crosses itself "
                         "all over", "give its corners in their order around it")  # fmt: skip


def _meetings(leaf: BaseGeometry, most: int) -> int:
    """Pairs of edges that meet and are no neighbours; counted until there are more than ``most``.

    Many that only come near each other count as too many: to tell that they do not meet takes as long.
    """
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings([leaf])]
    ends = np.concatenate([np.stack([xy[:-1], xy[1:]], axis=1) for xy in rings])
    edges = np.asarray(shapely.linestrings(ends), dtype=object)
    tree, near, meeting = shapely.STRtree(edges), 0, -3 * len(edges)  # each meets itself, and two others
    for some in np.array_split(edges, -(-len(edges) // _AT_ONCE)):
        near += len(tree.query(some)[0])
        if near > 10 * len(edges) + 100 * _MOST_MEETINGS:
            return most + 1
        meeting += len(tree.query(some, predicate="intersects")[0])
        if meeting > 2 * most:
            break
    return max(0, meeting) // 2


def _wrapped(geometry: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
    """Longitudes in -180..180: parts beyond are moved by 360°, so that the area is cut at the antimeridian."""
    west, _, east, _ = geometry.bounds
    if west >= -180 and east <= 180:  # noqa: PLR2004  degrees
        return geometry
    parts = []
    for turn in (-360, 0, 360):
        inside = shapely.intersection(geometry, shapely.box(-180 + turn, -90, 180 + turn, 90))
        parts += [shapely.transform(p, lambda xy, t=turn: xy - (t, 0)) for p in _leaves(inside)]
    return _repaired(shapely.union_all(parts))
