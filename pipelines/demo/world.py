"""An invented coast, whole but coarse: everything that must be known before any pixel is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.demo import fire, parcels, sky, terrain, towns, water
from pipelines.demo.lines import Lines
from pipelines.demo.noise import Field, Grid, Texture, slopes, smoothstep, spectral

NODES = 1024
"""Most nodes the coarse grid has along a side."""
SUN_BEFORE = sky.Sun(azimuth=137.0, zenith=24.0)
SUN_AFTER = sky.Sun(azimuth=151.0, zenith=35.0)
"""Early July and late August, 39.5 degrees north, about 10:00 UTC."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Coarse fields and vector things of a scene; frozen, so that threads may share it."""

    size: int
    """Pixels along a side."""
    seed: int
    """Of all randomness."""
    height: Field
    """Metres."""
    top: float
    """Metres of the highest ground."""
    shore: Field
    """Pixels inland, negative in the sea."""
    wetness: Field
    """log10 of the drained area in cells."""
    farmable: Field
    """> 0 where the ground is fit for fields."""
    built: Field
    """> 0 where there are houses."""
    broad: Field
    """Standard noise of some kilometres."""
    middling: Field
    """Standard noise of some hundred metres."""
    grain: Texture
    """Standard noise of some ten metres, fractal."""
    clumps: Texture
    """Standard noise of single pixels: crowns, gaps."""
    rivers: Lines
    """Running water."""
    ponds: Lines
    """Small standing water."""
    reservoir: water.Reservoir
    """The lake behind the dam."""
    districts: parcels.Districts
    """Field patterns."""
    roads: Lines
    """Between towns."""
    fire: fire.Fire
    """What burns between the dates."""
    before: sky.Sky
    """The early date."""
    after: sky.Sky
    """The late date."""


def imagine(size: int, seed: int) -> World:
    """Invent a scene of size x size pixels of ten metres; the same for the same arguments."""
    rng = np.random.default_rng([seed, size])
    n = min(NODES, round(size * (1 + 2 * terrain.MARGIN) / 5))
    step, origin = size * (1 + 2 * terrain.MARGIN) / n, -terrain.MARGIN * size
    land = terrain.carve(n, step * 10, rng)
    steep = np.hypot(*slopes(_rounded(land.height, 1.5), land.cell))
    noise = spectral(n, 1.25, rng)
    farmable = _farmable(land, steep, noise)
    reservoir = water.dam(land, size, rng)
    fuel = _fuel(land, farmable, reservoir.depth.nodes, noise)
    built, roads = towns.build(land, steep, step, origin, rng)
    middling = _noise(size, 1.15, rng)
    return World(
        size=size,
        seed=seed,
        height=Field(land.height, step, origin),
        top=float(land.height.max()),
        shore=Field(land.shore / 10, step, origin),
        wetness=Field(np.log10(_rounded(land.area, 0.7)).astype(np.float32), step, origin),
        farmable=Field(farmable, step, origin),
        built=built,
        broad=Field(noise, step, origin),
        middling=middling,
        grain=Texture(spectral(1024, 0.85, rng)),
        clumps=Texture(spectral(896, 0.35, rng)),
        rivers=Lines.of(water.trace(land, size, rng), reach=7),
        ponds=Lines.of(_ponds(farmable, step, origin, rng), reach=2),
        reservoir=reservoir,
        districts=parcels.settle(size, middling, rng),
        roads=roads,
        fire=fire.spread(fuel, step, origin, rng),
        before=sky.overcast(size, SUN_BEFORE, 0.008, rng),
        after=sky.overcast(size, SUN_AFTER, 0.06, rng),
    )


def _rounded(field: Grid, sigma: float) -> Grid:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(field, sigma))


def _noise(size: int, slope: float, rng: np.random.Generator) -> Field:
    """Noise with eight pixels to a node, over the scene and some way beyond."""
    n, beyond = 640, 512
    return Field(spectral(n, slope, rng), max(8.0, (size + 2 * beyond) / n), -beyond)


def _farmable(land: terrain.Terrain, steep: Grid, noise: Grid) -> Grid:
    """Gentle, low and away from the beach; noise leaves woods in the plain and clearings in the hills."""
    low = land.height / max(1.0, float(land.height.max()))
    return (0.9 - steep / 0.10 - 1.6 * low + 0.36 * noise - 2.0 * (land.shore < 250)).astype(np.float32)  # noqa: PLR2004


def _fuel(land: terrain.Terrain, farmable: Grid, lake: Grid, noise: Grid) -> Grid:
    """How well each place burns, 0..1: woods and scrub well, fields hardly, water not at all."""
    n = land.height.shape[0]
    woods = smoothstep(-1.1, 0.6, noise - 0.8 * land.height / max(1.0, float(land.height.max())))
    fuel = np.where(farmable > 0, 0.025, 0.15 + 0.85 * woods).astype(np.float32)
    fuel[land.sea | (lake > 0)] = 0
    fuel[land.area > 0.02 * n * n] *= 0.1
    return fuel


def _ponds(farmable: Grid, step: float, origin: float, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Irrigation ponds 70 to 160 m across, most of them in farmland."""
    cells = np.argwhere(farmable > 0.25)  # noqa: PLR2004  well inside
    count = min(len(cells), int(10 + cells.shape[0] * step**2 / 60_000))
    where = rng.permutation(cells)[:count] * step + origin
    return [(p[None] + 0.5, np.array([rng.uniform(3.5, 8)])) for p in where]
