"""How steep the seams between tiles are: prints the table of docs/benchmarks.md.

python -m benchmarks.seams [--seeds 3] [--out out/bench]

A network of random numbers is the worst case: nothing has taught it that a pixel's value does not depend on where in
the tile the pixel lies. Its tiles are joined as the engine does it, and as a hard crop of their centres does it. Both
maps are measured alike, line of pixels by line of pixels: the mean step from one line to the next; the largest of those
where tiles meet, over the mean of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import CARD, ROOT, Place, planned
from models.predictor import Predictor
from models.prepare import to_model_units
from pipelines.imagery.read import Reader
from pipelines.process import process
from swathe.card import ModelCard
from swathe.imagery import Imagery
from swathe.lattice import Axis, Chunk, Tile
from swathe.plan import Work
from swathe.window import Window

SCENE = 2048
SIDE = 1600
"""Of the part that is looked at; tiles beyond it take part as they do anywhere."""
Map = NDArray[np.float32]


def network(card: ModelCard, checkpoint: Path, seed: int) -> Predictor:
    """The card's network with seeded random numbers, in eager PyTorch."""
    from models.runtimes import setup_of
    from models.runtimes.eager import wrap
    from models.terratorch import build, write_random_checkpoint

    return wrap(build(card, write_random_checkpoint(card, checkpoint, seed)), setup_of(card, threads=2))


def blended(work: Work, predict: Predictor, reader: Reader, window: Window) -> Map:
    """(K, h, w) as the engine makes it; NaN where there is no imagery."""
    found = np.full((work.card.output.depth, window.height, window.width), np.nan, np.float32)
    for block in process(Chunk("seams", window), work, reader.read, predict, lambda _: None):
        rows = slice(block.row - window.row, block.row - window.row + block.data.shape[1])
        found[:, rows] = np.where(block.mask, block.data, np.nan)
    return found


def cropped(work: Work, predict: Predictor, reader: Reader, window: Window) -> Map:
    """(K, h, w) of the tiles' centres side by side: half of the overlap is cut off each tile."""
    found = np.full((work.card.output.depth, window.height, window.width), np.nan, np.float32)
    half = work.lattice.rows.overlap // 2
    for tile, answer in _answers(work, predict, reader, window):
        seen = tile.window
        top, left = (half if tile.row else 0), (half if tile.col else 0)
        own = Window(seen.row + top, seen.col + left, seen.height - top - half, seen.width - left - half)
        here = own.intersection(window)
        if here is not None:
            found[(slice(None), *here.within(window))] = answer[(slice(None), *here.within(seen))]
    return found


def _answers(work: Work, predict: Predictor, reader: Reader, window: Window) -> Iterator[tuple[Tile, Map]]:
    """Each tile over the window with what the network says of it, in batches of the card."""
    tiles = [tile for row in work.lattice.over(window) for tile in row]
    batch = work.card.resources.batch
    for start in range(0, len(tiles), batch):
        some = tiles[start : start + batch]
        full = some + [some[-1]] * (batch - len(some))
        units = np.stack([to_model_units(reader.read(tile.window), work.card.input) for tile in full])
        yield from zip(some, predict(units), strict=False)


def steepness(found: Map, lines: tuple[Axis, Axis]) -> float:
    """The steepest line where tiles meet over the mean of the others, in the direction where that is more."""
    return max(_along(found, axis, line) for axis, line in enumerate(lines, 1))


def _along(found: Map, axis: int, line: Axis) -> float:
    steps = np.nanmean(np.abs(np.diff(found, axis=axis)), axis=(0, 3 - axis))
    meet = np.zeros(len(steps), np.bool_)
    for index in line.over(0, found.shape[axis]):
        start = line.start(index)
        if start > 0:
            meet[start - 1 : start + line.overlap] = True
    return float(steps[meet].max() / steps[~meet].mean())


def measured(root: Path, seeds: int) -> dict[str, list[float]]:
    """Way of joining -> steepness, one figure a seed."""
    from models.registry import load_cards

    card = load_cards((ROOT / "configs" / "models",))[CARD]
    work = planned(card, Place(root).scene(SCENE).post, actors=1).work
    assert isinstance(work.imagery, Imagery)
    window, lines = Window(0, 0, SIDE, SIDE), (work.lattice.rows, work.lattice.cols)
    found: dict[str, list[float]] = {"centres of tiles, cropped hard": [], "cosine ramp over the overlap (swathe)": []}
    with Reader(work.imagery) as reader:
        for seed in range(seeds):
            predict = network(card, root / f"random-{seed}.ckpt", seed)
            for name, joined in zip(found, (cropped, blended), strict=True):
                found[name].append(steepness(joined(work, predict, reader, window), lines))
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="networks (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="default: %(default)s")
    given = parser.parse_args()
    print("| how tiles are joined | steepest line where tiles meet / mean line elsewhere |\n|---|---|")
    for name, values in measured(given.out, given.seeds).items():
        print(f"| {name} | {median(values):.1f} ({min(values):.1f} to {max(values):.1f}) |")


if __name__ == "__main__":
    main()
