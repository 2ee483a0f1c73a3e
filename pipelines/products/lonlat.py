"""Polygons as GeoJSON wants them (RFC 7946): longitude and latitude, seven decimals, cut at the antimeridian.

An outline crosses the antimeridian where its longitudes, followed along its edges, leave -180..180. That it is wide
says nothing: a map of the world is. Around a pole they end a whole turn from where they began.

The text of millions of coordinates is made as a table of characters, a row per vertex, with blanks where a number is
shorter or a bracket not needed; the blanks are then struck out. Half the time of GEOS's writer, and no number longer
than its seven decimals.
"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from pipelines.products.corners import Ints, Outlines

Floats = NDArray[np.float64]
Geometry = tuple[bytes, bytes | memoryview]
"""The type of a GeoJSON geometry and the text of its coordinates."""

_DECIMALS = 7
_NOTHING = 10.0**-_DECIMALS
"""Degrees by which an outline may overhang ±180 without crossing it: a step of what is written, a centimetre."""
_POLE, _HALF_TURN, _TURN = 90.0, 180.0, 360.0
_SIDE = 8
"""Pieces of each side of a grid's outline."""
_PIECES = 4
"""Of an edge that is followed on its way; none of them goes half-way round the Earth."""
_STEPS = 256
"""Points along the longest side of a geometry before it is bent."""


class ToLonLat:
    """From a grid's plane to CRS84. One per thread."""

    def __init__(self, grid: GeoBox) -> None:
        """Prepare the transformation, and see how wide the grid is. Raises ValueError for a grid without a CRS."""
        if grid.crs is None:
            msg = "a grid without a CRS has no place on Earth"
            raise ValueError(msg)
        self._transformer = Transformer.from_crs(grid.crs.proj, "OGC:CRS84", always_xy=True)
        self._wide = True  # as long as it is not known
        lon = self(*outline(grid))[:, 0]
        self._wide = not np.isfinite(lon).all() or float(np.ptp(lon)) > _HALF_TURN

    def __call__(self, points: Floats, outlines: Outlines) -> Floats:
        """(n, 2) x and y of the vertices of ``outlines`` to longitude and latitude.

        Longitudes go on past ±180 along a ring that crosses there; holes lie in the turn in which their polygon does.
        """
        placed = np.empty_like(points)
        placed[:, 0], lat = self._transformer.transform(points[:, 0], points[:, 1])
        placed[:, 1] = np.clip(lat, -_POLE, _POLE)  # a grid of degrees may overhang the pole by half a pixel
        if self._wide or (len(points) and np.ptp(placed[:, 0]) > _HALF_TURN):
            placed[:, 0] = self._followed(points, placed[:, 0], outlines)
        return placed

    def _followed(self, points: Floats, lon: Floats, outlines: Outlines) -> Floats:
        """Longitudes that go on along each ring instead of jumping at ±180."""
        with np.errstate(invalid="ignore"):
            steps = np.diff(lon)
            # Where the whole grid is narrower than half a turn, the shorter way round is the one that an edge goes.
            went = self._went(points, lon) if self._wide else _shorter(steps)
            turns = np.nan_to_num(np.rint((steps - went) / _TURN))
        turns[outlines.rings[1:-1] - 1] = 0  # from one ring to the next
        since = np.concatenate(([0.0], np.cumsum(turns)))
        since -= np.repeat(since[outlines.rings[:-1]], np.diff(outlines.rings))
        return _with_holes(lon - _TURN * since, outlines)

    def _went(self, points: Floats, lon: Floats) -> Floats:
        """(n - 1,) degrees that each edge goes east, looked at on its way: an edge may go round the whole Earth."""
        way = [lon[:-1]]
        for share in np.arange(1, _PIECES) / _PIECES:
            between = points[:-1] * (1 - share) + points[1:] * share
            way.append(self._transformer.transform(between[:, 0], between[:, 1])[0])
        return _shorter(np.diff([*way, lon[1:]], axis=0)).sum(axis=0)


def _shorter(steps: Floats) -> Floats:
    """The way round that is at most half a turn."""
    return steps - _TURN * np.rint(steps / _TURN)


def _with_holes(lon: Floats, outlines: Outlines) -> Floats:
    """Holes moved by whole turns to where their polygon is; a hole is narrower than what it is in."""
    starts = outlines.rings[:-1]
    middle = (np.maximum.reduceat(lon, starts) + np.minimum.reduceat(lon, starts)) / 2
    with np.errstate(invalid="ignore"):
        away = np.repeat(middle[outlines.polygons[:-1]], np.diff(outlines.polygons)) - middle
    return lon + _TURN * np.repeat(np.nan_to_num(np.rint(away / _TURN)), np.diff(outlines.rings))


def outline(grid: GeoBox) -> tuple[Floats, Outlines]:
    """The edge of a grid as one ring: (n, 2) x and y of some points along each side, and where the ring lies."""
    height, width = grid.shape
    across, down = (np.unique(np.linspace(0, n, _SIDE + 1).round()).astype(np.int64) for n in (width, height))
    left, right = np.zeros_like(down), np.full_like(down, width)
    top, bottom = np.zeros_like(across), np.full_like(across, height)
    # Counterclockwise on the map: down the left side, along the bottom, up the right side, back along the top.
    col = np.concatenate([left, across[1:], right[1:], across[::-1][1:]])
    row = np.concatenate([down, bottom[1:], down[::-1][1:], top[1:]])
    points = np.stack([col, row], axis=1)
    affine = grid.transform
    ring = Outlines(points.astype(np.int32), np.array([0, len(points)]), np.array([0, 1]))
    return points.astype(np.float64) * (affine.a, affine.e) + (affine.c, affine.f), ring


def geometries(points: Floats, outlines: Outlines) -> list[Geometry]:
    """Geometries as text. points: (n, 2) longitude and latitude of the vertices of ``outlines``, as ToLonLat says."""
    placed = _begun(points, outlines)
    inside = placed
    if placed is not points:
        inside = np.column_stack([np.clip(placed[:, 0], -_HALF_TURN, _HALF_TURN), placed[:, 1]])
    found: list[Geometry] = [(b"Polygon", text) for text in _coordinates(inside, outlines)]
    for index in np.flatnonzero(_crossing(placed, outlines)):
        found[index] = _written(_parts(placed, outlines, int(index)))
    return found


def on_the_globe(geometry: BaseGeometry, grid: GeoBox) -> list[BaseGeometry]:
    """Polygons of a grid's plane in longitude and latitude, edges bent as they must, cut at the antimeridian.

    None where part of them has no place on Earth. Raises ProjError where that is not known of the whole plane.
    """
    west, south, east, north = geometry.bounds
    dense = shapely.segmentize(geometry, max(east - west, north - south) / _STEPS)
    _, points, (rings, polygons) = shapely.to_ragged_array(shapely.orient_polygons(shapely.get_parts(dense)))
    outlines = Outlines(np.empty(points.shape, np.int32), np.asarray(rings, np.int64), np.asarray(polygons, np.int64))
    placed = ToLonLat(grid)(points, outlines)
    if not np.isfinite(placed).all():
        return []
    placed = _begun(placed, outlines)
    return [part for index in range(len(outlines)) for part in _parts(placed, outlines, index)]


# --- the antimeridian -----------------------------------------------------------------------------------------------


def _begun(points: Floats, outlines: Outlines) -> Floats:
    """Polygons moved by whole turns so that each begins, in the west, within -180..180."""
    if np.abs(points[:, 0]).max(initial=0) <= _HALF_TURN:
        return points
    first = outlines.rings[outlines.polygons[:-1]]
    west = np.minimum.reduceat(points[:, 0], first)
    turns = np.repeat(np.floor((west + _HALF_TURN + _NOTHING) / _TURN), np.diff(first, append=len(points)))
    return np.column_stack([points[:, 0] - _TURN * turns, points[:, 1]])


def _crossing(points: Floats, outlines: Outlines) -> NDArray[np.bool_]:
    """Polygons that go on beyond ±180, or around a pole."""
    if not len(outlines):
        return np.empty(0, np.bool_)
    lon = points[:, 0]
    beyond = np.maximum.reduceat(lon, outlines.rings[outlines.polygons[:-1]]) > _HALF_TURN + _NOTHING
    around = np.abs(lon[outlines.rings[1:] - 1] - lon[outlines.rings[:-1]]) > _HALF_TURN
    return beyond | np.logical_or.reduceat(around, outlines.polygons[:-1])


def _parts(points: Floats, outlines: Outlines, index: int) -> list[BaseGeometry]:
    """One polygon as its parts in each turn, brought into -180..180."""
    one = outlines.part(index, index + 1)
    start = outlines.rings[outlines.polygons[index]]
    placed = points[start : start + one.rings[-1]]
    if np.ptp(placed[:, 0]) < _TURN - _NOTHING:  # what goes around a pole goes around the Earth
        (polygon,) = shapely.from_ragged_array(shapely.GeometryType.POLYGON, placed, (one.rings, one.polygons))
        return _by_turns(polygon)
    outer, *holes = _whole_rings(placed, one.rings)
    return _polygons(shapely.difference(outer, shapely.union_all(holes)))


def _whole_rings(points: Floats, rings: Ints) -> list[BaseGeometry]:
    """What each ring holds, in -180..180: of what goes round the Earth no two need to be counted in the same turn."""
    ends = itertools.pairwise(rings.tolist())
    closed = [_closed(points[a:b], hole=number > 0) for number, (a, b) in enumerate(ends)]
    # Pieces that lay in different turns meet to the last digits of their longitudes only.
    return [shapely.union_all(_by_turns(shapely.Polygon(ring)), grid_size=_NOTHING) for ring in closed]


def _closed(ring: Floats, *, hole: bool) -> Floats:
    """A ring around a pole is closed over it: it has the pole on its left as it goes, a hole on its right."""
    eastward = round(float(ring[-1, 0] - ring[0, 0]) / _TURN)
    if not eastward:
        return ring
    pole = _POLE * (-eastward if hole else eastward)
    return np.concatenate([ring, [(ring[-1, 0], pole), (ring[0, 0], pole)], ring[:1]])


def _by_turns(polygon: BaseGeometry) -> list[BaseGeometry]:
    """Its parts in each turn, west to east."""
    whole = polygon if polygon.is_valid else shapely.make_valid(polygon)
    west, _, east, _ = whole.bounds
    first, last = (west + _HALF_TURN + _NOTHING) / _TURN, (east + _HALF_TURN - _NOTHING) / _TURN
    return [part for turn in range(math.floor(first), math.ceil(last)) for part in _in_turn(whole, turn * _TURN)]


def _in_turn(whole: BaseGeometry, middle: float) -> list[BaseGeometry]:
    box = shapely.box(middle - _HALF_TURN, -_POLE, middle + _HALF_TURN, _POLE)
    return [shapely.transform(p, lambda xy: xy - (middle, 0)) for p in _polygons(shapely.intersection(whole, box))]


def _polygons(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Of a geometry what has an area."""
    parts = shapely.get_parts(geometry)
    return list(parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)])


def _written(parts: list[BaseGeometry]) -> Geometry:
    texts = [_rings(part) for part in shapely.orient_polygons(np.array(parts, dtype=object))]
    kind, text = (b"Polygon", texts[0]) if len(texts) == 1 else (b"MultiPolygon", texts)
    return kind, json.dumps(text, separators=(",", ":")).encode()


def _rings(polygon: shapely.Polygon) -> list[list[list[float]]]:
    rings = (polygon.exterior, *polygon.interiors)
    return [np.round(shapely.get_coordinates(ring), _DECIMALS).tolist() for ring in rings]


# --- the text -------------------------------------------------------------------------------------------------------

# A row of the table: "[[[", sign and digits of the longitude, ",", those of the latitude, "]]]" and a line feed.
_LON, _LAT, _END, _WIDTH = 3, 16, 28, 32
_BLANK = ord(" ")
_SLAB = 4096


def _coordinates(points: Floats, outlines: Outlines) -> list[memoryview]:
    """Text of the coordinates of each polygon."""
    starts, ends = outlines.rings[:-1], outlines.rings[1:] - 1
    depth = np.zeros((len(points), 2), np.int8)  # brackets to open and to close beyond the vertex's own
    depth[starts, 0] += 1
    depth[starts[outlines.polygons[:-1]], 0] += 1
    depth[ends, 1] += 1
    depth[ends[outlines.polygons[1:] - 1], 1] += 1
    table = np.empty((min(_SLAB, len(points)), _WIDTH), np.uint8)
    pieces = []
    for top in range(0, len(points), _SLAB):  # a slab stays in the cache while its columns are filled
        slab = slice(top, top + _SLAB)
        pieces.append(_text(table[: len(points[slab])], points[slab], depth[slab]))
    text = b"".join(pieces)
    breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")).tolist()
    view = memoryview(text)
    return [view[a:b] for a, b in zip([0, *(b + 1 for b in breaks)], breaks, strict=False)]


def _text(table: NDArray[np.uint8], points: Floats, depth: NDArray[np.int8]) -> bytes:
    """Vertices with their brackets and commas; a line feed after each polygon."""
    table.fill(_BLANK)
    table[:, _LON - 1] = ord("[")
    _number(table[:, _LON:], points[:, 0], whole=3)
    table[:, _LAT - 1] = ord(",")
    _number(table[:, _LAT:], points[:, 1], whole=2)
    table[:, _END - 1] = ord("]")
    table[:, _END] = ord(",")
    for count in (1, 2):
        table[depth[:, 0] >= count, _LON - 1 - count] = ord("[")
        closed = np.flatnonzero(depth[:, 1] >= count)
        table[closed, _END + count - 1] = ord("]")
        table[closed, _END + count] = (ord(","), ord("\n"))[count - 1]
    return table.tobytes().translate(None, b" ")


def _number(table: NDArray[np.uint8], degrees: Floats, whole: int) -> None:
    """Write numbers with seven decimals into a table's first columns: sign, ``whole`` digits, point, decimals."""
    scaled = np.rint(degrees * 10**_DECIMALS)
    table[scaled < 0, 0] = ord("-")
    rest = np.abs(scaled).astype(np.uint32)
    large = rest
    for column in range(whole + 1 + _DECIMALS, 0, -1):
        if column == whole + 1:
            table[:, column] = ord(".")
            continue
        tens = rest // np.uint32(10)
        table[:, column] = rest - tens * np.uint32(10) + np.uint32(ord("0"))
        rest = tens
    for digit in range(1, whole):  # zeros before the first digit that counts
        table[large < np.uint32(10 ** (_DECIMALS + whole - digit)), digit] = _BLANK
