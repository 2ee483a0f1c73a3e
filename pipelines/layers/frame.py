"""What a picture of a layer shows: a rectangle of a coordinate system, in so many pixels."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import morecantile
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from pipelines.mosaic.frame import ends, period, turns
from swathe.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from swathe.layer import Layer

Box = tuple[float, float, float, float]
"""left, bottom, right, top."""
TILE = 256
"""Pixels of a side of a web map tile."""
_EDGE = 21
"""Points of an edge that is carried into another coordinate system."""
_NOTHING = 1e-9
"""Of once round the world: what overhangs an end by less than 4 cm does not run on."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One of them; north is up."""

    crs: str
    """``EPSG:…`` or WKT; easting before northing, longitude before latitude."""
    bounds: Box
    """In that system."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    @property
    def transform(self) -> Affine:
        """From (column, row) to coordinates."""
        left, bottom, right, top = self.bounds
        return Affine((right - left) / self.width, 0, left, 0, (bottom - top) / self.height, top)

    def at(self, col: float, row: float) -> tuple[float, float]:
        """Coordinates of the middle of a pixel."""
        x, y = self.transform * (col + 0.5, row + 0.5)
        return float(x), float(y)


def web_tiles() -> morecantile.TileMatrixSet:
    """The tiles of web maps: WebMercatorQuad."""
    return morecantile.tms.get("WebMercatorQuad")


def tile(z: int, x: int, y: int) -> Frame:
    """A web map tile. Raises NotFoundError (``tile.unknown``) where the grid has none."""
    if not (0 <= z <= web_tiles().maxzoom and 0 <= x < 1 << z and 0 <= y < 1 << z):
        raise NotFoundError(f"there is no tile {z}/{x}/{y}", code="tile.unknown",
                            hint="zoom levels are 0 to 24; x and y are less than 2 to the power of z")  # fmt: skip
    box = web_tiles().xy_bounds(morecantile.Tile(x, y, z))
    return Frame("EPSG:3857", (box.left, box.bottom, box.right, box.top), TILE, TILE)


def overlaps(layer: Layer, frame: Frame) -> tuple[tuple[float, Box], ...]:
    """The parts of the frame's rectangle in which the layer may lie; none: it lies elsewhere.

    With each, what is added to the layer's x there: a layer that runs on past an end of the world enters at the other.
    """
    found = []
    for turn, bounds in _turned(layer, frame.crs):
        left, bottom, right, top = carried(bounds, layer.crs, frame.crs)
        box = (max(left, frame.bounds[0]), max(bottom, frame.bounds[1]),
               min(right, frame.bounds[2]), min(top, frame.bounds[3]))  # fmt: skip
        if box[2] - box[0] > _NOTHING * period(frame.crs) and box[1] < box[3]:
            found.append((turn, box))
    return tuple(found)


def _turned(layer: Layer, crs: str) -> Iterator[tuple[float, Box]]:
    """The layer's rectangle moved by whole turns; cut where the world ends, as other systems know no places beyond."""
    left, bottom, right, top = layer.bounds
    whole, (west, east) = period(layer.crs), ends(layer.crs)
    for turn in turns(layer.crs):
        start, end = left + turn, right + turn
        if whole and crs != layer.crs:
            start, end = max(start, west), min(end, east)
        if end - start > _NOTHING * whole:
            yield turn, (start, bottom, end, top)


@functools.lru_cache(maxsize=1024)
def carried(box: Box, source: str, target: str) -> Box:
    """The rectangle around a rectangle in another system; without bounds where that cannot be said."""
    if source == target:
        return box
    try:
        found = _carrier(source, target).transform_bounds(*box, densify_pts=_EDGE)
    except ProjError:
        found = (math.inf,) * 4
    left, bottom, right, top = (float(n) for n in found)
    if not all(map(math.isfinite, found)) or left > right:  # over the antimeridian
        return -math.inf, bottom if math.isfinite(bottom) else -math.inf, math.inf, top
    return left, bottom, right, top


def pixels_of(layer: Layer, frame: Frame, box: Box) -> float:
    """Pixels of the layer along one pixel of the frame, in the middle of a rectangle of it."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    across, down = frame.transform.a, frame.transform.e
    xs, ys = _carrier(frame.crs, layer.crs).transform([x, x + across, x], [y, y, y + down])
    wide = (layer.bounds[2] - layer.bounds[0]) / layer.shape[1]
    tall = (layer.bounds[3] - layer.bounds[1]) / layer.shape[0]
    steps = [(_step(xs[0], xs[i], period(layer.crs)) / wide, (ys[i] - ys[0]) / tall) for i in (1, 2)]
    area = abs(steps[0][0] * steps[1][1] - steps[0][1] * steps[1][0])
    return math.sqrt(area) if math.isfinite(area) else 1.0


def _step(start: float, end: float, whole: float) -> float:
    """From one x to another near it, whichever turns the two are counted in."""
    step = end - start
    return math.remainder(step, whole) if whole and math.isfinite(step) else step


def place(layer: Layer, crs: str, x: float, y: float) -> tuple[int, int] | None:
    """(row, column) of the layer's pixel under a point; None: outside."""
    across, up = _carrier(crs, layer.crs).transform(x, y)
    if not (math.isfinite(across) and math.isfinite(up)):
        return None
    left, bottom, right, top = layer.bounds
    rows, cols = layer.shape
    row = math.floor((top - up) / (top - bottom) * rows)
    for turn in turns(layer.crs):
        col = math.floor((across - turn - left) / (right - left) * cols)
        if 0 <= row < rows and 0 <= col < cols:
            return row, col
    return None


def known(text: str) -> CRS:
    """A coordinate system. Raises InputError (``crs.unknown``)."""
    try:
        return _crs(text)
    except ProjError:
        raise InputError(f"{text[:40]!r} is no coordinate system that is known here", code="crs.unknown",
                         field="crs", hint="use EPSG:3857 or EPSG:4326") from None  # fmt: skip


@functools.lru_cache(maxsize=256)
def _crs(text: str) -> CRS:
    return CRS.from_user_input(text)


@functools.lru_cache(maxsize=256)
def _carrier(source: str, target: str) -> Transformer:
    return Transformer.from_crs(_crs(source), _crs(target), always_xy=True)
