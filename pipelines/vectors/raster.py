"""Shapes drawn onto a grid of their own: what a map of them shows, as a raster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import rasterize
from rasterio.transform import Affine, from_origin

from pipelines.sandbox.told import Fault, named
from pipelines.vectors.source import Batch, Layer

_RADIUS = 4
"""Pixels around that of a point which stand for it, too: else nobody would find it."""
_MARGIN = _RADIUS + 1
_LEAST_M, _LEAST_DEGREES = 0.1, 1e-6
"""Side of a pixel at least."""
_WEST, _EAST, _SOUTH, _NORTH = -180.0, 180.0, -90.0, 90.0
_FARTHEST = 360.0
"""Degrees of longitude that anybody counts to."""
_LONLAT = "OGC:CRS84"


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels lie."""

    crs: CRS
    transform: Affine
    shape: tuple[int, int]
    """(rows, cols)."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Around all shapes of a layer."""

    bounds: tuple[float, float, float, float]
    """left, bottom, right, top."""
    dimensions: frozenset[int]
    """0: there are points, 1: lines, 2: polygons."""


def extent_of(layer: Layer, batches: Iterable[Batch], most_vertices: int) -> Extent | None:
    """From the shapes themselves: what a file says of itself may be old. None: it holds no shapes.

    Raises Fault (``no_crs``, ``crs``, ``coordinates``, ``size``).
    """
    boxes: list[NDArray[np.float64]] = []
    dimensions: set[int] = set()
    vertices = 0
    on_earth: Transformer | None = None
    for batch in batches:
        if not len(batch.shapes):
            continue
        on_earth = on_earth or _to_lonlat(layer)
        dimensions.update(int(n) for n in np.unique(batch.dimensions))
        places = shapely.get_coordinates(batch.shapes)
        vertices += len(places)
        if vertices > most_vertices:
            raise Fault("size", f"the layer {named(layer.said)} has more than {most_vertices:,} corners")
        _expect_on_earth(layer, places, on_earth)
        boxes.append(np.array([*places.min(axis=0), *places.max(axis=0)]))
    if not boxes:
        return None
    found = np.array(boxes)
    left, bottom = (float(n) for n in found[:, :2].min(axis=0))
    right, top = (float(n) for n in found[:, 2:].max(axis=0))
    return Extent((left, bottom, right, top), frozenset(dimensions))


def _to_lonlat(layer: Layer) -> Transformer:
    if not layer.crs:
        raise Fault("no_crs", f"the layer {named(layer.said)} does not say its coordinate system")
    try:
        return Transformer.from_crs(layer.crs, _LONLAT, always_xy=True)
    except ProjError:
        raise Fault("crs", f"the coordinate system of the layer {named(layer.said)} is no place on Earth") from None


def _expect_on_earth(layer: Layer, places: NDArray[np.float64], on_earth: Transformer) -> None:
    lon, lat = on_earth.transform(places[:, 0], places[:, 1])
    if not (np.isfinite(lon) & (np.abs(lon) <= _FARTHEST) & (np.abs(lat) <= _NORTH + 1e-9)).all():
        raise Fault("coordinates", f"the layer {named(layer.said)} has coordinates that are no place on Earth")


def grid_of(layer: Layer, extent: Extent, side: int) -> Grid:
    """About ``side`` pixels along the longer edge, in the layer's own coordinate system, with room for points.

    What lies within the world in degrees stays within it. Raises Fault (``crs``, ``coordinates``).
    """
    crs, factor = _crs_of(layer)
    left, bottom, right, top = extent.bounds
    if crs.is_geographic and right - left > _EAST - _WEST:
        raise Fault("coordinates", f"the layer {named(layer.said)} is wider than the world")
    least = _LEAST_DEGREES if crs.is_geographic else _LEAST_M / factor
    pixel = max((right - left) / side, (top - bottom) / side, least)
    margin = _MARGIN * pixel
    box = left - margin, bottom - margin, right + margin, top + margin
    west, south, east, north = _within_world(box, extent.bounds) if crs.is_geographic else box
    rows, cols = (max(1, math.ceil(length / pixel - 1e-6)) for length in (north - south, east - west))
    return Grid(crs, from_origin(west, north, (east - west) / cols, (north - south) / rows), (rows, cols))


def _crs_of(layer: Layer) -> tuple[CRS, float]:
    """As rasters have it, and metres of its unit; of degrees 1."""
    try:
        crs = CRS.from_user_input(layer.crs)
        if crs.is_projected or crs.is_geographic:
            return crs, crs.linear_units_factor[1] if crs.is_projected else 1.0
    except CRSError:
        pass
    raise Fault("crs", f"the coordinate system of the layer {named(layer.said)} is none of a map")


def _within_world(
    box: tuple[float, float, float, float], bounds: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The margin ends where the world does; longitudes that run on beyond it are left to."""
    west, south, east, north = box
    if bounds[0] >= _WEST and bounds[2] <= _EAST:
        west, east = max(west, _WEST), min(east, _EAST)
    return west, max(south, _SOUTH), east, min(north, _NORTH)


def drawn(passes: Callable[[], Iterable[Batch]], grid: Grid, dimensions: Iterable[int]) -> NDArray[np.int32]:
    """(rows, cols): number of the record whose shape is there, from 1; 0: none is.

    ``passes`` begins with the first batch again; ``dimensions``: those that there are. Every pixel that a shape touches
    is its; of several records the last one counts, lines lie over polygons, and points over both.
    """
    image = np.zeros(grid.shape, np.int32)
    for dimension in sorted(dimensions, reverse=True):
        for batch in passes():
            mine = batch.dimensions == dimension
            if mine.any():
                draw = _dot if dimension == 0 else _fill
                draw(batch.shapes[mine], batch.of[mine] + 1, grid, image)
    return image


def _fill(shapes: NDArray[np.object_], values: NDArray[np.int64], grid: Grid, image: NDArray[np.int32]) -> None:
    """Lines and polygons, and whatever pixel they touch."""
    rasterize(zip(shapes, values.tolist(), strict=True), out=image, transform=grid.transform, all_touched=True)


def _dot(shapes: NDArray[np.object_], values: NDArray[np.int64], grid: Grid, image: NDArray[np.int32]) -> None:
    """Discs around points."""
    left, top, width, height = grid.transform.c, grid.transform.f, grid.transform.a, -grid.transform.e
    across, down = (shapely.get_x(shapes) - left) / width, (top - shapely.get_y(shapes)) / height
    rows, cols = np.floor(down).astype(int), np.floor(across).astype(int)
    for row, col in _disc():
        there = (rows + row >= 0) & (rows + row < grid.shape[0]) & (cols + col >= 0) & (cols + col < grid.shape[1])
        image[rows[there] + row, cols[there] + col] = values[there]


def _disc() -> Iterator[tuple[int, int]]:
    around = range(-_RADIUS, _RADIUS + 1)
    yield from ((row, col) for row in around for col in around if row**2 + col**2 <= (_RADIUS + 0.5) ** 2)
