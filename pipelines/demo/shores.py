"""Where land ends: the sea, rivers, ponds and the reservoir, as distances that give the share of water in a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Grid, slopes
from pipelines.demo.spectra import REFLECTANCE
from pipelines.demo.world import World

DRY_BROOK = 1.6
"""Half width in pixels below which a stream has no water in summer; its trees still show where it runs."""
SHALLOWEST = 0.05
"""Least fall of a lake's bed, metres per pixel, that its shore is placed by."""


@dataclass(frozen=True, slots=True, eq=False)
class Shores:
    """Distances to water at a block of pixels, all (rows, cols), in pixels and negative in the water."""

    inland: Grid
    """To the sea."""
    trees: Grid
    """To the bank of any stream, dry or not."""
    bank: Grid
    """To the bank of a stream that has water."""
    half: Grid
    """Half width of that stream."""
    pond: Grid
    """To a pond."""
    lake: Grid
    """Metres of water in the reservoir at the late date; negative on dry ground."""
    drawdown: float
    """Metres it stood higher at the early date."""
    swirl: Grid
    """Noise of what the water carries."""

    def share(self, rise: float = 0.0) -> Grid:
        """Share of every pixel that is water with the reservoir that much higher: the shore cuts pixels in two."""
        level = self.lake + np.float32(rise)
        fall = np.maximum(np.hypot(*slopes(self.lake)), np.float32(SHALLOWEST))
        away = np.minimum(np.minimum(self.inland, self.bank), np.minimum(self.pond, -level / fall))
        return np.clip(0.5 - away, 0, 1)

    @property
    def drained(self) -> NDArray[np.bool_]:
        """Bed of the reservoir that fell dry between the dates."""
        return (self.lake <= 0) & (self.lake + np.float32(self.drawdown) > 0)

    @property
    def murk(self) -> Grid:
        """0 clear deep water .. 1 turbid or shallow: along the coast and in rivers."""
        sea = np.exp(np.minimum(self.inland, 0) / 45) * (0.75 + 0.2 * self.swirl) + 0.05 * self.swirl
        fresh = np.where(self.lake > -1, np.float32(0.3), np.where(self.bank < 1, np.float32(0.95), np.float32(0.6)))
        return np.clip(np.where(self.inland < 1, sea, fresh), 0, 1)


def survey(world: World, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Shores:
    """Shores at adjoining pixels, each with wiggles that the coarse grid cannot hold."""
    r, c = rows + 0.5, cols + 0.5
    grain, middling = world.grain.at(rows - 91, cols + 401), world.middling.at(r, c)
    trees, half = world.rivers.at(rows, cols)
    depth = world.reservoir.depth.at(r, c)
    wiggle = np.where(depth > -20, np.float32(0.8) * world.grain.at(rows + 55, cols - 200), np.float32(0))  # noqa: PLR2004
    return Shores(
        inland=world.shore.at(r, c) + 2.2 * grain + 5 * middling,
        trees=trees,
        bank=np.where(half < DRY_BROOK, np.float32(world.rivers.reach), trees),
        half=half,
        pond=world.ponds.at(rows, cols)[0],
        lake=depth + wiggle,
        drawdown=world.reservoir.drawdown,
        swirl=middling + 0.5 * grain,
    )


def flooded(ground: Grid, water: Grid, murk: Grid, band: int) -> Grid:
    """Reflectance of ground of which that share is water."""
    deep, turbid = (np.float32(REFLECTANCE[k][band]) for k in ("deep_water", "turbid_water"))
    return ground + water * (deep + murk * (turbid - deep) - ground)
