"""Seeded randomness that fits together across blocks: spectral noise, splines on coarse grids, integer hashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.floating[Any]]
"""(rows, cols), float32 in all that is done pixel by pixel."""


def spectral(n: int, slope: float, rng: np.random.Generator) -> Grid:
    """Periodic (n, n) noise with amplitude falling as frequency**-slope; mean 0, standard deviation 1.

    Slope 0 is white; 1.5 to 2 is natural relief (Turcotte, Fractals and Chaos in Geology and Geophysics, 1997, ch. 7).
    """
    from scipy import fft

    spectrum = np.asarray(fft.rfft2(rng.standard_normal((n, n), dtype=np.float32)))
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    shaped = spectrum * (radius**-slope if slope else radius < np.inf).astype(np.float32)
    field = np.asarray(fft.irfft2(shaped, s=(n, n))).astype(np.float32)
    return field / field.std()


def smoothstep(low: float, high: float, x: Grid) -> Grid:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def slopes(field: Grid, step: float = 1.0) -> tuple[Grid, Grid]:
    """Change per unit down the rows and along the columns, with that many units to a cell."""
    down, across = np.gradient(field, np.float32(step))
    return np.asarray(down), np.asarray(across)


def hashed(*keys: NDArray[np.integer] | int) -> Grid:
    """Uniform numbers 0..1 that depend on integer keys alone (murmur3's finaliser), broadcast together."""
    h = np.full(1, 0x9E3779B9, np.uint32)
    for key in keys:
        h = _mix((h ^ np.asarray(key).astype(np.uint32)) + np.uint32(0x85EBCA6B))
    return ((h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)).reshape(
        np.broadcast_shapes(*map(np.shape, keys))
    )


def _mix(h: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A smooth field known at coarse nodes, to be had at any pixel as its cubic B-spline approximation."""

    nodes: Grid
    """Node (i, j) lies in the middle of a step x step square of pixels."""
    step: float
    """Pixels per node."""
    origin: float = 0.0
    """Pixel coordinate of the outer corner of node (0, 0), the same for rows and columns."""
    periodic: bool = False
    """Whether the nodes repeat; otherwise the edge is continued."""

    def at(self, rows: NDArray[np.floating], cols: NDArray[np.floating]) -> Grid:
        """(len(rows), len(cols)) values at pixel coordinates (0.5 is the middle of the first pixel)."""
        down, i0, i1 = self._weights(rows, self.nodes.shape[0])
        across, j0, j1 = self._weights(cols, self.nodes.shape[1])
        nodes = np.ascontiguousarray(self.nodes[i0:i1, j0:j1])
        tall = np.ascontiguousarray((down @ nodes).T)
        return np.ascontiguousarray((across @ tall).T)

    def _weights(self, where: NDArray[np.floating], n: int):  # noqa: ANN202  scipy.sparse is loaded when needed
        from scipy.sparse import csr_array

        u = (np.asarray(where, dtype=np.float64) - self.origin) / self.step - 0.5
        base = np.floor(u).astype(np.int64)
        t = u - base
        w = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
        at = base[:, None] + np.arange(-1, 3)
        at = at % n if self.periodic else np.clip(at, 0, n - 1)
        first, last = int(at.min()), int(at.max()) + 1
        starts = np.arange(0, 4 * len(u) + 1, 4)
        weights = csr_array((w.ravel().astype(np.float32), (at - first).ravel(), starts), shape=(len(u), last - first))
        return weights, first, last


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """Periodic noise at full resolution, laid out as endless wallpaper."""

    tile: Grid
    """One period, pixel by pixel."""

    def at(self, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Grid:
        """(len(rows), len(cols)) values at whole pixels, which may be negative."""
        n, m = self.tile.shape
        return self.tile.take(rows % n, axis=0).take(cols % m, axis=1)
