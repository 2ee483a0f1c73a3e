"""A block of ground, painted: which cover lies where on both dates, its reflectance, and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo import cover, fire, parcels, shores
from pipelines.demo.noise import Grid, hashed, smoothstep
from pipelines.demo.shores import Shores
from pipelines.demo.spectra import REFLECTANCE, spectra
from pipelines.demo.world import World

HOUSES = spectra("roof_tile", "roof_light", "asphalt", "garden")
HOUSE_SHARES = (0.40, 0.50, 0.68)
"""Where one kind of house ends and the next begins, among numbers drawn from 0 to 1."""
WOOD, DUNE = 2.5, 7.0
"""Pixels from a bank and from the sea that nobody farms."""
HALF = 0.5
"""Of a pixel: what it counts as in the truth."""
Pixels = NDArray[np.integer]
Patch = tuple[NDArray[np.bool_], Grid]
"""Pixels of a hard cover and their reflectance, (1, 6) or one row for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What one date shows of a block; all (rows, cols) unless said otherwise."""

    wild: Grid
    """(5, rows, cols) shares of wild covers."""
    wild_spectra: Grid
    """(5, 6)."""
    fields: NDArray[np.bool_]
    """Farmed pixels."""
    crop: NDArray[np.uint8]
    """Index into parcels.STATES."""
    tone: Grid
    """Brightness of wild ground and fields, about 1."""
    patches: tuple[Patch, ...]
    """Hard covers, painted in this order."""
    burned: Grid
    """Share of the vegetation that is burned."""
    water: Grid
    """Share of the pixel that is water."""
    murk: Grid
    """0 clear deep water .. 1 turbid or shallow."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Both dates of a block of ground, and the truth; all (rows, cols)."""

    lie: cover.Relief
    """Terrain."""
    before: Ground
    """Early date."""
    after: Ground
    """Late date."""
    water: NDArray[np.bool_]
    """Mostly water at the late date."""
    burn: NDArray[np.bool_]
    """Mostly burned between the dates."""


def survey(world: World, rows: Pixels, cols: Pixels) -> Block:
    """Everything about the ground at adjoining pixels."""
    lie = cover.relief(world, rows, cols)
    shore = shores.survey(world, rows, cols)
    wild = _riverside(cover.shares(world, lie, rows, cols), shore.trees)
    lots = parcels.survey(world.districts, world.farmable, rows, cols)
    built = _built(world, lots, rows, cols)
    fields = lots.farmed & ~built & (shore.trees > WOOD) & (shore.inland > DUNE)
    low = 0.5 * smoothstep(0.4, 2.6, world.wetness.at(rows + 0.5, cols + 0.5)) + 0.5 * smoothstep(0.1, 0, lie.height)
    crop = parcels.crops(lots, low)
    lane = fields & _lanes(lots)
    hard = ((lane, spectra("track")), (built, _houses(lots, built)), *_bare(world, shore, rows, cols))
    fuel = np.where(fields, parcels.burns(crop[0]), 1 - wild[4]) * ~np.logical_or.reduce([w for w, _ in hard[1:]])
    burned, hot = _burn(world, fuel, wild, rows, cols)
    tone = _tone(world, lots, fields, wild, rows, cols)
    water, murk, unburned = shore.share(), shore.murk, np.zeros_like(hot)
    before = Ground(wild, cover.BEFORE, fields, crop[0], tone, hard, unburned, shore.share(shore.drawdown), murk)
    hard = ((shore.drained, spectra("mud")), *hard)
    after = Ground(wild, cover.AFTER, fields, crop[1], tone, hard, burned * hot, water, 0.85 * murk)
    return Block(lie, before, after, water >= HALF, (burned >= HALF) & (water < HALF))


def _riverside(wild: Grid, bank: Grid) -> Grid:
    """Broadleaves line every river."""
    near = np.clip(1 - bank / 5, 0, 1)
    out = wild * (1 - near)
    out[1] += near
    return out


def _built(world: World, lots: parcels.Parcels, rows: Pixels, cols: Pixels) -> NDArray[np.bool_]:
    """Towns, whose edge follows the fields, and a farmstead at the edge of one field in thirty."""
    town = world.built.at(rows + 0.5, cols + 0.5) + 0.5 * (hashed(lots.key, 7) - 0.5) > 0
    yard = lots.farmed & (hashed(lots.key, 11) > 0.965) & (np.abs(lots.edge - 2) < 1.6)  # noqa: PLR2004
    return town | yard & (hashed(_square(lots, 3), 9) > 0.6)  # noqa: PLR2004


def _square(lots: parcels.Parcels, side: float) -> NDArray[np.int32]:
    """A number for every square of that side, turned as the district is."""
    i, j = (np.floor(x / side).astype(np.int32) for x in (lots.along, lots.across))
    return i * 7919 + j


def _lanes(lots: parcels.Parcels) -> NDArray[np.bool_]:
    """Gravel lanes around districts, and around fields in every other of them."""
    return (lots.border < 0.55) | (lots.edge < 0.4) & (hashed(lots.district, 12) > 0.45)  # noqa: PLR2004  pixels


def _bare(world: World, shore: Shores, rows: Pixels, cols: Pixels) -> tuple[Patch, Patch, Patch]:
    """Main roads, gravel bars of rivers that are no brooks, beaches."""
    grain = world.grain.at(rows - 91, cols + 401)
    road = world.roads.at(rows, cols)[0] < 0.1  # noqa: PLR2004  a pixel less than the road is wide
    bars = (shore.bank < shore.half * (0.45 + 0.55 * grain)) & (shore.half > 2.2)  # noqa: PLR2004  pixels
    beach = shore.inland < 3 + 2 * world.broad.at(rows + 0.5, cols + 0.5) + grain
    return (road, spectra("asphalt")), (bars, spectra("gravel")), (beach, spectra("sand"))


def _houses(lots: parcels.Parcels, built: NDArray[np.bool_]) -> Grid:
    """(n, 6) reflectance of built pixels: houses of a pixel or two along streets."""
    along, across, key = lots.along[built], lots.across[built], lots.key[built]
    house = np.floor(along / 1.6).astype(np.int32) * 7919 + np.floor(across / 1.6).astype(np.int32)
    kind = np.searchsorted(HOUSE_SHARES, hashed(house, key))
    street = (np.mod(along, 9.0) < 1.0) | (np.mod(across, 7.0) < 0.9)  # noqa: PLR2004  pixels
    kind[street] = 2
    return HOUSES[kind] * (0.85 + 0.35 * hashed(house, 3))[:, None]


def _burn(world: World, fuel: Grid, wild: Grid, rows: Pixels, cols: Pixels) -> tuple[Grid, Grid]:
    """Share of the pixel the fire ran over, and how much of the vegetation it took there."""
    r, c = rows + 0.5, cols + 0.5
    ragged = 6 * world.grain.at(rows + 700, cols + 123) + 14 * world.middling.at(r + 37, c - 59)
    inside = world.fire.inside.at(r, c) + min(1.0, world.size / 4096) ** 0.5 * ragged
    spared = (world.fire.spared.at(r, c) + 0.35 * world.grain.at(rows, cols + 512) - 1.6) * 18
    edge = np.minimum(inside, -spared)
    heat = world.fire.heat.at(r, c) + 0.5 * world.grain.at(rows - 333, cols + 901)
    hot = fire.severity(edge, heat, 1 - wild[3] - wild[4])
    return np.clip(edge + 0.5, 0, 1) * fuel, hot


def _tone(
    world: World, lots: parcels.Parcels, fields: NDArray[np.bool_], wild: Grid, rows: Pixels, cols: Pixels
) -> Grid:
    """Crowns and gaps in woods, soils and growth from field to field."""
    clump = world.clumps.at(rows + 17, cols + 5)
    tone = 1 + clump * np.where(fields, 0.022, 0.045 + 0.07 * (wild[0] + wild[1])).astype(np.float32)
    tone += 0.05 * world.grain.at(rows - 91, cols + 401)
    soil = 0.16 * (hashed(lots.key, 8) - 0.5) + 0.07 * world.broad.at(rows + 0.5, cols + 0.5)
    return tone + soil * fields


def painted(ground: Ground, band: int) -> Grid:
    """Reflectance of one band under even light (rows, cols)."""
    wild = cover.mixed(ground.wild, ground.wild_spectra, band)
    crop = parcels.state_spectra()[:, band].take(ground.crop)
    out = np.where(ground.fields, crop, wild) * ground.tone
    for where, reflectance in ground.patches:
        values = reflectance[:, band]
        out[where] = values[0] if len(values) == 1 else values
    char, soil = (np.float32(REFLECTANCE[k][band]) for k in ("char", "burned_soil"))
    black = 0.35 + 0.55 * ground.burned
    out += ground.burned * (black * char + (1 - black) * soil * ground.tone - out)
    return shores.flooded(out, ground.water, ground.murk, band)
