"""What the instrument makes of the ground: blur, 20 m bands brought to 10 m, noise, sixteen-bit numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Grid

SCALE = 1e-4
"""reflectance = stored * SCALE."""
NODATA = -9999
"""Stored number where the swath does not reach."""
COARSE_BANDS = (3, 4, 5)
"""B8A, B11 and B12 are taken at 20 m; products at 10 m carry them resampled."""
SPILL = 0.16
"""Of a pixel's light that each neighbour in a row or column takes: MTF 0.36 at Nyquist, 0.23 with the pixel's own
aperture, inside the 0.15 to 0.30 that the MSI has to meet at 10 m (Gascon et al., Remote Sens. 9, 584, 2017)."""
HALO = 6
"""Pixels that are needed beyond each side of a block; even, so that the 20 m grid stays in step."""


def expose(light: Grid, band: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Stored numbers of the inner pixels, from reflectance (rows + 2 HALO, cols + 2 HALO) of one band."""
    if band in COARSE_BANDS:
        taken = _noisy(_blurred(_halved(light)), rng)
        seen = _doubled(taken)[HALO:-HALO, HALO:-HALO]
    else:
        seen = _noisy(_blurred(light[HALO - 1 : 1 - HALO, HALO - 1 : 1 - HALO])[1:-1, 1:-1], rng)
    return np.rint(np.clip(seen, SCALE, 1) * np.float32(1 / SCALE)).astype(np.int16)


def _noisy(light: Grid, rng: np.random.Generator) -> Grid:
    """Instrument and correction noise: signal to noise about 140 at a reflectance of 0.1."""
    sigma = np.float32(0.0005) + np.float32(0.0022) * light
    return light + sigma * rng.standard_normal(light.shape, dtype=np.float32)


def _blurred(light: Grid) -> Grid:
    """Three-tap blur along both axes; the outermost pixels stay as they are."""
    out = light.copy()
    out[1:-1] = (1 - 2 * SPILL) * light[1:-1] + SPILL * (light[:-2] + light[2:])
    wide = out.copy()
    wide[:, 1:-1] = (1 - 2 * SPILL) * out[:, 1:-1] + SPILL * (out[:, :-2] + out[:, 2:])
    return wide


def _halved(light: Grid) -> Grid:
    tall = light[0::2] + light[1::2]
    return np.float32(0.25) * (tall[:, 0::2] + tall[:, 1::2])


def _doubled(coarse: Grid) -> Grid:
    """Bilinear, 20 m to 10 m: every new pixel lies a quarter of a coarse one beside its centre."""
    return _doubled_rows(_doubled_rows(coarse).T).T


def _doubled_rows(coarse: Grid) -> Grid:
    out = np.empty((2 * coarse.shape[0], coarse.shape[1]), np.float32)
    out[0::2] = out[1::2] = np.float32(0.75) * coarse
    out[2::2] += np.float32(0.25) * coarse[:-1]
    out[1:-1:2] += np.float32(0.25) * coarse[1:]
    return out
