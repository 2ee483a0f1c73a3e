"""Whether an exported network gives the numbers of the original: tiles to try, differences, and the rule.

For fp32: no number differs by more than 1e-4 (of the largest number, where they are no probabilities), and at most 10
pixels per million change class, each of them a tie: its two classes less than 1e-4 apart. Ties below 1e-5 are not
counted, as a network that was hardly trained has them everywhere. bf16 is asked for knowing that it differs; what
rounding cannot explain (three digits of bf16, through dozens of layers) is refused there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from swathe.errors import ImageryError

MAX_DIFF = 1e-4
MAX_FLIPS_PPM = 10.0
TIE = 1e-4
DEAD_HEAT = 1e-5
ROUNDED = 0.1
"""Largest difference that bf16 explains; trained networks were measured at 0.01 to 0.05."""
RANDOM_TILES = 16

Tiles = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two results."""

    max_abs: float
    """Largest of any number, as a share of the largest number where that is above 1."""
    flips: int = 0
    """Pixels whose class differs."""
    counted: int = 0
    """Of these, pixels that were no dead heat."""
    widest_margin: float = 0.0
    """First minus second number of the reference, largest among the flipped pixels."""
    pixels: int = 1
    """Compared."""

    @property
    def flips_ppm(self) -> float:
        """Pixels per million whose class differs."""
        return 1e6 * self.flips / self.pixels


def trial_tiles(shape: tuple[int, ...], real: Tiles | None = None) -> Tiles:
    """At least 16 seeded random tiles, and real ones if given, (M, T, C, h, w) with M a multiple of the batch.

    ``shape`` is that of a batch. Half of the random tiles are white noise, half are smooth, as imagery is.
    """
    batch, *rest = shape
    count = batch * ceil(RANDOM_TILES / batch)
    random = np.random.default_rng(20_240_607)
    tiles = random.standard_normal((count, *rest), dtype=np.float32)
    for tile in tiles[1::2]:
        _smooth(tile, random.uniform(0.5, 2.0))
    if real is None or not len(real):
        return tiles
    whole = np.resize(real, (batch * ceil(len(real) / batch), *rest))  # repeats them up to a whole batch
    return np.concatenate([tiles, whole])


def _smooth(tile: Tiles, contrast: float) -> None:
    """Sum along rows and columns in place: a random surface; then bring it to ``contrast`` standard deviations."""
    for axis in (-1, -2):
        np.cumsum(tile, axis=axis, out=tile)
    tile -= tile.mean(axis=(-1, -2), keepdims=True)
    tile *= contrast / np.maximum(tile.std(axis=(-1, -2), keepdims=True), 1e-6)


def read_tiles(path: Path, shape: tuple[int, ...]) -> Tiles:
    """Real tiles of an ``.npz`` file (array ``tiles``), (M, T, C, h, w) in model units. Raises ``ImageryError``."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            tiles = archive["tiles"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ImageryError(f"{path} is no .npz file with an array `tiles`: {error}", code="imagery.tiles") from error
    if tiles.shape[1:] != shape[1:] or not np.isfinite(tiles).all():
        raise ImageryError(f"{path} holds {tiles.shape}, wanted (M, {shape[1:]}) finite", code="imagery.tiles")
    return np.ascontiguousarray(tiles, np.float32)


def run_all(predict: Predictor, tiles: Tiles, batch: int) -> Tiles:
    """Results of all tiles, batch by batch; M is a multiple of the batch."""
    return np.concatenate([predict(tiles[i : i + batch]).copy() for i in range(0, len(tiles), batch)])


def compare(reference: Tiles, result: Tiles, classes: bool) -> Difference:
    """Differences of two results of (M, K, h, w)."""
    largest = float(np.abs(result - reference).max()) / max(1.0, float(np.abs(reference).max()))
    if not classes:
        return Difference(largest)
    first, second = np.moveaxis(np.partition(reference, -2, axis=1)[:, -2:], 1, 0)[::-1]
    flipped = reference.argmax(axis=1) != result.argmax(axis=1)
    margins = (first - second)[flipped]
    return Difference(
        largest,
        flips=int(flipped.sum()),
        counted=int((margins >= DEAD_HEAT).sum()),
        widest_margin=float(margins.max(initial=0.0)),
        pixels=flipped.size,
    )


def worst(differences: list[Difference]) -> Difference:
    """All of them as one."""
    return Difference(
        max(d.max_abs for d in differences),
        sum(d.flips for d in differences),
        sum(d.counted for d in differences),
        max(d.widest_margin for d in differences),
        sum(d.pixels for d in differences),
    )


def objection(difference: Difference, precision: str) -> str:
    """Why the result is not good enough; empty: it is."""
    if precision != "fp32":
        far = not difference.max_abs <= ROUNDED  # so written that NaN fails
        return f"numbers differ by up to {difference.max_abs:.2g}, {precision} explains {ROUNDED:g}" if far else ""
    if not difference.max_abs <= MAX_DIFF:  # so written that NaN fails
        return f"numbers differ by up to {difference.max_abs:.2g}, allowed are {MAX_DIFF:g}"
    if difference.widest_margin >= TIE:
        return f"a pixel changes class although its classes are {difference.widest_margin:.2g} apart"
    ppm = 1e6 * difference.counted / difference.pixels
    if ppm > MAX_FLIPS_PPM:
        return f"{ppm:.1f} pixels per million change class, allowed are {MAX_FLIPS_PPM:g}"
    return ""
