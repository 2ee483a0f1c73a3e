"""A threshold found from a histogram: Otsu, and the minimum error threshold of two Gaussians. Pure numpy.

Counts are integers, so histograms of parts add up to the same numbers in any order: a loop and a cluster find the same
threshold to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

BINS = 2048
"""Of a histogram: a normalised difference (-1..1) is resolved to 0.001, finer than reflectance is measured."""
RAREST = 0.01
"""Share of the pixels that the smaller of two classes must have at least."""
SMOOTHING = BINS / 100
"""Standard deviation, in bins, of the Gaussian that smooths a histogram before its valley is looked for."""
FLAT = 0.75
"""Separability of a flat histogram split in the middle: no more than that says nothing of two classes."""
DEEP = 0.5
"""A valley at most half as high as the lower of its peaks says that there are two classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often which value occurs, in bins of equal width; values outside count in the outermost bins."""

    low: float
    """Lower edge of the first bin."""
    high: float
    """Upper edge of the last bin."""
    counts: NDArray[np.int64]
    """(bins,) pixels per bin."""

    @classmethod
    def empty(cls, low: float, high: float, bins: int = BINS) -> Self:
        """Nothing counted yet."""
        return cls(low, high, np.zeros(bins, np.int64))

    def add(self, values: NDArray[np.float32]) -> Histogram:
        """With ``values`` (any shape, finite) counted as well."""
        found = bin_numbers(values.ravel(), self.low, self.high, len(self.counts))
        return Histogram(self.low, self.high, self.counts + np.bincount(found, minlength=len(self.counts)))

    def merge(self, other: Histogram) -> Histogram:
        """Both together; raise ValueError where their bins differ."""
        if (self.low, self.high, len(self.counts)) != (other.low, other.high, len(other.counts)):
            msg = "histograms of different bins cannot be merged"
            raise ValueError(msg)
        return Histogram(self.low, self.high, self.counts + other.counts)

    @property
    def pixels(self) -> int:
        """Values counted."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def centres(self) -> NDArray[np.float64]:
        """(bins,) middle of each bin."""
        return self.low + (np.arange(len(self.counts), dtype=np.float64) + 0.5) * self.width


@dataclass(frozen=True, slots=True)
class Split:
    """Where a histogram falls into two classes, and how clearly."""

    threshold: float
    """Edge between two bins, or the middle of a gap; the upper class lies above it."""
    separability: float
    """Otsu's eta, variance between the classes / whole variance, 0..1, of Otsu's own split: 0.64 for a single
    Gaussian, 0.75 for a flat histogram, towards 1 for two narrow classes. Rare classes keep it low."""
    valley: float
    """Height of the valley between the peaks on both sides / height of the lower peak: 0 a gap, 1 no valley at all."""

    @property
    def clear(self) -> bool:
        """Whether the histogram speaks of two classes."""
        return self.separability >= FLAT or self.valley <= DEEP


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Two normal distributions side by side."""

    low_share: float
    """Of the pixels in the lower class; the upper has the rest."""
    low_mean: float
    """Of the lower class."""
    low_sd: float
    """Standard deviation of the lower class."""
    high_mean: float
    """Of the upper class."""
    high_sd: float
    """Standard deviation of the upper class."""

    def log_odds(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of P(upper class) / P(lower class) at each value."""
        low, high = (values - self.low_mean) / self.low_sd, (values - self.high_mean) / self.high_sd
        prior = math.log((1 - self.low_share) / self.low_share) - math.log(self.high_sd / self.low_sd)
        return prior + (low**2 - high**2) / 2


def bin_numbers(values: NDArray[np.float32], low: float, high: float, bins: int) -> NDArray[np.intp]:
    """(P,) bin of each of the (P,) finite values; those outside fall into the outermost bins."""
    places = np.subtract(values, np.float32(low), dtype=np.float32)
    places *= np.float32(bins / (high - low))
    np.clip(places, 0, bins - 1, out=places)
    return places.astype(np.intp)


def otsu(histogram: Histogram) -> Split | None:
    """Split where the variance between the classes is largest; None where all values lie in one bin.

    Otsu, N. (1979): A threshold selection method from gray-level histograms. IEEE Trans. SMC 9, 62-66. The same split
    as ``skimage.filters.threshold_otsu``, which names the middle of the bin below it.
    """
    share, below, _ = _moments(histogram)
    total = below[-1]
    with np.errstate(all="ignore"):
        between = (total * share - below) ** 2 / (share * (1 - share))
    between = np.nan_to_num(between[:-1], nan=0.0, posinf=0.0)
    if histogram.pixels == 0 or between.max() <= 0:
        return None
    return _split(histogram, _edge_after(histogram, int(np.argmax(between))), float(between.max()))


def two_gaussian(histogram: Histogram) -> tuple[Split, Gaussians] | None:
    """Split with the smallest expected error for two normal classes, and those classes; None where there are not two.

    Kittler, J. & Illingworth, J. (1986): Minimum error thresholding. Pattern Recognition 19, 41-47. A minimum that
    lies where the smaller class has the least share allowed (``RAREST``) is the end of a slope and no minimum.
    """
    best = otsu(histogram)
    if best is None:
        return None
    share, below, squares = _moments(histogram)
    with np.errstate(all="ignore"):
        low_mean, high_mean = below / share, (below[-1] - below) / (1 - share)
        low_var = squares / share - low_mean**2
        high_var = (squares[-1] - squares) / (1 - share) - high_mean**2
        # A bin is no point: the spread inside one bin keeps the variance of a class from vanishing.
        low_sd, high_sd = (np.sqrt(np.maximum(v, 0) + histogram.width**2 / 12) for v in (low_var, high_var))
        error = share * np.log(low_sd / share) + (1 - share) * np.log(high_sd / (1 - share))
    allowed = np.flatnonzero((share >= RAREST) & (share <= 1 - RAREST))
    if not len(allowed) or not np.isfinite(error[allowed]).all():
        return None
    at = int(allowed[np.argmin(error[allowed])])
    if error[at] >= min(error[allowed[0]], error[allowed[-1]]):
        return None
    classes = Gaussians(*(float(v[at]) for v in (share, low_mean, low_sd, high_mean, high_sd)))
    threshold = _edge_after(histogram, at)
    return Split(threshold, best.separability, valley(histogram, threshold)), classes


def posterior(classes: Gaussians, threshold: float, bins: Histogram) -> NDArray[np.float32]:
    """(bins,) probability of the upper class in each bin of ``bins``, rising from 0 to 1 through 0.5 at ``threshold``.

    Of two normal distributions the wider wins again beyond the narrower; that is a matter of their tails and not of
    the ground, so the probability is kept from turning back.
    """
    with np.errstate(over="ignore"):
        odds = 1 / (1 + np.exp(-classes.log_odds(bins.centres)))
    at = int(np.clip(round((threshold - bins.low) / bins.width), 0, len(odds)))
    upper = np.maximum.accumulate(np.clip(odds[at:], 0.5 + 1e-6, 1))
    lower = np.minimum.accumulate(np.clip(odds[:at], 0, 0.5 - 1e-6)[::-1])[::-1]
    return np.concatenate([lower, upper]).astype(np.float32)


def valley(histogram: Histogram, threshold: float) -> float:
    """Height of the valley between the highest peaks on both sides of a threshold / height of the lower peak."""
    reach = np.arange(-int(4 * SMOOTHING), int(4 * SMOOTHING) + 1)
    kernel = np.exp(-0.5 * (reach / SMOOTHING) ** 2)
    smooth = np.convolve(histogram.counts, kernel / kernel.sum(), "same")
    at = int(np.clip((threshold - histogram.low) / histogram.width, 1, len(smooth) - 1))
    left, right = int(np.argmax(smooth[:at])), at + int(np.argmax(smooth[at:]))
    return float(smooth[left : right + 1].min() / max(min(smooth[left], smooth[right]), 1e-300))


def _edge_after(histogram: Histogram, last: int) -> float:
    """Threshold behind the last bin of the lower class; in a gap its middle, since any place in it is as good."""
    following = last + 1 + int(np.argmax(histogram.counts[last + 1 :] > 0))
    return histogram.low + (last + 1 + following) / 2 * histogram.width


def _split(histogram: Histogram, threshold: float, between: float) -> Split:
    _, below, squares = _moments(histogram)
    return Split(threshold, between / float(squares[-1] - below[-1] ** 2), valley(histogram, threshold))


def _moments(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(bins,) each: cumulated share of the pixels, of their values and of their squares."""
    part = histogram.counts / max(histogram.pixels, 1)
    centres = histogram.centres
    return np.cumsum(part), np.cumsum(part * centres), np.cumsum(part * centres**2)
