"""What covers wild ground: forest, scrub, grass and rock as shares that height, slope, sun and water decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Grid, slopes, smoothstep
from pipelines.demo.spectra import spectra
from pipelines.demo.world import SUN_AFTER, World

BEFORE = spectra("conifer", "broadleaf", "maquis", "dry_grass", "rock")
AFTER = spectra("conifer", "broadleaf_late", "maquis_late", "dry_grass_late", "rock")
"""(5, 6) reflectances of the shares, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class Relief:
    """The lie of the land at a block of pixels, all (rows, cols)."""

    height: Grid
    """Share of the highest."""
    slope: tuple[Grid, Grid]
    """Metres per metre, down the rows and along the columns."""
    steep: Grid
    """Length of the slope."""


def relief(world: World, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Relief:
    """Terrain at adjoining pixels, with fine relief on steep ground that the coarse grid cannot hold."""
    z = world.height.at(rows + 0.5, cols + 0.5)
    gy, gx = slopes(z, 10)
    rough = smoothstep(0.05, 0.4, np.hypot(gy, gx))
    fy, fx = slopes(world.grain.at(rows, cols))
    gy, gx = gy + 0.20 * rough * fy, gx + 0.20 * rough * fx
    return Relief(z / np.float32(world.top), (gy, gx), np.hypot(gy, gx))


def shares(world: World, lie: Relief, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Grid:
    """(5, rows, cols) shares of conifers, broadleaves, scrub, grass and rock; they sum to 1."""
    r, c = rows + 0.5, cols + 0.5
    broad, middling = world.broad.at(r, c), world.middling.at(r, c)
    grain = world.grain.at(rows + 333, cols + 77)
    y, x, _ = SUN_AFTER.towards
    sunny = -(lie.slope[0] * y + lie.slope[1] * x)
    wet = world.wetness.at(r, c) - np.float32(1.0)
    lush = 0.62 + 0.20 * broad + 0.17 * middling + 0.16 * wet - 0.75 * sunny + 0.35 * smoothstep(0.05, 0.35, lie.height)
    trees = smoothstep(0.28, 0.72, lush + 0.09 * grain)
    needles = smoothstep(-0.16, 0.16, lie.height - 0.42 + 0.16 * middling + 0.05 * grain - 0.1 * wet)
    bare = smoothstep(0.66, 1.16, 1.1 * lie.steep + 0.75 * lie.height - 0.28 * lush + 0.07 * grain)
    scrub = smoothstep(0.10, 0.52, lush + 0.10 * grain - 0.1 * lie.height)
    trees = trees * (1 - 0.85 * bare)
    rest = 1 - trees
    rock = rest * bare
    scrub = (rest - rock) * scrub
    return np.stack([trees * needles, trees * (1 - needles), scrub, rest - rock - scrub, rock])


def mixed(parts: Grid, reflectance: Grid, band: int) -> Grid:
    """Linear mixture of the shares in one band (rows, cols)."""
    out = parts[0] * reflectance[0, band]
    for k in range(1, len(parts)):
        out += parts[k] * reflectance[k, band]
    return out
