"""Farmland: districts with a field pattern of their own, fields in strips, a crop calendar for the two dates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Field, Grid, hashed
from pipelines.demo.spectra import spectra

BUCKET = 16
"""Pixels per cell of the map of nearby district centres."""
NEARBY = 5
"""How many centres a cell of that map remembers: enough that the nearest one of every pixel is among them."""

CROPS: tuple[tuple[float, tuple[str, float, str], tuple[str, float, str]], ...] = (
    # share, then for early July and late August: the likelier state, its probability, the other state
    (0.15, ("olive", 1.0, "olive"), ("olive", 1.0, "olive")),
    (0.07, ("vineyard", 1.0, "vineyard"), ("vineyard", 1.0, "vineyard")),
    (0.05, ("orchard", 1.0, "orchard"), ("orchard", 1.0, "orchard")),
    (0.07, ("fallow", 0.7, "ploughed"), ("fallow", 0.5, "ploughed")),
    (0.43, ("stubble", 0.6, "ripe_wheat"), ("stubble", 0.6, "ploughed")),
    (0.006, ("sunflower", 1.0, "sunflower"), ("sunflower_dry", 0.8, "ploughed")),
    (0.045, ("forage", 0.75, "mown"), ("forage", 0.8, "mown")),
    (0.17, ("maize", 1.0, "maize"), ("maize", 0.55, "maize_late")),
)
"""From dry hillsides to irrigated lowland. Wheat is ripe or cut in July already, so that harvest between the dates
looks like fire only in sunflower and mown forage: as it is where fires are mapped in the Mediterranean."""
FLAMMABLE = ("stubble", "ripe_wheat", "fallow", "olive", "orchard")
"""States that a summer fire runs through; ploughed, mown and irrigated fields stop it."""
STATES = tuple(dict.fromkeys(s for _, *dates in CROPS for likely, _, other in dates for s in (likely, other)))


@dataclass(frozen=True, slots=True, eq=False)
class Districts:
    """Voronoi cells of farmland, each with a direction and a size of its fields."""

    centre: NDArray[np.float32]
    """(k, 2) pixels."""
    angle: Grid
    """(k,) radians."""
    pitch: NDArray[np.float32]
    """(k, 2) field block in pixels, along and across."""
    nearby: NDArray[np.int32]
    """(buckets, buckets, NEARBY) districts whose centre is nearest."""
    offset: int
    """Buckets before the scene's first."""
    warp: Field
    """Standard noise that bends the borders."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcels:
    """Fields of a block of pixels, all (rows, cols)."""

    key: NDArray[np.uint32]
    """The same number within a field."""
    district: NDArray[np.uint32]
    """The same number within a district."""
    farmed: NDArray[np.bool_]
    """Whether the field's middle is fit for farming."""
    border: Grid
    """Pixels to the border of the district: where country roads run."""
    edge: Grid
    """Pixels to the edge of the block of fields: tracks and hedges."""
    along: Grid
    """Pixels along the district's direction."""
    across: Grid
    """Pixels across it."""


def settle(size: int, warp: Field, rng: np.random.Generator) -> Districts:
    """Scatter districts of about 1.7 km over a scene and some way beyond."""
    from scipy.spatial import KDTree

    spacing, beyond = 165.0, 256
    k = int(((size + 2 * beyond) / spacing) ** 2) + 4
    centre = rng.uniform(-beyond, size + beyond, (k, 2)).astype(np.float32)
    n = -(-(size + 2 * 64) // BUCKET)
    middle = (np.arange(n) + 0.5) * BUCKET - 64
    where = np.stack(np.meshgrid(middle, middle, indexing="ij"), axis=-1)
    _, nearby = KDTree(centre).query(where, k=NEARBY)
    pitch = np.stack([rng.uniform(26, 64, k), rng.uniform(16, 38, k)], axis=1).astype(np.float32)
    angle = rng.uniform(0, np.pi, k).astype(np.float32)
    return Districts(centre, angle, pitch, np.asarray(nearby, np.int32), 64 // BUCKET, warp)


def survey(at: Districts, suitable: Field, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Parcels:
    """Fields at these pixels; ``suitable`` > 0 (looked up at each field's middle) is farmed."""
    bend = 9 * at.warp.at(rows + 0.5, cols + 0.5)
    y = rows.astype(np.float32)[:, None] + 0.5 + bend
    x = cols.astype(np.float32)[None, :] + 0.5 - bend
    mine, border = _nearest(at, (rows, cols), (y, x))
    cy, cx = at.centre[:, 0].take(mine), at.centre[:, 1].take(mine)
    sin, cos = np.sin(at.angle).take(mine), np.cos(at.angle).take(mine)
    dy, dx = y - cy, x - cx
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    length, width = at.pitch[:, 0].take(mine), at.pitch[:, 1].take(mine)
    i, j = np.floor(along / length), np.floor(across / width)
    u, v = along - i * length, across - j * width
    block = _key(mine, i.astype(np.int32), j.astype(np.int32))
    strips = 1 + np.floor(hashed(block, 1) * 4)
    strip = np.floor(np.where(hashed(block, 2) < 0.75, u / length, v / width) * strips)  # noqa: PLR2004  mostly lengthwise
    mid_u, mid_v = (i + 0.5) * length, (j + 0.5) * width
    farmed = _lookup(suitable, cy + mid_u * sin + mid_v * cos, cx + mid_u * cos - mid_v * sin) > 0
    edge = np.minimum(np.minimum(u, length - u), np.minimum(v, width - v))
    return Parcels(_key(block, strip.astype(np.int32)), mine.astype(np.uint32), farmed, border, edge, along, across)


def _nearest(
    at: Districts, pixels: tuple[NDArray[np.integer], NDArray[np.integer]], place: tuple[Grid, Grid]
) -> tuple[NDArray[np.int32], Grid]:
    """District of every pixel, and about how many pixels to its border."""
    n = at.nearby.shape[0]
    r, c = (np.clip(p // BUCKET + at.offset, 0, n - 1) for p in pixels)
    candidates = at.nearby.take(r, axis=0).take(c, axis=1)
    mine = candidates[..., 0]
    best = np.full(mine.shape, np.inf, np.float32)
    second = best
    for k in range(NEARBY):
        other = candidates[..., k]
        d = (place[0] - at.centre[:, 0].take(other)) ** 2
        d += (place[1] - at.centre[:, 1].take(other)) ** 2
        closer = d < best
        second = np.where(closer, best, np.minimum(second, d))
        mine = np.where(closer, other, mine)
        best = np.where(closer, d, best)
    return mine, (np.sqrt(second) - np.sqrt(best)) / 2


def _key(*parts: NDArray[np.integer]) -> NDArray[np.uint32]:
    return (hashed(*parts) * np.float32(2**24)).astype(np.uint32)


def _lookup(field: Field, row: Grid, col: Grid) -> Grid:
    """Nearest node of a field at scattered pixels."""
    n = field.nodes.shape[0]
    i = np.clip(((row - np.float32(field.origin)) / np.float32(field.step)).astype(np.int32), 0, n - 1)
    j = np.clip(((col - np.float32(field.origin)) / np.float32(field.step)).astype(np.int32), 0, n - 1)
    return field.nodes.ravel().take(i * n + j)


def crops(parcels: Parcels, lowland: Grid) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Index into STATES before and after; ``lowland`` (0 hillside .. 1 river plain) moves the mix of crops."""
    ends = np.cumsum([share for share, *_ in CROPS])
    taste = hashed(parcels.district, 3) - 0.5
    draw = np.clip(hashed(parcels.key, 4) + 0.16 * taste + 0.42 * (lowland - 0.5), 0, 0.999) * ends[-1]
    crop = np.searchsorted(ends, draw.ravel()).reshape(draw.shape)
    return _state(crop, hashed(parcels.key, 5), 0), _state(crop, hashed(parcels.key, 6), 1)


def _state(crop: NDArray[np.integer], draw: Grid, date: int) -> NDArray[np.uint8]:
    plans = [after if date else before for _, before, after in CROPS]
    likely, other = (
        np.array([STATES.index(s) for s in names], np.uint8) for names in ([p[0] for p in plans], [p[2] for p in plans])
    )
    chance = np.array([p[1] for p in plans], np.float32)
    return np.where(draw < chance.take(crop), likely.take(crop), other.take(crop))


def burns(state: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether fields in these states carry a fire."""
    return np.array([s in FLAMMABLE for s in STATES]).take(state)


def state_spectra() -> Grid:
    """(len(STATES), 6) reflectances."""
    return spectra(*STATES)
