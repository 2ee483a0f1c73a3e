"""Polygons as GeoJSON wants them (RFC 7946): longitude and latitude, seven decimals, cut at the antimeridian.

The text of millions of coordinates is made as a table of characters, a row per vertex, with blanks where a number is
shorter or a bracket not needed; the blanks are then struck out. Half the time of GEOS's writer, and no number longer
than its seven decimals.
"""

from __future__ import annotations

import json

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from pipelines.products.corners import Outlines

Floats = NDArray[np.float64]
Geometry = tuple[bytes, bytes | memoryview]
"""The type of a GeoJSON geometry and the text of its coordinates."""

_DECIMALS = 7
_HALF_TURN = 180.0


class ToLonLat:
    """From a projected or geographic CRS to CRS84. One per thread."""

    def __init__(self, crs: CRS) -> None:
        """Prepare the transformation."""
        self._transformer = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)

    def __call__(self, points: Floats) -> Floats:
        """(n, 2) x and y to longitude, -180 .. 180, and latitude."""
        placed = np.empty_like(points)
        placed[:, 0], placed[:, 1] = self._transformer.transform(points[:, 0], points[:, 1])
        if np.abs(placed[:, 0]).max(initial=0) > _HALF_TURN:
            placed[:, 0] = (placed[:, 0] + _HALF_TURN) % 360 - _HALF_TURN
        return placed


def geometries(points: Floats, outlines: Outlines) -> list[Geometry]:
    """Geometries as text. points: (n, 2) longitude and latitude of the vertices of ``outlines``."""
    found: list[Geometry] = [(b"Polygon", text) for text in _coordinates(points, outlines)]
    for index in np.flatnonzero(_crossing(points, outlines)):
        found[index] = (b"MultiPolygon", _cut(points, outlines, int(index)))
    return found


def about_pole(ring: Floats) -> list[list[float]] | None:
    """The outline of what has a pole in it: once around the Earth, then along ±180° to the pole; None for all else.

    ring: (n, 2) longitude and latitude, closed, counterclockwise on the map it comes from, no step longer than 180°.
    """
    lon = np.unwrap(ring[:, 0], period=360.0)
    turns = round(float(lon[-1] - lon[0]) / 360.0)
    if abs(turns) != 1:
        return None
    around = ring[:-1][np.argsort(ring[:-1, 0])]
    (west, first), (east, last) = around[0], around[-1]
    gap = west + 360.0 - east
    meets = last + (first - last) * ((_HALF_TURN - east) / gap if gap else 0.0)
    corners = [(_HALF_TURN, meets), (_HALF_TURN, 90.0 * turns), (-_HALF_TURN, 90.0 * turns), (-_HALF_TURN, meets)]
    outline = np.round([corners[-1], *map(tuple, around), *corners], _DECIMALS)
    return outline[::turns].tolist()  # about the south pole it came out clockwise


# --- the antimeridian -----------------------------------------------------------------------------------------------


def _crossing(points: Floats, outlines: Outlines) -> NDArray[np.bool_]:
    """Polygons with vertices on both sides of the antimeridian: those that seem to go around the world."""
    if not len(outlines):
        return np.empty(0, np.bool_)
    first = outlines.rings[outlines.polygons[:-1]]
    lon = points[:, 0]
    return np.maximum.reduceat(lon, first) - np.minimum.reduceat(lon, first) > _HALF_TURN


def _cut(points: Floats, outlines: Outlines, index: int) -> bytes:
    """Coordinates of one polygon as its parts east and west of the antimeridian."""
    one = outlines.part(index, index + 1)
    start = outlines.rings[outlines.polygons[index]]
    turned = points[start : start + len(one.points)].copy()
    turned[:, 0] %= 360
    (polygon,) = shapely.from_ragged_array(shapely.GeometryType.POLYGON, turned, (one.rings, one.polygons))
    whole = polygon if polygon.is_valid else shapely.make_valid(polygon)
    east, west = (_side(whole, edge) for edge in (0.0, _HALF_TURN))
    parts = [*east, *shapely.transform(west, lambda xy: xy - np.array([360.0, 0.0]))]
    usual = shapely.orient_polygons(np.array(parts, dtype=object))
    return json.dumps([_rings(p) for p in usual], separators=(",", ":")).encode()


def _side(whole: shapely.Geometry, edge: float) -> NDArray[np.object_]:
    """What lies in the half turn east of a meridian."""
    parts = shapely.get_parts(shapely.intersection(whole, shapely.box(edge, -90, edge + _HALF_TURN, 90)))
    return parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)]


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
