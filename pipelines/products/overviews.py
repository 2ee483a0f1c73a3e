"""Smaller copies of a raster, each half as large as the one before: block by block, nodata left out of account.

GDAL would do the same at a tenth of the speed: most squares of 2 x 2 pixels are all alike or all valid, and those are
settled for a whole block at once; only the others are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from pipelines.products.layer import CLASS_NODATA, RasterSpec, Resampling

Block = NDArray[Any]

_SIDE = 2048
_BYTES = 64 << 20
"""A block that is halved at a time has this side, less where it would take more memory."""


def levels(height: int, width: int, block: int) -> int:
    """How often a raster is halved until it fits into one tile."""
    count = 0
    while max(height, width) > block:
        height, width, count = -(-height // 2), -(-width // 2), count + 1
    return count


def halve_file(source: Path, target: Path, spec: RasterSpec, watch: Callable[[Block], None] | None = None) -> None:
    """Write the next overview of a raster as a file of its own; ``watch`` sees every (bands, H, W) block read."""
    with rasterio.open(source) as file:
        shape = (-(-file.height // 2), -(-file.width // 2))
        with rasterio.open(target, "w", **_profile(spec, shape)) as out:
            for window, block in blocks(file, spec):
                if watch is not None:
                    watch(block)
                half = Window(window.col_off // 2, window.row_off // 2, -(-window.width // 2), -(-window.height // 2))  # pyright: ignore[reportCallIssue]  attrs class
                out.write(np.stack([halved(band, spec.resampling, spec.nodata) for band in block]), window=half)


def blocks(file: rasterio.DatasetReader, spec: RasterSpec) -> Iterator[tuple[Window, Block]]:
    """All (bands, H, W) blocks of a file and where they lie."""
    step = side(spec)
    for row in range(0, file.height, step):
        for col in range(0, file.width, step):
            window = Window(col, row, min(step, file.width - col), min(step, file.height - row))  # pyright: ignore[reportCallIssue]  attrs class
            yield window, file.read(window=window)


def side(spec: RasterSpec) -> int:
    """Pixels of a block that is halved at a time; a multiple of two tiles."""
    pixels = _SIDE
    while pixels > 2 * spec.block and pixels**2 * spec.count * spec.itemsize > _BYTES:
        pixels //= 2
    return pixels


def halved(block: NDArray[Any], resampling: Resampling, nodata: float = CLASS_NODATA) -> NDArray[Any]:
    """Half a (H, W) block in both directions; an odd last row or column stands for itself.

    ``nodata`` of whole numbers; of floating-point ones it is NaN.
    """
    if resampling is Resampling.NEAREST:
        return block[::2, ::2]
    even = np.pad(
        block,
        ((0, block.shape[0] % 2), (0, block.shape[1] % 2)),
        constant_values=np.nan if block.dtype.kind == "f" else int(nodata),
    )
    if resampling is Resampling.MODE:
        return mode(even, int(nodata))
    return mean(even) if even.dtype == np.uint8 else mean_of_floats(even)


def mode(block: NDArray[Any], nodata: int = CLASS_NODATA) -> NDArray[Any]:
    """(H, W) -> (H/2, W/2): the most frequent valid value, the first in reading order where several are.

    ``block``: of one or two bytes a pixel.
    """
    bits = 8 * block.itemsize
    narrow = np.dtype(f"<u{block.itemsize}")
    upper, lower = _pairs(block)
    half = upper.astype(narrow)  # the left pixel of each pair
    mixed = np.flatnonzero((upper != lower) | ((upper >> bits) != half))
    a, b, c, d = _corners(upper, lower, mixed, bits)
    none = np.array(nodata, block.dtype).view(narrow)
    a_wins = (a != none) & ((a == b) | (a == c) | (a == d))
    b_wins = (b != none) & ((b == c) | (b == d))
    c_wins = (c != none) & (c == d)
    first = np.where(a != none, a, np.where(b != none, b, np.where(c != none, c, d)))
    half.ravel()[mixed] = np.select([a_wins, b_wins, c_wins], [a, b, c], first)
    return half.view(block.dtype)


def mean(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) -> (H/2, W/2): the mean of the valid values, halves rounded up."""
    upper, lower = _pairs(block)
    total = (upper & 255) + (upper >> 8) + (lower & 255) + (lower >> 8)
    half = ((total + 2) >> 2).astype(np.uint8)
    absent = (block == CLASS_NODATA).view(np.uint16)
    some = np.flatnonzero(absent[::2] | absent[1::2])
    four = np.stack(_corners(upper, lower, some))
    valid = four != CLASS_NODATA
    count, rest = valid.sum(axis=0), np.where(valid, four, 0).sum(axis=0, dtype=np.int64)
    half.ravel()[some] = np.where(count > 0, (2 * rest + count) // np.maximum(2 * count, 1), CLASS_NODATA)
    return half


def mean_of_floats(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) -> (H/2, W/2): the mean of the values that are numbers."""
    four = np.stack([block[::2, ::2], block[::2, 1::2], block[1::2, ::2], block[1::2, 1::2]])
    half = four.mean(axis=0, dtype=np.float32)
    some = np.flatnonzero(np.isnan(half))
    rest = four.reshape(4, -1)[:, some]
    valid = ~np.isnan(rest)
    count, total = valid.sum(axis=0), np.where(valid, rest, 0).sum(axis=0, dtype=np.float64)
    half.ravel()[some] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return half


def _pairs(block: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Upper and lower rows, two neighbours as one little-endian number."""
    pairs = np.ascontiguousarray(block).view(f"<u{2 * block.itemsize}")
    return np.ascontiguousarray(pairs[::2]), np.ascontiguousarray(pairs[1::2])


def _corners(upper: NDArray[Any], lower: NDArray[Any], at: NDArray[np.intp], bits: int = 8) -> tuple[NDArray[Any], ...]:
    """The four pixels of some squares, in reading order; ``bits`` of each."""
    over, under = upper.ravel()[at], lower.ravel()[at]
    low, narrow = (1 << bits) - 1, np.dtype(f"<u{bits // 8}")
    return tuple(p.astype(narrow) for p in (over & low, over >> bits, under & low, under >> bits))


def _profile(spec: RasterSpec, shape: tuple[int, int]) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": shape[0],
        "width": shape[1],
        "count": spec.count,
        "dtype": spec.dtype,
        "nodata": spec.nodata,
        "tiled": True,
        "blockxsize": spec.block,
        "blockysize": spec.block,
        "compress": "ZSTD",
        "zstd_level": 1,
        "interleave": "pixel",
        "bigtiff": "IF_SAFER",
        "crs": None,
        "transform": rasterio.Affine.translation(1, 1),  # any; without one rasterio warns
    }
