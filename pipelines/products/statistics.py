"""Exact statistics of a raster, gathered block by block in the words of GDAL's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.products.layer import CLASS_NODATA, RasterSpec


def span_of(minimum: float, maximum: float, mean: float, stddev: float) -> tuple[float, float]:
    """What a picture of numbers shows: the mean, two standard deviations to either side, within all; never empty."""
    low, high = max(minimum, mean - 2 * stddev), min(maximum, mean + 2 * stddev)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def span_told(tags: Mapping[str, str]) -> tuple[float, float] | None:
    """The same from GDAL's metadata items of a band; None where they tell no statistics."""
    names = [f"STATISTICS_{name}" for name in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")]
    return span_of(*(float(tags[name]) for name in names)) if tags.keys() >= set(names) else None


@dataclass(slots=True)
class _Moments:
    """Of one band of floating-point numbers."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float = np.inf
    most: float = -np.inf

    def add(self, values: NDArray[Any], nodata: float, codes: tuple[float, ...]) -> None:
        real = np.isfinite(values) & (values != nodata)
        numbers = values[real & ~np.isin(values, codes) if codes else real].astype(np.float64)
        if numbers.size:
            self.count += numbers.size
            self.total += float(numbers.sum())
            self.squares += float(np.square(numbers).sum())  # not a dot product: BLAS adds in an order of its own
            self.least, self.most = min(self.least, float(numbers.min())), max(self.most, float(numbers.max()))


class Statistics:
    """Least, most, mean, standard deviation and valid share of each band, over stored numbers."""

    def __init__(self, spec: RasterSpec) -> None:
        """Nothing seen yet."""
        self._bytes, self._nodata, self._codes = spec.dtype == "uint8", spec.nodata, spec.codes
        self._counts = np.zeros((spec.count, 256), np.int64)
        self._moments = [_Moments() for _ in range(spec.count)]
        self._pixels = 0

    def add(self, block: NDArray[Any]) -> None:
        """(bands, H, W) more pixels."""
        self._pixels += block.shape[1] * block.shape[2]
        for index, band in enumerate(block):
            if self._bytes:
                self._counts[index] += np.bincount(band.ravel(), minlength=256)
            else:
                self._moments[index].add(band, self._nodata, self._codes)

    def items(self, index: int) -> dict[str, str]:
        """GDAL's metadata items of a band, counted from 0; none where no pixel is valid."""
        moments = self._of_bytes(index) if self._bytes else self._moments[index]
        if not moments.count:
            return {}
        mean = moments.total / moments.count
        deviation = np.sqrt(max(0.0, moments.squares / moments.count - mean**2))
        numbers = {"MINIMUM": moments.least, "MAXIMUM": moments.most, "MEAN": mean, "STDDEV": deviation}
        share = {"VALID_PERCENT": f"{100 * moments.count / self._pixels:.4g}"}
        return {f"STATISTICS_{k}": v for k, v in ({k: f"{n:.14g}" for k, n in numbers.items()} | share).items()}

    def span(self, index: int) -> tuple[float, float]:
        """What a picture of a band shows; 0..1 where no pixel is valid."""
        return span_told(self.items(index)) or (0.0, 1.0)

    def _of_bytes(self, index: int) -> _Moments:
        counts = self._counts[index].copy()
        counts[CLASS_NODATA] = 0
        values = np.arange(256)
        present = np.flatnonzero(counts)
        if not len(present):
            return _Moments()
        total, squares = int(counts @ values), int(counts @ values**2)
        return _Moments(int(counts.sum()), total, squares, float(present[0]), float(present[-1]))
