"""Shapes of a stranger's GeoJSON (RFC 7946), read within bounds: no more than this is ever made of its bytes.

Nothing here takes more than linear time, and GDAL sees none of it. So outlines may cross themselves as they like: what
is inside is told when they are filled, by the even-odd rule, which is what a repair would give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic.frame import LONLAT, is_geographic, named, transformer
from swathe.errors import GridError, ImageryError, LimitError

Line = NDArray[np.float64]
"""(n, 2) longitude and latitude; of a ring, the first point again at the end."""
MIB = 1 << 20
STEP_DEG, STEP_M = 0.01, 1000.0
"""Longest straight line that is brought into another CRS by its ends: it is off by centimetres."""
BYTES, POINTS = "SWATHE_MAX_SHAPES_MB", "SWATHE_MAX_SHAPES_POINTS"
"""Settings of ``mb`` and ``points``."""
DEEPEST = 16
"""Geometry collections within each other."""
_DENSE = 4
"""Times ``points``: with those that long lines get in between."""
_BRACKETS = 4
"""Per point: a feature that is a point has so many."""
_TURN, _HALF, _POLE = 360.0, 180.0, 90.0
_CRS = re.compile(r"(?:urn:ogc:def:crs:)?(EPSG|OGC):(?:[\d.]*:)?(\d{4,6}|CRS84)", re.IGNORECASE)
_CONVERT = "convert it: ogr2ogr -f GeoJSON -t_srs EPSG:4326 OUT.geojson IN"
_BEGINS = (
    (b"SQLite format 3", "a GeoPackage"), (b"fgb\x03", "FlatGeobuf"), (b"PAR1", "GeoParquet"), (b"\x1f\x8b", "gzip"),
    (b"\x00\x00\x27\x0a", "a shapefile"), (b"PK\x03\x04", "a zip"), (b"<", "XML or a page for people"),
)  # fmt: skip
"""First bytes of what is often sent instead."""


@dataclass(frozen=True, slots=True)
class ShapeLimits:
    """How large is too large."""

    mb: float = 32.0
    """Bytes of the file, in MiB."""
    points: int = 1_000_000
    """Corners and points of all shapes; four times as many with those that long lines get in between."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Everything that a file draws, its lines short. Memory: 16 bytes a point."""

    areas: tuple[tuple[Line, ...], ...]
    """Polygons: rings of each; its outline and holes are told apart by filling alone."""
    lines: tuple[Line, ...]
    """Lines."""
    points: Line
    """(n, 2) single points."""
    features: int
    """Geometries in the file, those without coordinates left out."""


def read_geojson(data: bytes, limits: ShapeLimits, name: str = "the file") -> Drawing:
    """A FeatureCollection, a Feature or a geometry; longitudes may run on past 180, up to 360.

    ``name``: as people may see it. Raises ImageryError (``mask.shapes.format``, ``.json``, ``.crs``, ``.place``,
    ``.antimeridian``, ``.empty``), LimitError (``mask.shapes.limits``).
    """
    expect_size(len(data), limits, name)
    document = _document(data, limits, name)
    crs = _crs(document, name)
    found = _Found(name, limits)
    found.take(document, 0)
    if not found.geometries:
        _fail("empty", f"{name} holds no shapes", "give a GeoJSON with one at least")
    return _drawing(found, crs)


def expect_size(size: int, limits: ShapeLimits, name: str) -> None:
    """Raises LimitError (``mask.shapes.limits``)."""
    if size > limits.mb * MIB:
        raise too_large(limits, name)


def too_large(limits: ShapeLimits, name: str) -> LimitError:
    """``mask.shapes.limits``, to be raised: of a file of more bytes than are taken."""
    return _too_much(name, f"is larger than {limits.mb:g} MB", BYTES)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _document(data: bytes, limits: ShapeLimits, name: str) -> dict[str, Any]:
    plain = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    other = next((kind for begins, kind in _BEGINS if plain.startswith(begins)), "")
    if other:
        _fail("format", f"{name} is {other}, and shapes are read from GeoJSON", _CONVERT)
    if plain.count(b"[") + plain.count(b"{") > _BRACKETS * limits.points + 1000:  # each takes 60 bytes and more
        raise _too_much(name, f"holds more lists and objects than {limits.points:,} points need", POINTS)
    try:
        found = json.loads(plain)
    except (ValueError, RecursionError):
        _fail("json", f"{name} is no GeoJSON", _CONVERT)
    if not isinstance(found, dict):
        _fail("json", f"{name} is no GeoJSON: an object was expected", _CONVERT)
    if found.get("type") == "Topology":
        _fail("format", f"{name} is TopoJSON, and shapes are read from GeoJSON", _CONVERT)
    return found


def _crs(document: Mapping[str, Any], name: str) -> str:
    """Old GeoJSON (2008) could name another CRS. Only names of registers are taken; PROJ reads more than that."""
    said = document.get("crs")
    if said is None:
        return LONLAT
    inner = said.get("properties") if isinstance(said, dict) else None
    text = inner.get("name") if isinstance(inner, dict) else None
    match = _CRS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        _fail("crs", f"{name} names a CRS in a way that is not read", _CONVERT)
    if match[2].upper() in ("CRS84", "4326"):
        return LONLAT
    try:
        return named(f"{match[1].upper()}:{match[2]}")
    except GridError:
        _fail("crs", f"{name} names the CRS {match[1].upper()}:{match[2]}, which is not known", _CONVERT)


# --- geometries -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """Coordinates as the file has them."""

    name: str
    limits: ShapeLimits
    areas: list[int] = field(default_factory=list)
    """How many of the rings, in their order, each polygon has."""
    rings: list[Line] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    spots: list[Any] = field(default_factory=list)
    geometries: int = 0
    count: int = 0

    def take(self, node: Any, depth: int) -> None:
        """Whatever stands where something is to be drawn; what has no geometry draws nothing."""
        kind = node.get("type") if isinstance(node, dict) else None
        if kind == "FeatureCollection" and depth == 0:
            for feature in self._list(node, "features"):
                self.take(feature, 1)
        elif kind == "Feature" and depth <= 1:
            if node.get("geometry") is not None:
                self.take(node["geometry"], 2)
        elif kind == "GeometryCollection" and depth < DEEPEST:
            for geometry in self._list(node, "geometries"):
                self.take(geometry, max(depth, 1) + 1)
        elif kind in _DRAW:
            self._draw(kind, self._list(node, "coordinates"))
        else:
            self._odd(f"{kind[:40]!r} is no geometry" if isinstance(kind, str) else "there is no type")

    def _list(self, node: Mapping[str, Any], key: str) -> list[Any]:
        found = node.get(key)
        return found if isinstance(found, list) else self._odd(f"{key!r} is no list")

    def _draw(self, kind: str, coordinates: list[Any]) -> None:
        if not coordinates:  # RFC 7946: as null
            return
        self.geometries += 1
        base, several = kind.removeprefix("Multi"), kind.startswith("Multi")
        parts = coordinates if several else [coordinates]
        if base == "Point":
            self._count(len(parts))
            self.spots += parts
        elif base == "LineString":
            self.lines += [self._places(part, 2) for part in parts]
        else:
            for part in parts:
                rings = part if isinstance(part, list) else self._odd("a polygon is a list of rings")
                self.rings += [_closed(self._places(ring, 3)) for ring in rings]
                self.areas.append(len(rings))

    def _count(self, more: int) -> None:
        self.count += more
        if self.count > self.limits.points:
            raise _too_much(self.name, f"has more than {self.limits.points:,} points", POINTS)

    def _places(self, coordinates: Any, least: int) -> Line:
        """(n, 2) of a list of positions; heights are passed over."""
        if not isinstance(coordinates, list):
            self._odd("a list of positions was expected")
        self._count(len(coordinates))
        return self.numbers(coordinates, least)

    def numbers(self, positions: list[Any], least: int) -> Line:
        """The same of what was counted."""
        try:
            found = np.array([(x, y) for x, y, *_ in positions])
        except (TypeError, ValueError, OverflowError):
            self._odd("a position is [longitude, latitude]")
        if found.ndim != 2 or found.dtype.kind not in "iuf" or len(found) < least:  # noqa: PLR2004  x and y
            self._odd(f"{least} or more positions of numbers were expected")
        return found.astype(np.float64)

    def _odd(self, why: str) -> NoReturn:
        _fail("json", f"{self.name}: geometry {self.geometries}: {why}", "check it, for example on geojson.io")


_DRAW = frozenset(f"{several}{base}" for several in ("", "Multi") for base in ("Point", "LineString", "Polygon"))


def _closed(ring: Line) -> Line:
    """Some leave the last point out."""
    return ring if np.array_equal(ring[0], ring[-1]) else np.concatenate([ring, ring[:1]])


# --- places and lengths -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Paths:
    """Lines behind one another: of many short ones, one array."""

    xy: Line
    """(n, 2) corners of all."""
    starts: NDArray[np.int64]
    """(m,) where each begins."""

    @classmethod
    def of(cls, lines: Sequence[Line]) -> _Paths:
        """At least one point each."""
        sizes = np.array([len(line) for line in lines], np.int64)
        xy = np.concatenate(lines) if lines else np.empty((0, 2))
        return cls(xy, np.cumsum(sizes) - sizes)

    def steps(self) -> Line:
        """(n, 2) from each corner to the next; nothing from the last of a line."""
        found = np.zeros_like(self.xy)
        found[:-1] = np.diff(self.xy, axis=0)
        found[self.starts[1:] - 1] = 0.0
        return found

    def pieces(self, crs: str) -> NDArray[np.int64]:
        """(n,) into how many pieces the edge behind each corner is cut."""
        step = STEP_DEG if _in_degrees(crs) else STEP_M
        return np.maximum(1, np.ceil(np.minimum(np.hypot(*self.steps().T) / step, 1e12))).astype(np.int64)

    def dense(self, crs: str) -> _Paths:
        """With corners in between, at distances that depend on the edge alone."""
        pieces = self.pieces(crs)
        if (pieces == 1).all():
            return self
        ends = np.cumsum(pieces)
        return _Paths(divided(self.xy, self.steps(), pieces), (ends - pieces)[self.starts])

    def lonlat(self, crs: str, name: str) -> _Paths:
        """In longitude and latitude, each side by side, so that no outline is torn at 180."""
        if crs == LONLAT:
            return self
        lon, lat = (np.asarray(v) for v in transformer(crs, LONLAT).transform(self.xy[:, 0], self.xy[:, 1]))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            _fail("place", f"{name} has coordinates that have no place in {crs[:40]}", "check its 'crs'")
        first = np.repeat(lon[self.starts], np.diff([*self.starts, len(lon)]))
        return _Paths(np.stack([first + (lon - first + _HALF) % _TURN - _HALF, lat], axis=1), self.starts)

    def split(self) -> list[Line]:
        """One by one."""
        return np.split(self.xy, self.starts[1:]) if len(self.starts) else []


def divided(xy: Line, steps: Line, pieces: NDArray[np.int64]) -> Line:
    """With corners in between: ``steps`` to the next, (n, 2), are each cut into so many ``pieces``, (n,)."""
    if (pieces == 1).all():
        return xy
    corner, ends = np.repeat(np.arange(len(pieces)), pieces), np.cumsum(pieces)
    share = (np.arange(len(corner)) - (ends - pieces)[corner]) / pieces[corner]
    return xy[corner] + share[:, None] * steps[corner]


def _drawing(found: _Found, crs: str) -> Drawing:
    """In longitude and latitude, its lines short. Raises ImageryError, LimitError."""
    paths = _Paths.of([*found.rings, *found.lines])
    spots = found.numbers(found.spots, 1) if found.spots else np.empty((0, 2))
    for xy in (paths.xy, spots):
        _check_places(xy, crs, found.name)
    _check_edges(paths, crs, found.name)
    total = int(paths.pieces(crs).sum())  # before anything is made of them: few bytes draw much of a line
    if total > _DENSE * found.limits.points:
        raise _too_much(found.name, f"has lines that are too long: {total:,} points are needed to follow them", POINTS)
    lines = paths.dense(crs).lonlat(crs, found.name).split()
    points = _Paths(spots, np.arange(len(spots))).lonlat(crs, found.name).xy
    rings = iter(lines)
    areas = tuple(tuple(islice(rings, count)) for count in found.areas)
    return Drawing(areas, tuple(rings), points, found.geometries)


def _check_places(xy: Line, crs: str, name: str) -> None:
    if not np.isfinite(xy).all():
        _fail("place", f"{name} has coordinates that are no numbers", "check it")
    if not len(xy) or not _in_degrees(crs):
        return
    wide, far = np.abs(xy).max(axis=0)
    if far > _POLE:
        _fail("place", f"{name} has a latitude of {far:g}",
              f"longitude comes first, then latitude, in degrees; of another CRS: {_CONVERT}")  # fmt: skip
    if wide > _TURN:
        _fail("place", f"{name} has a longitude of {wide:g}", "give degrees, -180 to 180")


def _check_edges(paths: _Paths, crs: str, name: str) -> None:
    """An edge round the whole Earth is the outline of a map; any other that long is one that was not cut."""
    step = np.abs(paths.steps()[:, 0])
    if _in_degrees(crs) and ((step > _HALF) & (step < _TURN)).any():
        _fail("antimeridian", f"{name} has an edge that is longer than 180° of longitude, so it is not clear which "
              "way round it goes", "cut shapes at 180° (RFC 7946), or let longitudes run on past 180")  # fmt: skip


def _in_degrees(crs: str) -> bool:
    return crs == LONLAT or is_geographic(crs)


# --- problems ---------------------------------------------------------------------------------------------------------


def _fail(code: str, detail: str, hint: str) -> NoReturn:
    raise ImageryError(detail, code=f"mask.shapes.{code}", hint=hint, field="--mask-shapes")


def _too_much(name: str, what: str, setting: str) -> LimitError:
    return LimitError(f"{name} {what}", code="mask.shapes.limits", field="--mask-shapes",
                      hint=f"simplify its shapes, or leave out those elsewhere; {setting} is the bound")  # fmt: skip
