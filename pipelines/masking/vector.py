"""Polygons of a layer, drawn onto windows of a result's grid; a pixel is in where its centre is.

Straight lines of a layer become bent ones in another CRS, so long ones get corners in between, at distances that do
not depend on the window. Memory: the polygons under one window; of a TopoJSON, all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pipelines.masking.topojson import read_topojson
from pipelines.mosaic.frame import LONLAT, beside, ends, is_geographic, named, overrun, period, transformer, turned
from swathe.errors import ReadError
from swathe.window import Window

Box = tuple[float, float, float, float]
"""West, south, east, north, in a layer's CRS."""
_STEP_DEG, _STEP_M = 0.01, 1000.0
"""Longest straight line that is brought into another CRS by its ends: it is off by centimetres."""
_POINTS = 17
_TURN = 360.0
_WORLD: Box = (-180.0, -90.0, 180.0, 90.0)


class Polygons(Protocol):
    """Where polygons come from."""

    @cached_property
    def crs(self) -> str:
        """``EPSG:n`` or WKT, or CRS84."""
        ...

    def within(self, box: Box) -> NDArray[np.object_]:
        """(n,) shapely polygons that touch a box, or parts of them, their lines short. Raises ReadError."""
        ...


class PolygonFile:
    """A vector file that GDAL reads by its spatial index, where it has one."""

    def __init__(self, path: Path) -> None:
        """Open nothing yet."""
        self._path = path

    @cached_property
    def crs(self) -> str:
        """See :class:`Polygons`."""
        import pyogrio

        with _readable(self._path):
            found = pyogrio.read_info(self._path)["crs"]
        if not found:
            raise _unreadable(self._path, "it names no CRS")
        return named(found)

    def within(self, box: Box) -> NDArray[np.object_]:
        """See :class:`Polygons`."""
        from pyogrio import raw

        with _readable(self._path):
            _, _, found, _ = raw.read(self._path, columns=[], bbox=box)
        areas = shapely.from_wkb(found)
        areas = areas[shapely.get_dimensions(areas) == 2]  # noqa: PLR2004  areas
        bad = ~shapely.is_valid(areas)
        areas[bad] = shapely.make_valid(areas[bad])
        return shapely.segmentize(areas, _STEP_DEG if is_geographic(self.crs) else _STEP_M)


class Coast:
    """A TopoJSON of polygons that are small and valid (``pack.py``), held whole."""

    def __init__(self, path: Path) -> None:
        """Open nothing yet."""
        self._path = path

    @cached_property
    def crs(self) -> str:
        """See :class:`Polygons`."""
        return LONLAT

    @cached_property
    def _tree(self) -> shapely.STRtree:
        try:
            return shapely.STRtree(read_topojson(self._path))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise _unreadable(self._path, str(error)) from error

    def within(self, box: Box) -> NDArray[np.object_]:
        """See :class:`Polygons`."""
        touched = self._tree.geometries[np.sort(self._tree.query(shapely.box(*box)))]
        return shapely.segmentize(touched, _STEP_DEG)


def polygons_of(path: Path) -> Polygons:
    """Of a file, by its ending."""
    return Coast(path) if path.name.endswith((".topojson.gz", ".topojson")) else PolygonFile(path)


def drawn(polygons: Polygons, grid: GeoBox, window: Window) -> NDArray[np.bool_]:
    """(h, w) True where the centre of a pixel of a grid lies in a polygon. Raises ReadError.

    The window may overhang the grid. A grid in degrees may go beyond 180.
    """
    from rasterio.features import rasterize

    shapes = [shape for shape in _placed(polygons, grid, window) if not shapely.is_empty(shape)]
    burnt = np.zeros((window.height, window.width), np.uint8)
    if shapes:
        rasterize([(shape, 1) for shape in shapes], out=burnt, transform=Affine.identity())
    return burnt.astype(bool)


def _placed(polygons: Polygons, grid: GeoBox, window: Window) -> Iterator[shapely.Geometry]:
    """Polygons in pixels of the window."""
    assert grid.crs is not None
    crs, to = named(str(grid.crs)), grid.transform
    for box, turn in _boxes(polygons.crs, crs, grid, window):
        for shape in polygons.within(box):

            def place(xy: NDArray[np.float64], more: float = turn * (period(crs) / _TURN)) -> NDArray[np.float64]:
                x, y = xy[:, 0], xy[:, 1]
                if crs != polygons.crs:
                    x, y = _moved(xy, polygons.crs, crs)
                col, row = (x + more - to.c) / to.a, (y - to.f) / to.e
                return np.stack([col - window.col, row - window.row], axis=1)

            yield _clipped(shapely.transform(shape, place), window)


def _moved(xy: NDArray[np.float64], source: str, target: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners in another CRS; side by side, so that no outline is torn where that is cut."""
    x, y = (np.asarray(v) for v in transformer(source, target).transform(xy[:, 0], xy[:, 1]))
    if not (whole := period(target)):
        return x, y
    with np.errstate(invalid="ignore"):  # a pole has no place in Mercator
        return (beside(x, xy[:, 0], whole, _middle(target)) if _lonlat(source) else turned(x, x[0], whole)), y


@cache
def _middle(crs: str) -> tuple[float, float]:
    """The easting half-way between the ends of a plane, and its longitude."""
    x = sum(ends(crs)) / 2
    return x, float(transformer(crs, LONLAT).transform(x, 0.0)[0])


def _clipped(shape: shapely.Geometry, window: Window) -> shapely.Geometry:
    """What cannot be placed there (beyond a projection's reach) is no part of the window."""
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        finite = np.isfinite
        shape = shapely.transform(shape, lambda xy: np.where(finite(xy), xy, -1e9))
    try:
        return shapely.clip_by_rect(shape, -2, -2, window.width + 2, window.height + 2)
    except shapely.GEOSException:
        return shape


def _boxes(layer: str, crs: str, grid: GeoBox, window: Window) -> Iterator[tuple[Box, float]]:
    """Boxes of a layer under a window, and by how many degrees they are moved to lie beside it, where it runs on."""
    east, north = edge_points(grid, window)
    x, y = (east, north) if layer == crs else transformer(crs, layer).transform(east, north)
    known = np.isfinite(x) & np.isfinite(y)
    east, x, y = east[known], np.asarray(x)[known], np.asarray(y)[known]
    if not len(x):
        return
    whole = period(crs)
    if not _lonlat(layer):
        for turn in (-_TURN, 0.0, _TURN) if overrun(east, crs) else (0.0,):
            yield _around(x, y), turn
        return
    half = len(x) // 2
    about = float(x[half])
    if whole:  # in the turn in which the window is counted
        middle, lon = _middle(crs)
        about = lon + (float(east[half]) - middle) / whole * _TURN
    x = turned(x, about)
    if np.ptp(x) > _TURN / 2 or holds_pole(grid, window, layer):
        for turn in (-_TURN, 0.0, _TURN) if whole else (0.0,):
            yield _WORLD, turn
        return
    left, bottom, right, top = _around(x, y)
    for turn in (-_TURN, 0.0, _TURN):
        first, last = max(left - turn, _WORLD[0]), min(right - turn, _WORLD[2])
        if first < last:
            yield (first, max(bottom, -90.0), last, min(top, 90.0)), turn if whole else 0.0


def holds_pole(grid: GeoBox, window: Window, layer: str) -> bool:
    """Whether one of the poles lies in a window; ``layer``: a CRS of degrees."""
    assert grid.crs is not None
    crs, to = named(str(grid.crs)), grid.transform
    if _lonlat(crs):
        return False
    x, y = transformer(layer, crs).transform([0.0, 0.0], [90.0, -90.0])
    col, row = (np.asarray(x) - to.c) / to.a - window.col, (np.asarray(y) - to.f) / to.e - window.row
    return bool(((col >= 0) & (col <= window.width) & (row >= 0) & (row <= window.height)).any())


def _lonlat(crs: str) -> bool:
    return crs == LONLAT or is_geographic(crs)


def _around(x: NDArray[np.float64], y: NDArray[np.float64]) -> Box:
    """A little more than the points' own box: a window's edge may bulge between two of them."""
    more = 0.02 * max(float(np.ptp(x)), float(np.ptp(y))) + 1e-9
    return float(x.min()) - more, float(y.min()) - more, float(x.max()) + more, float(y.max()) + more


def edge_points(grid: GeoBox, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x, y) of points all over a window, its corners and edges among them, in the grid's CRS."""
    steps = np.linspace(0, 1, _POINTS)
    cols, rows = np.meshgrid(window.col + steps * window.width, window.row + steps * window.height)
    to = grid.transform
    return to.c + to.a * cols.ravel(), to.f + to.e * rows.ravel()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What pyogrio says of a file it cannot read, as a ReadError."""
    from pyogrio.errors import DataLayerError, DataSourceError, GeometryError

    try:
        yield
    except (DataSourceError, DataLayerError, GeometryError, OSError) as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, why: str) -> ReadError:
    return ReadError(
        f"the layer {path.name} cannot be read: {' '.join(why.split())[:200]}",
        code="layer.unreadable",
        hint="correct the files of its card in the folder of layers",
        field="--mask",
    )
