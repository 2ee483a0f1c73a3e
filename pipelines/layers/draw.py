"""A layer in a frame: its pixels, warped by GDAL from the overview that fits, as indices into a palette of its colours.

Classes are taken as they are (nearest); numbers are interpolated (bilinear), but where masks are written into them:
a mean of a height and the code of a cloud is nothing. What means nothing is transparent.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from pipelines.layers.frame import overlaps, pixels_of, place
from pipelines.products.picture import ramp
from swathe.errors import ReadError
from swathe.layer import Layer, Look, Style

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from pipelines.layers.files import Files, RasterFile
    from pipelines.layers.frame import Frame

_STEPS = 255
"""Colours of a ramp; index 0 is transparent."""
_WARP_MB = 64
_TOLERANCE = 1e-3
"""Pixels that GDAL's approximated transform may be off: neighbours in a tile and at its edge are the right ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Colours of a frame: indices and a palette, or colours themselves."""

    pixels: NDArray[np.uint8]
    """(h, w) indices, or (h, w, 4) red, green, blue, alpha."""
    palette: NDArray[np.uint8] | None
    """(n, 4); its first colour is transparent."""

    @property
    def rgba(self) -> NDArray[np.uint8]:
        """(h, w, 4)."""
        return self.pixels if self.palette is None else self.palette[self.pixels]


def draw(files: Files, file: RasterFile, layer: Layer, frame: Frame) -> Drawn | None:
    """The layer there; None where it has no pixel. Memory: some copies of the frame, and GDAL's caches.

    Raises NotFoundError (``layer.gone``), ReadError.
    """
    parts = overlaps(layer, frame)
    if not parts:
        return None
    with files.opened(file, min(pixels_of(layer, frame, box) for _, box in parts)) as dataset:
        _expect_same(dataset, layer)
        values, valid = _warped(dataset, layer, frame, parts[0][0])
        for turn, _ in parts[1:]:
            more, there = _warped(dataset, layer, frame, turn)
            values, valid = np.where(valid, values, more), valid | there
    return _coloured(values, valid, layer.style) if valid.any() else None


def value_at(files: Files, file: RasterFile, layer: Layer, crs: str, point: tuple[float, float]) -> float | None:
    """The stored number of the pixel under a point (x, y); None: outside, or no data. Raises as ``draw``."""
    found = place(layer, crs, *point)
    if found is None:
        return None
    row, col = found
    with files.opened(file) as dataset:
        _expect_same(dataset, layer)
        window = RasterioWindow(col, row, 1, 1)  # type: ignore[call-arg]
        value = dataset.read(layer.band, window=window, masked=True)[0, 0]
    return None if value is np.ma.masked or not np.isfinite(value) else float(value)


def empty(frame: Frame) -> Drawn:
    """Nothing, transparent."""
    return Drawn(np.zeros((frame.height, frame.width), np.uint8), np.zeros((1, 4), np.uint8))


def _expect_same(dataset: DatasetReader, layer: Layer) -> None:
    """Of a damaged file GDAL leaves out what it cannot read, its place among it."""
    near = dataset.crs is not None and np.allclose(dataset.bounds, layer.bounds, rtol=1e-6, atol=1e-9)
    if not near or dataset.count < layer.band:
        raise ReadError(f"{layer.file} is not what its item says", code="read.corrupt")


def _warped(dataset: DatasetReader, layer: Layer, frame: Frame, turn: float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """((h, w) or (3, h, w) stored numbers, (h, w) where they mean something) of the layer, its x moved by a turn."""
    way = Resampling.bilinear if layer.style.smooth else Resampling.nearest
    bands: Any = layer.band if layer.style.look is not Look.PICTURE else [1, 2, 3]
    nodata = dataset.nodata
    how: dict[str, Any] = {"add_alpha": True} if nodata is None else {"src_nodata": nodata, "nodata": nodata}
    if turn:
        how["src_transform"] = Affine.translation(turn, 0) @ dataset.transform
    with WarpedVRT(
        dataset, crs=frame.crs, transform=frame.transform, width=frame.width, height=frame.height, resampling=way,
        tolerance=_TOLERANCE, warp_mem_limit=_WARP_MB, **how,
    ) as warped:  # fmt: skip
        values = warped.read(bands)
        if nodata is None:
            return values, warped.dataset_mask() != 0
    valid = np.isfinite(values) if np.isnan(nodata) else values != nodata
    return values, valid if valid.ndim == 2 else valid.any(axis=0)  # noqa: PLR2004  a picture is nodata in all bands


def _coloured(values: NDArray[Any], valid: NDArray[np.bool_], style: Style) -> Drawn:
    if style.look is Look.PICTURE:
        alpha = np.where(valid, 255, 0).astype(np.uint8)
        return Drawn(np.dstack([*values.astype(np.uint8), alpha]), None)
    if style.look is Look.CLASSES:
        table = _table(style)
        last = len(table) - 1  # stands for whatever is no class
        indices = table[np.where((values >= 0) & (values < last), values, last).astype(np.int64)]
    else:
        indices = _graded(values, valid, style)
    return Drawn(np.where(valid, indices, 0).astype(np.uint8), palette(style))


def _graded(values: NDArray[Any], valid: NDArray[np.bool_], style: Style) -> NDArray[np.uint8]:
    """Steps of the ramp; behind them codes, which are on it by chance at best."""
    (low, high), steps = style.span, _steps(style)
    share = np.clip((np.where(valid, values, low).astype(np.float32) - low) / (high - low), 0, 1)
    indices = (1 + np.rint(share * (steps - 1))).astype(np.uint8)
    for n, code in enumerate(style.codes, 1):
        indices[values == code.value] = steps + n
    return indices


def _steps(style: Style) -> int:
    return _STEPS - len(style.codes)


@functools.lru_cache(maxsize=128)
def palette(style: Style) -> NDArray[np.uint8]:
    """(n, 4) colours: nothing, then each class in its order, or the ramp and its codes."""
    own = np.array([[*bytes.fromhex(c.colour[1:])] for c in style.labels], np.uint8).reshape(-1, 3)
    colours = own if style.look is Look.CLASSES else np.concatenate([ramp(_steps(style)), own])
    opaque = np.column_stack([colours, np.full(len(colours), 255, np.uint8)])
    return np.concatenate([np.zeros((1, 4), np.uint8), opaque])


@functools.lru_cache(maxsize=128)
def _table(style: Style) -> NDArray[np.uint8]:
    """From a class's value to its index; 0 for values that are no class, the last among them."""
    table = np.zeros(max(c.value for c in style.classes) + 2, np.uint8)
    for index, label in enumerate(style.classes, 1):
        table[label.value] = index
    return table
