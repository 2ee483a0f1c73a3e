"""Pixels of one file on the frame: copied where the grids agree, else sampled, or warped by GDAL where it is finer.

What a pixel is made of must not depend on what else is asked for. Copies and samples are made pixel by pixel. GDAL
approximates the way between two CRS along each line of what it is asked for: it is always asked for whole blocks of
the frame, counted from the anchor, from the same window of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject

from pipelines.blocks.source import PixelSource
from pipelines.mosaic.frame import (
    LONLAT,
    Frame,
    cut_behind,
    is_geographic,
    named,
    overrun,
    transformer,
    turns,
    unit_m,
    unrolled,
)
from pipelines.mosaic.sample import needed, restored, sample, sought
from swathe.scene import AssetGrid
from swathe.window import Window

ALIGNED = 0.01
"""Pixels of the frame by which a file's corners may be off and still count as its own: a hundredth of a pixel."""
_REACH = {"nearest": 1, "bilinear": 2, "cubic": 3}
"""Source pixels that a resampling looks beyond its own, and one for the approximation."""
_POINTS = 17
"""Points along each axis of a block, by which its place in a file is found."""
_COARSER = 1.001
FINER = 1.05
"""Files finer than the frame by more than this are not interpolated but averaged, which GDAL does (its own limit)."""
Read = tuple[NDArray[np.generic], NDArray[np.bool_]]
"""(n, h, w) numbers, and (h, w) where they are valid."""


@dataclass(frozen=True, slots=True)
class View:
    """Some bands of one file, and how they are brought onto a frame."""

    source: PixelSource
    """The open file."""
    indexes: tuple[int, ...]
    """Bands, from 1."""
    resampling: str
    """nearest, bilinear or cubic."""
    nodata: float | None
    """Stored number that means nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """The part of a file that a window of the frame needs."""

    level: int
    """0: the file itself; n: its n-th overview."""
    window: Window
    """Of that level."""
    grid: AssetGrid
    """Of that level; of degrees and Mercator moved by whole turns, so that it lies beside the frame's window."""


class _Canvas:
    """A window that is filled piece by piece; what is there first stays."""

    def __init__(self, view: View, window: Window) -> None:
        self.window = window
        self._dtype = view.source.dtype
        self._bands = len(view.indexes)
        self._found: Read | None = None

    def add(self, piece: Window, data: NDArray[np.generic], valid: NDArray[np.bool_]) -> None:
        shared = piece.intersection(self.window)
        if shared is None:
            return
        if self._found is None and piece == self.window:
            self._found = data, valid
            return
        if self._found is None:
            shape = self.window.height, self.window.width
            self._found = np.zeros((self._bands, *shape), self._dtype), np.zeros(shape, bool)
        inner, outer = shared.within(piece), shared.within(self.window)
        fresh = valid[inner] & ~self._found[1][outer]
        for band, into in zip(data, self._found[0], strict=True):
            np.copyto(into[outer], band[inner], where=fresh)
        self._found[1][outer] |= fresh

    def read(self) -> Read | None:
        """What was found; None where nothing was."""
        return self._found


def level_for(source: PixelSource, frame: Frame) -> int:
    """The coarsest level that is no coarser than the frame, in degrees or metres as the two compare."""
    side = _sides(frame, source.grid)[0]
    level = 0
    for n, grid in enumerate(source.overviews, 1):
        if grid.transform[0] <= side * _COARSER:
            level = n
    return level


@lru_cache(maxsize=4096)
def _sides(frame: Frame, grid: AssetGrid) -> tuple[float, float]:
    """Sides of a pixel of the frame in the middle of a file, in the file's units: (shorter, longer).

    Web Mercator shows half a metre as one at 60 degrees north. In the middle of the file and not where it is read, as a
    pixel must not depend on the area. Where both shrink alike, or by little (UTM), they are taken at their word.
    """
    crs = named(grid.crs)
    nominal = frame.res * (unit_m(frame.crs) / unit_m(crs))
    if crs == frame.crs or (is_geographic(crs) and is_geographic(frame.crs)):
        return nominal, nominal
    a, _, c, _, e, f = grid.transform
    middle = c + a * grid.shape[1] / 2, f + e * grid.shape[0] / 2
    shares = frame.shrunk(*transformer(crs, LONLAT).transform(*middle))
    sides = [nominal if abs(share - 1) < FINER - 1 else nominal * share for share in shares]
    return min(sides), max(sides)


def _grid(view: View, level: int) -> AssetGrid:
    return view.source.grid if level == 0 else view.source.overviews[level - 1]


def ratio(grid: AssetGrid, frame: Frame) -> float:
    """Pixels of the file along the longer side of one of the frame."""
    return _sides(frame, grid)[1] / grid.transform[0]


def read_onto(view: View, frame: Frame, window: Window) -> Read | None:
    """(n, h, w) in the file's type and (h, w) validity of a window of the frame; None where the file has nothing.

    A pixel is valid where the source pixel that holds its centre is; numbers are made of valid ones only. Invalid
    ones are 0. Raises ReadError.
    """
    level = level_for(view.source, frame)
    if view.resampling != "nearest" and ratio(_grid(view, level), frame) > FINER:
        return _warped(view, frame, window, level)
    canvas, own = _Canvas(view, window), _grid(view, level)
    whole = Window(0, 0, *own.shape)
    if named(own.crs) != frame.crs:
        _sampled(view, Place(level, whole, own), frame, canvas)
        return canvas.read()
    for _, grid in _windows(own, frame, window, _REACH[view.resampling]):
        place = Place(level, whole, grid)
        if (shift := offset(grid, frame)) is not None:
            _copy(view, place, shift, canvas)
        elif view.resampling == "nearest" and (nest := nesting(grid, frame)) is not None:
            _repeat(view, place, nest, canvas)
        else:
            _sampled(view, place, frame, canvas)
    return canvas.read()


def prefetch(view: View, frame: Frame, window: Window) -> None:
    """Begin to fetch what ``read_onto`` will need; does not wait."""
    for place in places(view, frame, window):
        view.source.prefetch(place.window, place.level)


def places(view: View, frame: Frame, window: Window) -> Iterator[Place]:
    """What of the file a window of the frame needs, or a little more."""
    level = level_for(view.source, frame)
    if view.resampling != "nearest" and ratio(_grid(view, level), frame) > FINER:
        for block in frame.blocks(window):
            yield from _under(view, frame, block, level)
        return
    whole = Window(0, 0, *_grid(view, level).shape)
    for found, grid in _windows(_grid(view, level), frame, window, _REACH[view.resampling]):
        nest = nesting(grid, frame)
        exact = nest is not None and (nest[0] == 1 or view.resampling == "nearest")
        part = _coarse(window, nest).intersection(whole) if exact and nest is not None else found
        if part is not None:
            yield Place(level, part, grid)


def covers(grid: AssetGrid, frame: Frame, window: Window) -> bool:
    """Whether a file on this grid may have pixels in a window of the frame."""
    return any(_windows(grid, frame, window, 2.0))


# --- grids that agree -----------------------------------------------------------------------------------------------


def offset(grid: AssetGrid, frame: Frame) -> tuple[int, int] | None:
    """(row, col) of a file's first pixel on the frame, where its pixels are the frame's own; else None."""
    nest = nesting(grid, frame)
    return None if nest is None or nest[0] != 1 else nest[1:]


def nesting(grid: AssetGrid, frame: Frame) -> tuple[int, int, int] | None:
    """(factor, row, col): a file's pixels are ``factor`` of the frame's wide, its first begins there; else None."""
    a, _, c, _, e, f = grid.transform
    factor = round(a / frame.res)
    if factor < 1 or named(grid.crs) != frame.crs:
        return None
    row, col = frame.pixels(c, f)
    bottom, right = frame.pixels(c + a * grid.shape[1], f + e * grid.shape[0])
    drift = max(abs(right - col - factor * grid.shape[1]), abs(bottom - row - factor * grid.shape[0]))
    if max(drift, abs(row - round(row)), abs(col - round(col))) > ALIGNED:
        return None
    return factor, round(row), round(col)


def _copy(view: View, place: Place, shift: tuple[int, int], canvas: _Canvas) -> None:
    inner = canvas.window.shifted(-shift[0], -shift[1]).intersection(place.window)
    if inner is not None:
        canvas.add(inner.shifted(*shift), *stored(view, inner, place.level))


def _coarse(window: Window, nest: tuple[int, int, int]) -> Window:
    """The file's pixels under a window of the frame."""
    factor, row, col = nest
    top, left = (window.row - row) // factor, (window.col - col) // factor
    bottom, right = -((row - window.bottom) // factor), -((col - window.right) // factor)
    return Window(top, left, bottom - top, right - left)


def _repeat(view: View, place: Place, nest: tuple[int, int, int], canvas: _Canvas) -> None:
    """Nearest, where each pixel of the file covers whole pixels of the frame: no arithmetic, so none can differ."""
    factor, row, col = nest
    inner = _coarse(canvas.window, nest).intersection(place.window)
    if inner is None:
        return
    data, valid = stored(view, inner, place.level)
    fine = Window(inner.row * factor + row, inner.col * factor + col, inner.height * factor, inner.width * factor)
    shared = fine.intersection(canvas.window)
    if shared is not None:
        rows = (np.arange(shared.row, shared.bottom) - fine.row) // factor
        cols = (np.arange(shared.col, shared.right) - fine.col) // factor
        tall = data.take(cols, axis=2), valid.take(cols, axis=1)
        canvas.add(shared, tall[0].take(rows, axis=1), tall[1].take(rows, axis=0))


def stored(view: View, window: Window, level: int) -> Read:
    """(n, h, w) as stored, invalid numbers as 0, and (h, w) True where all bands are valid; not to be written to."""
    data = view.source.read(view.indexes, window, level)
    valid = np.ones(data.shape[1:], bool)
    own = view.source.valid(window, level)
    if own is not None:
        valid &= own
    nothing = _as(view.nodata, data.dtype)
    for band in data:
        if data.dtype.kind == "f":
            valid &= np.isfinite(band)
        if nothing is not None:
            valid &= band != nothing
    if not valid.all():
        data = data * valid if data.dtype.kind in "iu" else np.where(valid, data, data.dtype.type(0))
    return data, valid


def _as(number: float | None, dtype: np.dtype[np.generic]) -> float | np.generic | None:
    """In the stored type: -3.4e38 written as text is another number than float32's. None: no pixel is that."""
    if number is None or not math.isfinite(number):
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        return dtype.type(int(number)) if number == int(number) and limits.min <= number <= limits.max else None
    if dtype.kind != "f" or abs(number) > float(np.finfo(dtype.name).max):
        return number
    return dtype.type(number)


# --- grids that differ ----------------------------------------------------------------------------------------------


def _sampled(view: View, place: Place, frame: Frame, canvas: _Canvas) -> None:
    # In one CRS rows and columns are sought apart, and exactly: there is nothing that a block would have to hold. The
    # place is beside the window then. Else it is looked for in each turn, whichever one a block is counted in.
    alike = named(place.grid.crs) == frame.crs
    for block in [canvas.window] if alike else frame.blocks(canvas.window):
        piece = block.intersection(canvas.window)
        if piece is None or not covers(place.grid, frame, piece):
            continue
        rows, first = sought(place.grid, frame, piece)
        for turn in (0.0,) if alike else turns(named(place.grid.crs)):
            cols = first - turn / place.grid.transform[0]
            part = needed(rows, cols, _REACH[view.resampling], place.grid.shape)
            if part is not None:
                data, valid = stored(view, part, place.level)
                canvas.add(piece, *sample(data, valid, rows - part.row, cols - part.col, view.resampling))


def _warped(view: View, frame: Frame, window: Window, level: int) -> Read | None:
    canvas = _Canvas(view, window)
    for block in frame.blocks(window):
        for place in _under(view, frame, block, level):
            canvas.add(block, *_warp(view, frame, block, place))
    return canvas.read()


def _warp(view: View, frame: Frame, block: Window, place: Place) -> Read:
    """One block, whole."""
    data, valid = stored(view, place.window, place.level)
    ways: dict[str, Any] = {
        "src_transform": _cut(place.grid, place.window),
        "src_crs": _rasterio_crs(_running_on(place.grid, frame, block)),
        "dst_transform": Affine(*frame.transform(block)),
        "dst_crs": _rasterio_crs(frame.crs),
        "num_threads": 1,
    }
    seen = np.zeros((block.height, block.width), np.uint8)
    reproject(valid.view(np.uint8), seen, resampling=Resampling.nearest, **ways)
    mask = seen.astype(bool)
    out = _resampled(data, valid, (block.height, block.width), view.resampling, ways)
    out[:, ~mask] = 0
    return out, mask


def _resampled(
    data: NDArray[np.generic], valid: NDArray[np.bool_], shape: tuple[int, int], how: str, ways: dict[str, Any]
) -> NDArray[np.generic]:
    """Interpolated in floating point, with NaN for what is invalid, so that it bleeds nowhere; then as stored again."""
    dtype = data.dtype
    wide = np.float64 if dtype.itemsize > 2 and dtype != np.float32 else np.float32  # noqa: PLR2004  bytes
    work = data.astype(wide)
    holes: dict[str, Any] = {}
    if not valid.all():
        work[:, ~valid] = np.nan
        holes = {"src_nodata": np.nan, "UNIFIED_SRC_NODATA": "NO"}
    out = np.full((data.shape[0], *shape), np.nan, wide)
    reproject(work, out, dst_nodata=np.nan, resampling=Resampling[how], **holes, **ways)
    return restored(np.nan_to_num(out, copy=False, nan=0.0), dtype)


def _running_on(grid: AssetGrid, frame: Frame, block: Window) -> str:
    """The CRS of a file, so that its x do not jump within a block; of longitudes GDAL sees to that itself."""
    crs = named(grid.crs)
    end = 0 if is_geographic(crs) else overrun(_points(grid, frame, block)[0], crs)
    return cut_behind(crs, end) if end else crs


@cache
def _rasterio_crs(crs: str) -> CRS:
    return CRS.from_user_input(crs)


def _cut(grid: AssetGrid, window: Window) -> Affine:
    a, b, c, d, e, f = grid.transform
    return Affine(a, b, c + window.col * a, d, e, f + window.row * e)


# --- where a block lies in a file -----------------------------------------------------------------------------------


def _under(view: View, frame: Frame, block: Window, level: int) -> Iterator[Place]:
    grid = _grid(view, level)
    for window, moved in _windows(grid, frame, block, _REACH[view.resampling] * max(1.0, ratio(grid, frame)) + 1):
        yield Place(level, window, moved)


def _windows(grid: AssetGrid, frame: Frame, window: Window, reach: float) -> Iterator[tuple[Window, AssetGrid]]:
    """The file's pixels under a window of the frame, with ``reach`` around; once per turn it lies at."""
    x, y = _points(grid, frame, window)
    if not len(x):
        return
    a, b, c, d, e, f = grid.transform
    for turn in turns(named(grid.crs)):
        west = c + turn
        cols, rows = (x - west) / a, (y - f) / e
        top, left = math.floor(rows.min() - reach), math.floor(cols.min() - reach)
        bottom, right = math.ceil(rows.max() + reach), math.ceil(cols.max() + reach)
        inner = Window(top, left, bottom - top, right - left).intersection(Window(0, 0, *grid.shape))
        if inner is not None:
            yield inner, AssetGrid(grid.crs, (a, b, west, d, e, f), grid.shape)


def _points(grid: AssetGrid, frame: Frame, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places all over a window of the frame, in the file's CRS; those that have none there are left out."""
    a, _, c, _, e, f = frame.transform(window)
    crs = named(grid.crs)
    if crs == frame.crs:  # two corners tell all
        return np.array([c, c + a * window.width]), np.array([f, f + e * window.height])
    steps = np.linspace(0, 1, _POINTS)
    cols, rows = np.meshgrid(steps * window.width, steps * window.height)
    x, y = c + a * cols.ravel(), f + e * rows.ravel()
    x, y = transformer(frame.crs, crs).transform(x, y)
    return unrolled(np.asarray(x), np.asarray(y), crs)
