"""A wildfire: it reaches every place by the quickest way through the fuel, and leaves islands and a ragged edge.

Minimum travel time is how fire growth is modelled (Finney, Can. J. For. Res. 32, 2002); here without wind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Field, Grid, smoothstep, spectral

SHARE = 0.075
"""Of the scene that burns."""


@dataclass(frozen=True, slots=True, eq=False)
class Fire:
    """Where the fire went and how hot it was."""

    inside: Field
    """Pixels from the edge, negative outside."""
    heat: Field
    """Standard noise: how severe it was."""
    spared: Field
    """Standard noise: where it is high, the fire jumped over."""


def spread(fuel: Grid, step: float, origin: float, rng: np.random.Generator) -> Fire:
    """Burn SHARE of the scene from the middle of its largest stretch of fuel; fuel 0..1 on an (n, n) grid."""
    from scipy import ndimage

    fuel, step = fuel[::2, ::2], step * 2
    n = fuel.shape[0]
    margin = round(-origin / step)
    scene = (slice(margin, n - margin),) * 2
    speed = (0.01 + fuel) * np.exp(1.15 * spectral(n, 1.25, rng))
    arrival = _arrival(1 / speed, _ignition(fuel, margin))
    end = np.quantile(arrival[scene], SHARE)
    burned = arrival < end
    within, without = (np.asarray(ndimage.distance_transform_edt(part)) for part in (burned, ~burned))
    pixels = np.clip((within - without) * step, -200, 200).astype(np.float32)
    return Fire(
        Field(pixels, step, origin),
        Field(spectral(n, 1.3, rng), step, origin),
        Field(spectral(n, 1.0, rng), step, origin),
    )


def _ignition(fuel: Grid, margin: int) -> tuple[int, int]:
    """Where most fuel lies around, not far from the middle of the scene."""
    from scipy import ndimage

    n = fuel.shape[0]
    side = n - 2 * margin
    around = np.asarray(ndimage.uniform_filter(fuel, max(3, int(0.26 * side)), mode="constant"))
    axis = (np.arange(n) - margin) / side
    away = np.hypot(axis[:, None] - 0.38, axis[None, :] - 0.48)
    r, c = np.unravel_index(np.argmax(around * np.exp(-((away / 0.2) ** 2))), (n, n))
    return int(r), int(c)


def _arrival(slowness: NDArray[np.floating], ignition: tuple[int, int]) -> NDArray[np.float64]:
    from skimage.graph import MCP_Geometric

    arrival, _ = MCP_Geometric(slowness).find_costs([ignition])
    return np.asarray(arrival)


def severity(inside: Grid, heat: Grid, fuel: Grid) -> Grid:
    """Share of the vegetation that burned, 0..1: low along the edge, high where fuel was dense."""
    burning = 0.70 + 0.17 * heat + 0.22 * (fuel - 0.5)
    return np.clip(burning, 0.30, 1.0) * (0.4 + 0.6 * smoothstep(0, 11, inside))
