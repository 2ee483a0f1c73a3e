"""The map part of a preview: pixels of a result, read small, as colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec
from pipelines.products.quantise import Stored
from swathe.card import ClassLabel

Rgba = NDArray[np.uint8]

_VIRIDIS = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip
_OVERLAY = 178
"""Opacity of classes over a background, of 255."""
_SAMPLE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Colours, and what numbers they stand for."""

    rgba: Rgba
    """(h, w, 4); transparent where nothing is drawn."""
    valid: NDArray[np.bool_]
    """(h, w) True where there is a result, drawn or not."""
    span: tuple[float, float] | None = None
    """Of values: the numbers at the two ends of the colour ramp."""


def picture(cog: Path, layer: LayerSpec, side: int, aspect: float, *, overlay: bool = False) -> Picture:
    """Read a result from its overviews and colour it.

    side: pixels of the longer side, at most. aspect: ground width of a pixel / its ground height. overlay: what is
    laid over a background is half transparent, and the background class wholly.
    """
    with rasterio.open(cog) as file:
        shape = size(file.height, file.width, side, aspect)
        way = _way(file, shape, layer.kind)
        if layer.kind is Kind.CLASSES:
            values = file.read(1, out_shape=shape, resampling=way)
            return Picture(_classes(values, layer, overlay), values != CLASS_NODATA)
        if layer.kind is Kind.VALUES:
            return _values(file.read(1, out_shape=shape, resampling=way), layer)
        if layer.kind is Kind.PICTURE:
            colours = file.read(out_shape=(file.count, *shape), resampling=way)
            return Picture(_opaque(colours), (colours != CLASS_NODATA).any(axis=0))
        small = size(file.height, file.width, min(side, 256), aspect)
        vectors = file.read(out_shape=(file.count, *small), resampling=_way(file, small, layer.kind))
        rgba = _enlarged(_components(vectors), shape)
        return Picture(rgba, rgba[..., 3] > 0)


def covered(under: Picture, cog: Path, layer: LayerSpec, codes: Sequence[ClassLabel]) -> Picture:
    """A picture of a result with codes over its values, as they stand in ``cog``: ``masked.tif``, on the same grid."""
    shape = under.valid.shape
    with rasterio.open(cog) as file:
        values = file.read(1, out_shape=shape, resampling=_covering(file, shape, layer.kind))
    rgba = under.rgba.copy()
    for code in codes:
        rgba[(values == code.value) & under.valid] = (*bytes.fromhex(code.colour[1:]), 255)
    return replace(under, rgba=rgba)


def coloured(stored: Stored, layer: LayerSpec) -> Rgba:
    """(H, W, 4) colours of a whole ``result`` (bands, H, W) that is held in memory, pixel by pixel."""
    if layer.kind is Kind.CLASSES:
        return _classes(stored[0].astype(np.uint8, copy=False), layer, overlay=False)
    if layer.kind is Kind.PICTURE:
        return _opaque(stored)
    values = stored.astype(np.float32, copy=False)
    return _values(values[0], layer).rgba if layer.kind is Kind.VALUES else _components(values)


def size(height: int, width: int, side: int, aspect: float) -> tuple[int, int]:
    """(rows, cols) of a picture in true proportions: shrunk to ``side``, or enlarged towards it in whole steps."""
    wide, tall = width * aspect, float(height)
    factor = side / max(wide, tall)
    if factor > 1:
        factor = math.floor(factor)
    return max(1, round(tall * factor)), max(1, round(wide * factor))


def ramp(steps: int) -> NDArray[np.uint8]:
    """(steps, 3) colours of viridis, from low to high."""
    anchors = np.array(_VIRIDIS, np.float64)
    at = np.linspace(0, len(anchors) - 1, steps)
    bands = [np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
    return np.rint(np.stack(bands, axis=1)).astype(np.uint8)


def _way(file: rasterio.DatasetReader, shape: tuple[int, int], kind: Kind) -> Resampling:
    if shape[0] >= file.height or shape[1] >= file.width:
        return Resampling.nearest
    return Resampling.mode if kind is Kind.CLASSES else Resampling.average


def _covering(file: rasterio.DatasetReader, shape: tuple[int, int], kind: Kind) -> Resampling:
    """As the picture beneath, but that a mean of a number and a code is nothing."""
    way = _way(file, shape, kind)
    return Resampling.nearest if way is Resampling.average else way


def _opaque(colours: Stored) -> Rgba:
    """(h, w, 4) of (3, h, w); transparent where there is nothing."""
    there = (colours != CLASS_NODATA).any(axis=0)
    return np.dstack([*colours.astype(np.uint8, copy=False), np.where(there, 255, 0).astype(np.uint8)])


def _classes(values: NDArray[np.uint8], layer: LayerSpec, overlay: bool) -> Rgba:
    table = np.zeros((256, 4), np.uint8)
    for label in layer.classes:
        seen = 0 if overlay and label.background else _OVERLAY if overlay else 255
        table[label.value] = (*bytes.fromhex(label.colour[1:]), seen)
    table[CLASS_NODATA] = 0
    return table[values]


def _values(values: NDArray[np.float32], layer: LayerSpec) -> Picture:
    valid = np.isfinite(values)
    span = layer.range or _span(values[valid])
    share = np.clip((np.where(valid, values, span[0]) - span[0]) / (span[1] - span[0]), 0, 1)
    colours = ramp(256)[np.rint(share * 255).astype(np.uint8)]
    return Picture(np.dstack([colours, np.where(valid, 255, 0).astype(np.uint8)]), valid, span)


def _span(values: NDArray[np.float32]) -> tuple[float, float]:
    """What most values lie between; never empty."""
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (2, 98)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _components(vectors: NDArray[np.float32]) -> Rgba:
    """(h, w, 4) the first three principal components as red, green and blue."""
    depth, height, width = vectors.shape
    flat = vectors.reshape(depth, -1).T.astype(np.float64)
    valid = np.isfinite(flat).all(axis=1)
    rgba = np.zeros((height * width, 4), np.uint8)
    if valid.any():
        some = flat[valid]
        rgba[valid, 3] = 255
        rgba[valid, :3] = _stretched(_projected(some))
    return rgba.reshape(height, width, 4)


def _projected(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) along the directions of greatest variance, found from an even sample; zero where there are fewer."""
    centred = vectors - vectors.mean(axis=0)
    sample = centred[:: max(1, len(centred) // _SAMPLE)]
    _, directions = np.linalg.eigh(sample.T @ sample)
    chosen = directions[:, ::-1][:, :3]
    # A direction's sign is arbitrary: let its largest element be positive.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
    found = np.zeros((len(vectors), 3))
    found[:, : chosen.shape[1]] = centred @ chosen
    return found


def _stretched(numbers: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = np.percentile(numbers, (2, 98), axis=0)
    return np.rint(255 * np.clip((numbers - low) / np.maximum(high - low, 1e-12), 0, 1)).astype(np.uint8)


def _enlarged(rgba: Rgba, shape: tuple[int, int]) -> Rgba:
    rows = np.arange(shape[0]) * rgba.shape[0] // shape[0]
    cols = np.arange(shape[1]) * rgba.shape[1] // shape[1]
    return rgba[rows[:, None], cols]
