"""From floating-point results to the numbers that are stored. On the hot path: once per pixel of the run.

Everything is done a slab of rows at a time, so that what is read again lies in the cache, and without a branch or a
masked copy per pixel: those cost more than all the arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.products.layer import CLASS_NODATA, COLOUR_STEPS, SCORE_STEPS, Kind, LayerSpec
from swathe.errors import ModelError

Stored = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

_SLAB = 1 << 15
"""Pixels of a slab."""


def quantise(data: NDArray[np.float32], mask: NDArray[np.bool_], spec: LayerSpec) -> dict[str, Stored]:
    """Stored numbers of every file of a layer.

    data: (K, H, W) as in ``swathe.raster.Raster``; mask: (H, W). Returns name of the file -> (bands, H, W).
    Of equal probabilities the first class wins. A pixel with a probability that is no number becomes nodata.
    Raises ModelError where K is not what the layer says.
    """
    expected = len(spec.classes) or spec.result.count
    if len(data) != expected:
        raise ModelError(f"{len(data)} channels for a layer of {expected}", code="model.channels")
    if spec.kind is Kind.PICTURE:
        return {"result": _colours(data, mask)}
    if spec.kind is not Kind.CLASSES:
        return {"result": np.where(mask, data, np.float32(np.nan))}
    stored = {r.name: np.empty((r.count, *mask.shape), np.uint8) for r in spec.predicted}
    values = np.array([c.value for c in spec.classes], np.uint8)
    step = max(1, _SLAB // mask.shape[1])
    scratch = _Scratch.of(min(step, len(mask)), mask.shape[1])
    for top in range(0, len(mask), step):
        rows = slice(top, top + step)
        slab = {name: array[:, rows] for name, array in stored.items()}
        _quantise(data[:, rows], mask[rows], values, slab, scratch.rows(len(mask[rows])))
    return {**stored}


def _colours(data: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What is darker or brighter than a picture can be is black or white."""
    held = np.clip(np.rint(data), 0, COLOUR_STEPS)
    return np.where(mask & np.isfinite(data).all(axis=0), held, np.float32(CLASS_NODATA)).astype(np.uint8)


class _Scratch:
    """Room for one slab, used again and again."""

    def __init__(self, best: NDArray[np.float32], wins: NDArray[np.uint8], change: NDArray[np.uint8]) -> None:
        self.best, self.wins, self.change = best, wins, change
        self.scaled = np.empty_like(best)

    @classmethod
    def of(cls, height: int, width: int) -> _Scratch:
        shape = (height, width)
        return cls(np.empty(shape, np.float32), np.empty(shape, np.uint8), np.empty(shape, np.uint8))

    def rows(self, height: int) -> _Scratch:
        """For the last slab, which may be lower."""
        return self if height == len(self.best) else _Scratch.of(height, self.best.shape[1])


def _quantise(
    data: NDArray[np.float32],
    mask: NDArray[np.bool_],
    values: NDArray[np.uint8],
    stored: dict[str, NDArray[np.uint8]],
    scratch: _Scratch,
) -> None:
    classes = stored["result"][0]
    _winners(data, values, classes, scratch)
    valid = scratch.wins.view(np.bool_)
    np.greater_equal(scratch.best, 0, out=valid)  # False for NaN, which maximum() hands on
    np.logical_and(valid, mask, out=valid)
    absent = np.subtract(scratch.wins, np.uint8(1), out=scratch.change)  # 0 where valid, 255 elsewhere
    np.bitwise_or(classes, absent, out=classes)
    if "score" in stored:
        _steps(scratch.best, absent, stored["score"][0], scratch.scaled)
    for k, band in enumerate(stored.get("probabilities", ())):
        _steps(data[k], absent, band, scratch.scaled)


def _winners(
    data: NDArray[np.float32], values: NDArray[np.uint8], classes: NDArray[np.uint8], scratch: _Scratch
) -> None:
    """Value of the most probable class into ``classes``, its probability into ``scratch.best``."""
    best, wins, change = scratch.best, scratch.wins, scratch.change
    np.copyto(best, data[0])
    classes.fill(values[0])
    for k in range(1, len(values)):
        np.greater(data[k], best, out=wins.view(np.bool_))
        np.negative(wins, out=wins)  # 0 or 255: no bits or all
        np.bitwise_xor(classes, values[k], out=change)
        np.bitwise_and(change, wins, out=change)
        np.bitwise_xor(classes, change, out=classes)
        np.maximum(best, data[k], out=best)


def _steps(
    probability: NDArray[np.float32], absent: NDArray[np.uint8], stored: NDArray[np.uint8], scaled: NDArray[np.float32]
) -> None:
    """round(254 p) into ``stored``, 255 where ``absent`` is 255."""
    np.multiply(probability, np.float32(SCORE_STEPS), out=scaled)
    np.add(scaled, np.float32(0.5), out=scaled)
    # Rounding errors of a blend may leave 0..1 by 1e-7; what lies under the mask may be anything, NaN too.
    np.fmax(scaled, np.float32(0), out=scaled)
    np.minimum(scaled, np.float32(SCORE_STEPS + 0.5), out=scaled)
    np.copyto(stored, scaled, casting="unsafe")
    np.bitwise_or(stored, absent, out=stored)
