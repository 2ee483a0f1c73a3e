"""Where the frame's pixels lie in a file, to a thousandth of a pixel, and what the file is there.

The same numbers as GDAL's warp with an exact transformer: nearest, bilinear, and Catmull-Rom cubic that falls back to
bilinear beside edges and invalid pixels. Not more than one pixel of the file is looked at per step, so it is not for
files finer than the frame.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic.frame import Frame, is_geographic, named, transformer, turned
from swathe.mosaic import BLOCK
from swathe.scene import AssetGrid
from swathe.window import Window

Numbers = NDArray[np.float64]
_NODES = 9
"""Chebyshev nodes along a block: between two UTM zones they leave less than 1e-6 pixels of error."""
_CHECKS = 5
_EXACT = 1e-3
"""Pixels of a file by which an interpolated place may be wrong; else every place is computed."""


def sought(grid: AssetGrid, frame: Frame, window: Window) -> tuple[Numbers, Numbers]:
    """(h, w) row and column in a file of the centre of each pixel of a window; its first pixel's centre is 0.5.

    The window lies in one anchored block, and a pixel's answer does not depend on which part of it is asked for. NaN
    where a place does not exist in the file's CRS.
    """
    a, _, c, _, e, f = grid.transform
    crs = named(grid.crs)
    if crs == frame.crs:
        x, y = _centres(frame, window)
        cols, rows = (x - c) / a, (y - f) / e
        shape = (window.height, window.width)
        return np.broadcast_to(rows[:, None], shape), np.broadcast_to(cols[None], shape)
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
    """In another CRS; longitudes side by side, also across 180. What does not exist there is NaN."""
    found = transformer(source, target).transform(*at)
    east, north = (np.where(np.isfinite(v), v, np.nan) for v in found)
    if is_geographic(target):
        middle = float(east[east.shape[0] // 2, east.shape[1] // 2])
        east = turned(east, middle) if np.isfinite(middle) else east
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
    with np.errstate(invalid="ignore"):
        inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    if not inside.any():
        return None
    r, c = rows[inside], cols[inside]
    top, left = int(r.min()) - reach, int(c.min()) - reach
    asked = Window(top, left, int(r.max()) + 1 + reach - top, int(c.max()) + 1 + reach - left)
    return asked.intersection(Window(0, 0, *shape))


def sample(
    data: NDArray[np.generic], valid: NDArray[np.bool_], rows: Numbers, cols: Numbers, how: str
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """(n, h, w) numbers and (h, w) validity at places in (n, H, W) pixels, of which invalid ones are 0.

    A place is valid where the pixel that holds it is; its number is made of valid pixels only.
    """
    height, width = valid.shape
    with np.errstate(invalid="ignore"):
        row, col = np.floor(rows), np.floor(cols)
        ok = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    at = row[ok].astype(np.intp) * width + col[ok].astype(np.intp)
    seen = valid.ravel()[at]
    ok[ok] = seen
    out = np.zeros((data.shape[0], *ok.shape), data.dtype)
    if how == "nearest":
        at = at[seen]
        for band, into in zip(data, out, strict=True):
            into[ok] = band.ravel()[at]
    elif seen.any():
        wide = np.float64 if data.dtype.itemsize > 2 and data.dtype != np.float32 else np.float32  # noqa: PLR2004  bytes
        for band, into in zip(_between(data, valid, (rows[ok], cols[ok]), how, wide), out, strict=True):
            into[ok] = restored(band, data.dtype)
    return out, ok


def _between(
    data: NDArray[np.generic], valid: NDArray[np.bool_], at: tuple[Numbers, Numbers], how: str, wide: type
) -> list[NDArray[np.floating]]:
    """(n, k) interpolated numbers at k places. A margin of two invalid pixels spares questions about edges."""
    places = [np.floor(v - 0.5).astype(np.intp) for v in at]
    parts = [(v - 0.5 - p).astype(wide) for v, p in zip(at, places, strict=True)]
    good = np.pad(valid, 2)
    width = good.shape[1]
    origin = (places[0] + 2) * width + places[1] + 2
    bands = [np.pad(band, 2).ravel() for band in data]
    near = _weighed([1 - parts[0], parts[0]], [1 - parts[1], parts[1]], origin, width)
    share = _gathered(good.ravel(), near) if not valid.all() or _at_edge(places, valid.shape) else None
    found: list[NDArray[np.floating]] = [_gathered(band, near) for band in bands]
    if share is not None:
        found = [np.divide(band, share, out=band) for band in found]
    return found if how == "bilinear" else _cubic(found, bands, good, (origin, parts))


def _cubic(
    bilinear: list[NDArray[np.floating]],
    bands: list[NDArray[np.generic]],
    good: NDArray[np.bool_],
    place: tuple[NDArray[np.intp], list[NDArray[np.floating]]],
) -> list[NDArray[np.floating]]:
    """Catmull-Rom where all sixteen pixels are valid, bilinear elsewhere."""
    origin, parts = place
    width = good.shape[1]
    corner = origin - width - 1
    whole = np.logical_and.reduce([good.ravel()[corner + r * width + c] for r in range(4) for c in range(4)])
    weights = [_catmull_rom(p[whole]) for p in parts]
    around = _weighed(weights[0], weights[1], corner[whole], width)
    for band, into in zip(bands, bilinear, strict=True):
        into[whole] = _gathered(band, around)
    return bilinear


def _catmull_rom(t: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Keys (1981), a = -1/2."""
    return [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def _weighed(
    down: list[NDArray[np.floating]], across: list[NDArray[np.floating]], corner: NDArray[np.intp], width: int
) -> list[tuple[NDArray[np.intp], NDArray[np.floating]]]:
    return [(corner + r * width + c, y * x) for r, y in enumerate(down) for c, x in enumerate(across)]


def _gathered(
    pixels: NDArray[np.generic], near: list[tuple[NDArray[np.intp], NDArray[np.floating]]]
) -> NDArray[np.floating]:
    total: NDArray[np.floating] = np.zeros_like(near[0][1])
    for at, weight in near:
        total += weight * pixels.take(at).astype(weight.dtype, copy=False)
    return total


def _at_edge(places: list[NDArray[np.intp]], shape: tuple[int, ...]) -> bool:
    return any(bool(p.min() < 0 or p.max() + 1 >= n) for p, n in zip(places, shape, strict=True))


def restored(numbers: NDArray[np.floating], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """As stored, rounded as GDAL rounds; what a cubic overshoots is cut."""
    if dtype.kind == "f":
        return numbers.astype(dtype, copy=False)
    limits = np.iinfo(dtype.name)
    return np.clip(np.floor(numbers + 0.5), limits.min, limits.max).astype(dtype)
