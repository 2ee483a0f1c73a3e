"""The program in the sandbox: a NetCDF file becomes GeoTIFFs, one for each variable and moment.

``main(["/in/file.nc", BOUNDS])`` with the bounds as JSON writes ``1.tif``, ``2.tif``, … and ``told.json`` into the
folder in which it starts. ``told.json`` is written last: ``images``, or ``fault`` with a code and a detail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from pipelines.netcdf.axes import Axes, gridded
from pipelines.netcdf.grid import Grid, grid_of
from pipelines.netcdf.moments import moments_of
from pipelines.netcdf.numbers import Numbers, numbers_of
from pipelines.netcdf.variables import NetCDF, opened
from pipelines.sandbox.told import Fault, asked, named, tell

MB = 1_000_000
_BLOCK, _LEAST = 512, 64
_STRIP_MB = 256
_KEPT = ("long_name", "standard_name", "units", "cell_methods")
"""Attributes that are tags of the GeoTIFF."""
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Most:
    """How much is too much."""

    images: int
    """Variables times moments."""
    bands: int
    """Of one image."""
    side: int
    """Rows or columns."""
    total_mb: float
    """All images, before they are compressed."""


@dataclass(frozen=True, slots=True)
class Made:
    """An image, as it is told."""

    file: str
    """Its name."""
    variable: str
    """What it shows."""
    when: str
    """RFC 3339; empty: the file does not say it."""
    step: int
    """Number of the moment, from 1; 0: there is only one."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A variable that can be made into images."""

    axes: Axes
    grid: Grid
    numbers: Numbers
    moments: list[str]

    @property
    def bytes(self) -> int:
        rows, cols = self.axes.shape
        return rows * cols * self.axes.bands * self.axes.steps * np.dtype(self.numbers.dtype).itemsize


def main(arguments: Sequence[str]) -> None:
    """Convert, and tell what came of it."""
    tell(lambda: converted(Path(arguments[0]), asked(Most, arguments[1])))


def converted(path: Path, most: Most) -> list[Made]:
    """Images in the folder of now. Raises Fault, and what the libraries raise over a damaged file."""
    with opened(path) as file:
        found = _wanted(file)
        _check(found, most)
        made: list[Made] = []
        for one in found:
            for step in range(one.axes.steps):
                name = f"{len(made) + 1}.tif"
                _write(Path(name), one, step)
                made.append(Made(name, one.axes.variable.name, one.moments[step] if one.moments else "",
                                 step + 1 if one.axes.steps > 1 else 0))  # fmt: skip
    return made


def _wanted(file: NetCDF) -> list[_Wanted]:
    """Variables that can be had; the fault of the first one where there are none."""
    found: list[_Wanted] = []
    faults: list[Fault] = []
    for axes in gridded(file):
        try:
            moments = moments_of(axes.moments) if axes.moments is not None else []
            found.append(_Wanted(axes, grid_of(file, axes), numbers_of(axes.variable), moments))
        except Fault as fault:
            faults.append(fault)
    if not found:
        raise faults[0]
    return found


def _check(found: Sequence[_Wanted], most: Most) -> None:
    """Before a pixel is read. Raises Fault (``size``, ``images``, ``bands``)."""
    for one in found:
        rows, cols = one.axes.shape
        name = named(one.axes.variable.name)
        if max(rows, cols) > most.side or _rows_at_once(one) < _LEAST:
            raise Fault("size", f"the variable {name} has {cols:,} x {rows:,} pixels")
        if not min(rows, cols, one.axes.steps, one.axes.bands):
            raise Fault("variables", f"the variable {name} has no pixels")
        if one.axes.bands > most.bands:
            raise Fault("bands", f"the variable {name} has {one.axes.bands:,} layers of each moment, "
                        f"{most.bands:,} are taken")  # fmt: skip
    images = sum(one.axes.steps for one in found)
    if images > most.images:
        steps = max(one.axes.steps for one in found)
        raise Fault("images", f"{len(found):,} variables and up to {steps:,} moments make {images:,} images, "
                    f"{most.images:,} are taken")  # fmt: skip
    total = sum(one.bytes for one in found)
    if total > most.total_mb * MB:
        raise Fault("size", f"the file holds {total / MB:,.0f} MB of numbers, {most.total_mb:,.0f} MB are taken")


# --- writing ----------------------------------------------------------------------------------------------------------


def _rows_at_once(one: _Wanted) -> int:
    """As many as a block has, or fewer where rows are long."""
    wide = one.axes.shape[1] * 8
    rows = _BLOCK
    while rows >= _LEAST and rows * wide > _STRIP_MB << 20:
        rows //= 2
    return rows


def _write(path: Path, one: _Wanted, step: int) -> None:
    rows, cols = one.axes.shape
    high = min(_rows_at_once(one), 16 * math.ceil(max(rows, cols) / 16))
    dtype = np.dtype(one.numbers.dtype)
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=one.axes.bands, dtype=dtype.name, crs=one.grid.crs,
        transform=Affine(*one.grid.transform), nodata=one.numbers.nodata, tiled=True, blockxsize=high, blockysize=high,
        compress="deflate", zlevel=4, predictor=3 if dtype.kind == "f" else 2, interleave="band",
        bigtiff="if_safer", photometric="minisblack", alpha="no",
    ) as image:  # fmt: skip
        for band, fixed in enumerate(_places(one.axes, step), 1):
            for top in range(0, rows, high):
                strip = one.numbers.written(_strip(one, fixed, top, min(top + high, rows)))
                image.write(strip, band, window=Window(0, top, cols, len(strip)))  # type: ignore[call-arg]
            image.set_band_description(band, one.axes.variable.name[:_LONGEST])
        image.scales = [one.numbers.scale] * one.axes.bands
        image.offsets = [one.numbers.offset] * one.axes.bands
        image.update_tags(**_tags(one, step))


def _places(axes: Axes, step: int) -> Iterator[dict[int, int]]:
    """Of each band the places along all dimensions that are neither rows nor columns."""
    time = {} if axes.time is None else {axes.time: step}
    for at in np.ndindex(*(axes.variable.shape[n] for n in axes.others)):
        yield time | dict(zip(axes.others, at, strict=True))


def _strip(one: _Wanted, fixed: dict[int, int], top: int, bottom: int) -> NDArray[Any]:
    """Rows of the image, north-up, as stored."""
    axes, grid, height = one.axes, one.grid, one.axes.shape[0]
    rows = slice(height - bottom, height - top) if grid.upside_down else slice(top, bottom)
    index = tuple(fixed.get(n, rows if n == axes.rows else slice(None)) for n in range(len(axes.variable.dims)))
    data = axes.variable.read(index)
    if axes.cols < axes.rows:
        data = data.T
    if grid.upside_down:
        data = data[::-1]
    if grid.mirrored:
        data = data[:, ::-1]
    return np.ascontiguousarray(np.roll(data, -grid.roll, axis=1) if grid.roll else data)


def _tags(one: _Wanted, step: int) -> dict[str, str]:
    said = {name: one.axes.variable.text(name)[:_LONGEST] for name in _KEPT}
    when = one.moments[step] if one.moments else ""
    stamp = when.replace("-", ":").replace("T", " ").rstrip("Z")
    return {name: text for name, text in {**said, "TIFFTAG_DATETIME": stamp}.items() if text}
