"""Shapes of a file of one's own, and what lies around them in true metres, drawn onto windows of a result's grid.

- Of an area the pixels are in whose centres are; a line and a point also mask the pixels that they touch, so that none
  is lost between two centres. With a buffer, pixels are in whose centres lie within that many metres of a shape.
- Buffers are made of short pieces of outlines, each in a projection of its own neighbourhood that is true to distances
  (azimuthal equidistant, by cells of a degree that hang on the globe): what is around all pieces is what is around the
  whole. So metres are metres in whatever CRS the result is, and do not depend on the window.
- Nothing is cut, joined or repaired, which strangers' outlines can make endless: shapes are pulled onto a box around
  the window, along whose sides they then run, and filled.

Memory: the file's shapes (``geojson.Drawing``) twice, and those near one window once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Proj

from pipelines.masking.geojson import STEP_DEG, Drawing, Line, divided
from pipelines.masking.source import Bools
from pipelines.masking.vector import edge_points, holds_pole
from pipelines.mosaic.frame import LONLAT, beside, named, period, transformer, turned
from swathe.masking import Mask
from swathe.window import Window

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; longitudes may lie beyond 180."""
_RUN = 32
"""Edges of a piece of an outline: what is around it takes a bounded time, however it winds."""
_ARC = 32
"""Corners of a quarter of a circle: it is off by a three-thousandth of its radius."""
_AT_ONCE = 256
"""Shapes that are drawn before it is asked whether anything is left to draw."""
_DEGREE_M = 110_500.0
"""Metres of a degree of latitude; none is shorter."""
_MARGIN = 2 * STEP_DEG
"""Degrees around a window: an edge that reaches into it is not cut, so that it runs the same for all windows."""
_FEW = 64
"""Parts of a side of the box, along which shapes run: it is bent in another CRS."""
_TURN, _POLE, _RING = 360.0, 90.0, 4


class ShapesMask:
    """Where the shapes of a drawing are, and what is near them."""

    gaps = False

    def __init__(self, drawing: Drawing, buffer_m: float, grid: GeoBox, told: Mapping[str, Any]) -> None:
        """``told``: what a report says of the file."""
        self._grid, self._buffer, self._told = grid, buffer_m, {**told, "buffer_m": buffer_m}
        self._areas, self._lines = _Group.of(drawing.areas), _Group.of([(line,) for line in drawing.lines])
        self._points = drawing.points
        self._pieces = _Pieces.of(drawing, buffer_m) if buffer_m else None

    def at(self, window: Window) -> Mapping[Mask, Bools]:
        """See :class:`MaskSource`."""
        found = np.zeros((window.height, window.width), np.uint8)
        place = _Place.of(self._grid, window)
        if place is not None:
            _burn(self._filled(place), found)
            _burn(self._touched(place), found, touched=True)
            if self._pieces is not None:
                _burn(self._pieces.around(place), found)
        return {Mask.SHAPES: found.astype(bool)}

    def _filled(self, place: _Place) -> Iterator[dict[str, Any]]:
        for rings in self._areas.near(place):
            corners = [place.pixels(ring) for ring in rings]
            if drawn := [ring.tolist() for ring in corners if len(ring) >= _RING]:
                yield {"type": "Polygon", "coordinates": drawn}

    def _touched(self, place: _Place) -> Iterator[dict[str, Any]]:
        for (line,) in self._lines.near(place):
            if len(corners := place.pixels(line)) > 1:
                yield {"type": "LineString", "coordinates": corners.tolist()}
        for turn in place.turns:
            moved = _moved(self._points, turn)
            for col, row in place.pixels(moved[_inside(moved, place.box)]).tolist():
                yield {"type": "Point", "coordinates": (col, row)}

    def told(self, mask: Mask) -> dict[str, Any]:
        """See :class:`MaskSource`."""
        _ = mask
        return dict(self._told)


def _burn(shapes: Iterator[Any], found: NDArray[np.uint8], *, touched: bool = False) -> None:
    """Draw one by one, each by the even-odd rule, as long as there is anything left to draw."""
    from rasterio.features import rasterize

    while not found.all() and (some := list(islice(shapes, _AT_ONCE))):
        rasterize([(one, 1) for one in some], out=found, transform=Affine.identity(), all_touched=touched)


# --- windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A window of a grid, seen from the globe."""

    grid: GeoBox
    window: Window
    crs: str
    box: Box
    """Around it; longitudes go on past 180 where the window does."""
    turns: tuple[float, ...]
    """What may have to be added to longitudes for a shape to lie in the box."""
    centre: tuple[float, float]
    """x in the middle of the window, and the longitude there."""

    @classmethod
    def of(cls, grid: GeoBox, window: Window) -> _Place | None:
        """None where no part of it has a place on the globe."""
        assert grid.crs is not None
        crs = named(str(grid.crs))
        whole = period(crs)
        x, y = edge_points(grid, window)
        lon, lat = (np.asarray(v) for v in transformer(crs, LONLAT).transform(x, y))
        known = np.isfinite(lon) & np.isfinite(lat)
        x, lon, lat = x[known], lon[known], lat[known]
        if not len(lon):
            return None
        centre = float(x[len(x) // 2]), float(lon[len(lon) // 2])
        lon = centre[1] + (x - centre[0]) / whole * _TURN if whole else turned(lon, centre[1])
        west, south, east, north = float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())
        more = _MARGIN + 0.02 * max(east - west, north - south)
        if not whole and (east - west > _TURN / 2 or holds_pole(grid, window, LONLAT)):
            far = (-_POLE, north + more) if lat.mean() < 0 else (south - more, _POLE)
            box = (-2 * _TURN, far[0], 2 * _TURN, far[1])  # all meridians, whichever turn they are counted in
            return cls(grid, window, crs, box, (0.0,), centre)
        box = (west - more, south - more, east + more, north + more)
        return cls(grid, window, crs, box, (-_TURN, 0.0, _TURN), centre)

    def pixels(self, lonlat: Line) -> Line:
        """(n, 2) column and row in the window, as real numbers; what has no place in the grid's CRS is left out."""
        found = self.anywhere(lonlat)
        return found[np.isfinite(found).all(axis=1)]

    def anywhere(self, lonlat: Line) -> Line:
        """The same with all of them; what has no place is not finite."""
        x, y = (np.asarray(v) for v in transformer(LONLAT, self.crs).transform(lonlat[:, 0], lonlat[:, 1]))
        if whole := period(self.crs):  # beside the window, wherever the CRS is cut
            x = beside(x, lonlat[:, 0], whole, self.centre)
        to = self.grid.transform
        return np.stack([(x - to.c) / to.a - self.window.col, (y - to.f) / to.e - self.window.row], axis=1)


def _moved(xy: Line, turn: float) -> Line:
    return xy + np.array([turn, 0.0]) if turn else xy


def _inside(xy: Line, box: Box) -> Bools:
    west, south, east, north = box
    x, y = xy[:, 0], xy[:, 1]
    return (x >= west) & (x <= east) & (y >= south) & (y <= north)


# --- shapes near a window ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Shapes of one kind, with their bounds."""

    shapes: Sequence[tuple[Line, ...]]
    bounds: NDArray[np.float64]
    """(n, 4) west, south, east, north."""

    @classmethod
    def of(cls, shapes: Sequence[tuple[Line, ...]]) -> _Group:
        found = np.empty((len(shapes), 4))
        for n, paths in enumerate(shapes):
            found[n, :2] = np.min([path.min(axis=0) for path in paths], axis=0)
            found[n, 2:] = np.max([path.max(axis=0) for path in paths], axis=0)
        return cls(shapes, found)

    def near(self, place: _Place) -> Iterator[list[Line]]:
        """Those that reach into a place's box, pulled onto it."""
        for turn in place.turns:
            for n in _touching(self.bounds, place.box, turn):
                yield [_pulled(_moved(path, turn), place.box) for path in self.shapes[n]]


def _touching(bounds: NDArray[np.float64], box: Box, turn: float) -> NDArray[np.intp]:
    """Numbers of bounds that touch a box when they are moved by a turn."""
    west, south, east, north = box
    across = (bounds[:, 0] + turn <= east) & (bounds[:, 2] + turn >= west)
    return np.flatnonzero(across & (bounds[:, 1] <= north) & (bounds[:, 3] >= south))


def _pulled(path: Line, box: Box) -> Line:
    """A path as it is in the box, and for the rest of it along its sides.

    Each point outside is moved to the nearest one of the box. That moves nothing across a point inside, so whatever
    was enclosed there still is, as often as before.
    """
    if _inside(path, box).all():
        return path
    for axis, bound in ((0, box[0]), (1, box[1]), (0, box[2]), (1, box[3])):
        path = _cut(path, axis, bound)
    path = np.clip(path, box[:2], box[2:])
    fresh = np.ones(len(path), bool)
    fresh[1:] = (path[1:] != path[:-1]).any(axis=1)
    path = path[fresh]
    steps = np.zeros_like(path)
    steps[:-1] = np.diff(path, axis=0)
    pieces = np.ones(len(path), np.int64)
    for axis in (0, 1):  # what runs along a side is drawn bent where the side is
        on = np.isin(path[:, axis], (box[axis], box[axis + 2])) & (steps[:, axis] == 0)
        side = max(box[3 - axis] - box[1 - axis], 1e-9)
        pieces[on] = np.maximum(1, np.ceil(np.abs(steps[on, 1 - axis]) / side * _FEW))
    return divided(path, steps, pieces)


def _cut(path: Line, axis: int, bound: float) -> Line:
    """With a corner wherever it crosses a line."""
    here, there = path[:-1, axis], path[1:, axis]
    across = np.flatnonzero((here < bound) != (there < bound))
    if not len(across):
        return path
    share = (bound - here[across]) / (there[across] - here[across])
    corners = path[across] + share[:, None] * (path[across + 1] - path[across])
    corners[:, axis] = bound
    return np.insert(path, across + 1, corners, axis=0)


# --- what lies around them --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Outlines, lines and points in short pieces, and how far what is around them reaches."""

    buffer_m: float
    xy: Line
    """(n, 2) corners of all."""
    first: NDArray[np.int64]
    """(m,) of each piece."""
    last: NDArray[np.int64]
    """(m,); of a point its first one."""
    bounds: NDArray[np.float64]
    """(m, 4), with what is around it."""

    @classmethod
    def of(cls, drawing: Drawing, buffer_m: float) -> _Pieces:
        paths = [*(ring for rings in drawing.areas for ring in rings), *drawing.lines]
        sizes = np.array([len(path) for path in paths], np.int64)
        ends = np.cumsum(sizes)
        runs = np.maximum(1, -(-(sizes - 1) // _RUN))
        of_run = np.repeat(np.arange(len(paths)), runs)
        place = np.arange(len(of_run)) - (np.cumsum(runs) - runs)[of_run]
        first = (ends - sizes)[of_run] + place * _RUN
        last = np.minimum(first + _RUN, ends[of_run] - 1)
        xy = np.concatenate([*paths, drawing.points])
        single = np.arange(len(xy) - len(drawing.points), len(xy))
        first, last = np.concatenate([first, single]), np.concatenate([last, single])
        low = np.minimum(np.minimum.reduceat(xy, first, axis=0), xy[last])
        high = np.maximum(np.maximum.reduceat(xy, first, axis=0), xy[last])
        return cls(buffer_m, xy, first, last, _wider(np.hstack([low, high]), buffer_m))

    def around(self, place: _Place) -> Iterator[Any]:
        """Polygons in pixels of a place."""
        for turn in place.turns:
            near = _touching(self.bounds, place.box, turn)
            middle = (self.bounds[near, :2] + self.bounds[near, 2:]) / 2
            rows = np.clip(np.floor(middle[:, 1]), -_POLE, _POLE - 1)
            wide = _TURN / np.maximum(1, np.round(_TURN * np.cos(np.radians(rows + 0.5))))
            centres = np.stack([rows + 0.5, (np.floor(middle[:, 0] / wide) + 0.5) * wide])
            cells, of_cell = np.unique(centres, axis=1, return_inverse=True)
            for n, (lat, lon) in enumerate(cells.T.tolist()):
                yield from self._of_cell(near[of_cell.ravel() == n], (lat, lon, turn), place)

    def _of_cell(
        self, pieces: NDArray[np.intp], cell: tuple[float, float, float], place: _Place
    ) -> Iterator[Any]:  # fmt: skip
        """``cell``: latitude and longitude of its middle, and the turn in which it lies near the place."""
        lat, lon, turn = cell
        flat = _flat(lat, lon)
        for some in np.array_split(pieces, -(-len(pieces) // _AT_ONCE)):
            first, sizes = self.first[some], self.last[some] - self.first[some] + 1
            of_piece = np.repeat(np.arange(len(some)), sizes)
            corner = np.arange(len(of_piece)) - (np.cumsum(sizes) - sizes)[of_piece] + first[of_piece]
            xy = np.stack(flat(self.xy[corner, 0], self.xy[corner, 1]), axis=1)
            single = (sizes == 1)[of_piece]
            drawn = [np.asarray(shapely.points(xy[single]), object)]
            if not single.all():
                number = np.unique(of_piece[~single], return_inverse=True)[1]
                drawn.append(np.asarray(shapely.linestrings(xy[~single], indices=number), object))
            around = shapely.buffer(np.concatenate(drawn), self.buffer_m, quad_segs=_ARC)
            yield from _placed(around, flat, lon + turn, place)


def _placed(around: NDArray[np.object_], flat: Proj, lon: float, place: _Place) -> Iterator[Any]:
    """Polygons of a cell's projection in pixels of a place."""

    def moved(xy: Line) -> Line:
        degrees = np.stack(flat(xy[:, 0], xy[:, 1], inverse=True), axis=1)
        degrees[:, 0] = turned(degrees[:, 0], lon)
        return place.anywhere(degrees)

    for shape in shapely.transform(around, moved):
        if np.isfinite(shapely.get_coordinates(shape)).all() and not shapely.is_empty(shape):
            yield shape


def _wider(bounds: NDArray[np.float64], metres: float) -> NDArray[np.float64]:
    """With what is around them; of what comes near a pole, all meridians."""
    up = metres / _DEGREE_M
    far = np.radians(np.minimum(np.abs(bounds[:, [1, 3]]).max(axis=1) + up, _POLE))
    along = np.minimum(up / np.maximum(np.cos(far), 1e-12), _TURN / 2)
    return bounds + np.stack([-along, np.full(len(along), -up), along, np.full(len(along), up)], axis=1)


@lru_cache(maxsize=512)
def _flat(lat: float, lon: float) -> Proj:
    """A projection that is true to distances near a place; longitudes of any turn."""
    return Proj(proj="aeqd", lat_0=lat, lon_0=(lon + _TURN / 2) % _TURN - _TURN / 2, ellps="WGS84")
