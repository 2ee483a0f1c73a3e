"""Where the frame's pixels lie in a file, to a thousandth of a pixel, and what the file is there.

The same numbers as GDAL's warp with an exact transformer: nearest, bilinear, and Catmull-Rom cubic that falls back to
bilinear beside edges and invalid pixels. Not more than one pixel of the file is looked at per step, so it is not for
files finer than the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic.frame import Frame, named, period, transformer, turned
from swathe.mosaic import BLOCK
from swathe.scene import AssetGrid
from swathe.window import Window

Numbers = NDArray[np.float64]
Weights = Sequence[NDArray[Any]]
_NODES = 9
"""Chebyshev nodes along a block: between two UTM zones they leave less than 1e-6 pixels of error."""
_CHECKS = 5
_EXACT = 1e-3
"""Pixels of a file by which an interpolated place may be wrong; else every place is computed."""


def sought(grid: AssetGrid, frame: Frame, window: Window) -> tuple[Numbers, Numbers]:
    """Row and column in a file of the centre of each pixel of a window; its first pixel's centre is 0.5.

    (h, 1) and (1, w) where the two share a CRS, else (h, w) both; NaN where a place does not exist in the file's CRS.
    The window lies in one anchored block, and a pixel's answer does not depend on which part of it is asked for.
    """
    a, _, c, _, e, f = grid.transform
    crs = named(grid.crs)
    if crs == frame.crs:
        x, y = _centres(frame, window)
        return ((y - f) / e)[:, None], ((x - c) / a)[None]
    block = next(frame.blocks(window))
    x, y = _bent(frame, block, crs, abs(a))
    inner = window.within(block)
    return (y[inner] - f) / e, (x[inner] - c) / a


def _centres(frame: Frame, window: Window) -> tuple[Numbers, Numbers]:
    """Of the columns x, of the rows y."""
    x, y = frame.phase
    cols = np.arange(window.col, window.right, dtype=np.float64)
    rows = np.arange(window.row, window.bottom, dtype=np.float64)
    return (x + cols + 0.5) * frame.res, (y - rows - 0.5) * frame.res


def _bent(frame: Frame, block: Window, crs: str, pixel: float) -> tuple[Numbers, Numbers]:
    """(512, 512) x and y in another CRS of a block's pixel centres."""
    x, y = _centres(frame, block)
    nodes, checks = _nodes(), np.linspace(1, BLOCK - 2, _CHECKS).astype(int)
    left, top = (x[0] + x[-1]) / 2, (y[0] + y[-1]) / 2
    at = _mesh(left + (x[-1] - x[0]) / 2 * nodes, top + (y[-1] - y[0]) / 2 * nodes)
    coarse = _moved(at, frame.crs, crs)
    if all(np.isfinite(v).all() for v in coarse):
        basis = _basis()
        fine = tuple(basis @ v @ basis.T for v in coarse)
        right = _moved(_mesh(x[checks], y[checks]), frame.crs, crs)
        wrong = [np.abs(v[np.ix_(checks, checks)] - w).max() for v, w in zip(fine, right, strict=True)]
        if max(wrong) < _EXACT * pixel:
            return fine[0], fine[1]
    return _moved(_mesh(x, y), frame.crs, crs)


def _mesh(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    cols, rows = np.meshgrid(x, y)
    return cols, rows


def _moved(at: tuple[Numbers, Numbers], source: str, target: str) -> tuple[Numbers, Numbers]:
    """In another CRS; side by side, also across the meridian where that is cut. What does not exist there is NaN."""
    found = transformer(source, target).transform(*at)
    east, north = (np.where(np.isfinite(v), v, np.nan) for v in found)
    if whole := period(target):
        middle = float(east[east.shape[0] // 2, east.shape[1] // 2])
        east = turned(east, middle, whole) if np.isfinite(middle) else east
    return east, north


@cache
def _nodes() -> Numbers:
    return -np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)


@cache
def _basis() -> Numbers:
    """(512, nodes) Lagrange's polynomials at the centres of a block's pixels, which span -1..1."""
    at, nodes = np.linspace(-1, 1, BLOCK), _nodes()
    others = [np.delete(nodes, k) for k in range(_NODES)]
    return np.stack([np.prod((at[:, None] - o) / (nodes[k] - o), axis=1) for k, o in enumerate(others)], axis=1)


def needed(rows: Numbers, cols: Numbers, reach: int, shape: tuple[int, int]) -> Window | None:
    """The pixels of a file of this shape that ``sample`` will look at; None where there are none."""
    inside = _inside(rows, shape[0]) & _inside(cols, shape[1])
    if not inside.any():
        return None
    r, c = (np.broadcast_to(v, inside.shape)[inside] for v in (rows, cols))
    top, left = int(r.min()) - reach, int(c.min()) - reach
    asked = Window(top, left, int(r.max()) + 1 + reach - top, int(c.max()) + 1 + reach - left)
    return asked.intersection(Window(0, 0, *shape))


def _inside(places: Numbers, length: int) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return (places >= 0) & (places < length)


def sample(
    data: NDArray[np.generic], valid: NDArray[np.bool_], rows: Numbers, cols: Numbers, how: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """(n, h, w) numbers and (h, w) validity at places in (n, H, W) pixels, of which invalid ones are 0.

    A place is valid where the pixel that holds it is; its number is made of valid pixels only.
    """
    ok = _inside(rows, valid.shape[0]) & _inside(cols, valid.shape[1])
    out = np.zeros((data.shape[0], *ok.shape), data.dtype)
    if not ok.any():
        return out, ok
    if rows.shape == ok.shape:
        taps: _Lines | _Points = _Points(rows[ok], cols[ok])
        where: tuple[NDArray[np.bool_], ...] | tuple[slice, slice] = (ok,)
    else:
        down, across = _inside(rows[:, 0], valid.shape[0]), _inside(cols[0], valid.shape[1])
        taps = _Lines(rows[down, 0], cols[0, across])
        where = _span(down), _span(across)
    seen = taps.hold(valid)
    found = [taps.hold(band) for band in data] if how == "nearest" else _between(data, valid, taps, how)
    for band, into in zip(found, out, strict=True):
        into[where] = np.where(seen, restored(band, data.dtype), data.dtype.type(0))
    ok[where] = seen
    return out, ok


def _span(found: NDArray[np.bool_]) -> slice:
    at = np.flatnonzero(found)
    return slice(int(at[0]), int(at[-1]) + 1)


class _Points:
    """Places one by one."""

    def __init__(self, rows: Numbers, cols: Numbers) -> None:
        self._held = rows.astype(np.intp), cols.astype(np.intp)
        self.corner = _corner(rows), _corner(cols)
        self.parts = rows - 0.5 - self.corner[0], cols - 0.5 - self.corner[1]

    def hold(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        """The pixels that hold the places."""
        return pixels.ravel().take(self._held[0] * pixels.shape[1] + self._held[1])

    def weigh(self, padded: NDArray[np.generic], down: Weights, across: Weights) -> NDArray[np.floating]:
        """Weighed sum of the pixels around the places, in pixels with a margin of two."""
        first, width = 3 - len(down) // 2, padded.shape[1]
        corner = (self.corner[0] + first) * width + self.corner[1] + first
        total: NDArray[np.floating] = np.zeros_like(down[0])
        for r, y in enumerate(down):
            for c, x in enumerate(across):
                total += y * x * padded.ravel().take(corner + (r * width + c)).astype(total.dtype, copy=False)
        return total


class _Lines:
    """Places where rows and columns cross: summed along columns first, then along rows."""

    def __init__(self, rows: Numbers, cols: Numbers) -> None:
        self._held = rows.astype(np.intp), cols.astype(np.intp)
        self.corner = _corner(rows), _corner(cols)
        self.parts = rows - 0.5 - self.corner[0], cols - 0.5 - self.corner[1]

    def hold(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        """As ``_Points.hold``."""
        return pixels.take(self._held[0], axis=0).take(self._held[1], axis=1)

    def weigh(self, padded: NDArray[np.generic], down: Weights, across: Weights) -> NDArray[np.floating]:
        """As ``_Points.weigh``."""
        first = 3 - len(down) // 2
        pixels = padded.astype(down[0].dtype, copy=False)
        tall: NDArray[np.floating] = np.zeros((len(down[0]), padded.shape[1]), down[0].dtype)
        for k, weight in enumerate(down):
            tall += pixels.take(self.corner[0] + (first + k), axis=0) * weight[:, None]
        total: NDArray[np.floating] = np.zeros((len(down[0]), len(across[0])), tall.dtype)
        for k, weight in enumerate(across):
            total += tall.take(self.corner[1] + (first + k), axis=1) * weight
        return total


def _corner(places: Numbers) -> NDArray[np.intp]:
    return np.floor(places - 0.5).astype(np.intp)


def _between(
    data: NDArray[np.generic], valid: NDArray[np.bool_], taps: _Lines | _Points, how: str
) -> list[NDArray[Any]]:
    """Interpolated numbers at each place. A margin of two invalid pixels spares questions about edges."""
    wide = np.float64 if data.dtype.itemsize > 2 and data.dtype != np.float32 else np.float32  # noqa: PLR2004  bytes
    y, x = (part.astype(wide) for part in taps.parts)
    near = [1 - y, y], [1 - x, x]
    good, bands = np.pad(valid, 2), [np.pad(band, 2) for band in data]
    found: list[NDArray[Any]] = [taps.weigh(band, *near) for band in bands]
    if not valid.all() or _at_edge(taps, valid.shape):
        share = taps.weigh(good, *near)
        share[share == 0] = 1
        found = [band / share for band in found]
    if how == "cubic":
        whole = taps.weigh(good, *([np.ones_like(v)] * 4 for v in (y, x))) == 16  # noqa: PLR2004  pixels
        wider = _catmull_rom(y), _catmull_rom(x)
        found = [np.where(whole, taps.weigh(pixels, *wider), band) for pixels, band in zip(bands, found, strict=True)]
    return found


def _catmull_rom(t: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Keys (1981), a = -1/2."""
    return [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def _at_edge(taps: _Lines | _Points, shape: tuple[int, ...]) -> bool:
    return any(bool(p.min() < 0 or p.max() + 1 >= n) for p, n in zip(taps.corner, shape, strict=True))


def restored(numbers: NDArray[Any], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """As stored, rounded as GDAL rounds; what a cubic overshoots is cut."""
    if dtype.kind == "f" or numbers.dtype == dtype:
        return numbers.astype(dtype, copy=False)
    limits = np.iinfo(dtype.name)
    return np.clip(np.floor(numbers + 0.5), limits.min, limits.max).astype(dtype)
