"""Numbers of a file at the centres of a grid's pixels: those of the pixels that hold them, whatever the two CRS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pipelines.mosaic.frame import named, period, transformer, turned
from pipelines.mosaic.sample import needed, sample
from pipelines.mosaic.warp import Read, View, stored
from swathe.scene import AssetGrid
from swathe.window import Window

Numbers = NDArray[np.float64]
_PIXELS = 1 << 24
"""Of a file that are looked at in one go; a window that needs more is cut."""


def read_at(view: View, grid: GeoBox, window: Window) -> Read:
    """(n, h, w) numbers and (h, w) validity at a window of a grid, which it may overhang. Raises ReadError."""
    level = _level(view, grid, window)
    place = _grids(view)[level]
    rows, cols = _places(place, grid, window)
    part = needed(rows, cols, 0, place.shape)
    shape = window.height, window.width
    if part is None:
        return np.zeros((len(view.indexes), *shape), view.source.dtype), np.zeros(shape, bool)
    if part.area > _PIXELS and window.area > 1:
        return _quartered(view, grid, window)
    data, valid = stored(view, part, level)
    return sample(data, valid, rows - part.row, cols - part.col, "nearest")


def _quartered(view: View, grid: GeoBox, window: Window) -> Read:
    data = np.zeros((len(view.indexes), window.height, window.width), view.source.dtype)
    valid = np.zeros(data.shape[1:], bool)
    for part in window.split(-(-max(window.height, window.width) // 2)):
        inner = part.within(window)
        data[:, *inner], valid[inner] = read_at(view, grid, part)
    return data, valid


def _grids(view: View) -> tuple[AssetGrid, ...]:
    return (view.source.grid, *view.source.overviews)


def _level(view: View, grid: GeoBox, window: Window) -> int:
    """The coarsest level whose pixels are no larger than the grid's, in the middle of the window."""
    grids = _grids(view)
    middle = Window(window.row + window.height // 2, window.col + window.width // 2, 2, 2)
    rows, cols = _places(grids[0], grid, middle)
    step = float(np.hypot(rows[0, 1] - rows[0, 0], cols[0, 1] - cols[0, 0]))
    fits = [n for n, found in enumerate(grids) if grids[0].shape[1] <= found.shape[1] * step * 1.001]
    return max(fits, default=0) if np.isfinite(step) else 0


def _places(place: AssetGrid, grid: GeoBox, window: Window) -> tuple[Numbers, Numbers]:
    """(h, w) row and column in a file of each pixel's centre; NaN where there is none."""
    assert grid.crs is not None
    crs, own = named(place.crs), named(str(grid.crs))
    cols, rows = np.meshgrid(np.arange(window.col, window.right) + 0.5, np.arange(window.row, window.bottom) + 0.5)
    to = grid.transform
    x, y = to.c + to.a * cols, to.f + to.e * rows
    if crs != own:
        x, y = transformer(own, crs).transform(x, y)
    a, _, c, _, e, f = place.transform
    x, y = (np.where(np.isfinite(v), v, np.nan) for v in (x, y))
    if whole := period(crs):
        x = turned(x, c + a * place.shape[1] / 2, whole)
    return (y - f) / e, (x - c) / a
