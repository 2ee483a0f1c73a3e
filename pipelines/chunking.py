"""How an area is cut into chunks: few tiles done twice, all actors busy, memory bounded."""

from __future__ import annotations

from dataclasses import dataclass

from swathe.card import ModelCard
from swathe.lattice import Chunk, Lattice, cut

BLOCK = 512
"""Chunks end on blocks of the final COG, so that no block is made of two parts."""
LARGEST = 8192
"""Side of the largest chunk: what a crash may cost."""
NARROWEST = 1024
"""No chunk of a large area is cut narrower, whatever the model: too many tiles would be done twice."""
MEMORY_MB = 140.0
"""Of one actor's strips; the model comes on top. Larger areas get longer chunks, never wider ones."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A way to cut."""

    height: int
    """Rows of a full chunk."""
    width: int
    """Columns of a full chunk."""
    tiles: int
    """Forwards, the repeated ones included."""
    makespan: float
    """Forwards that the busiest actor does."""


def choose(shape: tuple[int, int], lattice: Lattice, card: ModelCard, actors: int, side: int | None = None) -> Cut:
    """The cut with the smallest cost; ``side`` (pixels) fixes both sides instead, rounded up to blocks."""
    if side is not None:
        fixed = blocks(-(-side // card.output.stride))
        return _judge(shape, lattice, actors, (fixed, fixed))
    widest = min(LARGEST, widest_strip(card))
    candidates = {
        (height, width)
        for height in _sides(shape[0], LARGEST)
        for width in _sides(shape[1], widest)
    }  # fmt: skip
    cuts = [_judge(shape, lattice, actors, candidate) for candidate in sorted(candidates)]
    return min(cuts, key=lambda c: _cost(c, shape, actors))


def chunks(shape: tuple[int, int], cut_: Cut) -> tuple[Chunk, ...]:
    """The partition itself."""
    return cut(shape, cut_.height, cut_.width)


def blocks(length: int) -> int:
    """Round up to whole blocks."""
    return max(1, -(-length // BLOCK)) * BLOCK


def strip_mb(card: ModelCard, width: int, height: int | None = None) -> float:
    """Memory of two strips ``width`` output cells wide (stored numbers, float32, mask; sums and their read-out)."""
    eats, gives = card.input, card.output
    rows = height or eats.chip
    into = rows * width * gives.stride * (eats.times * len(eats.bands) * (4 + 4) + eats.times + 1)
    out = rows // gives.stride * width * gives.depth * 4 * 2
    return 2 * (into + out) / 1e6


def least_mb(card: ModelCard) -> float:
    """Memory that tiles take in any worker, however an area is cut: a batch, in and out, and its narrowest strips.

    What the network itself takes meanwhile comes on top.
    """
    eats, gives = card.input, card.output
    cells = eats.chip // gives.stride
    tile = eats.times * len(eats.bands) * eats.chip**2 + gives.depth * cells**2
    strips = strip_mb(card, max(cells, NARROWEST // gives.stride))
    return card.resources.batch * tile * 4 / 1e6 + strips


def widest_strip(card: ModelCard) -> int:
    """Widest chunk, in output cells, whose strips stay within MEMORY_MB."""
    per_block = strip_mb(card, BLOCK)
    return max(NARROWEST // BLOCK, int(MEMORY_MB // per_block)) * BLOCK


def _sides(length: int, largest: int) -> set[int]:
    fewest = -(-length // largest)
    return {min(blocks(-(-length // n)), blocks(largest)) for n in range(fewest, fewest + 12)}


def _judge(shape: tuple[int, int], lattice: Lattice, actors: int, sides: tuple[int, int]) -> Cut:
    rows = [len(lattice.rows.over(r, min(r + sides[0], shape[0]))) for r in range(0, shape[0], sides[0])]
    cols = [len(lattice.cols.over(c, min(c + sides[1], shape[1]))) for c in range(0, shape[1], sides[1])]
    tiles = sum(rows) * sum(cols)
    rounds = -(-len(rows) * len(cols) // actors)
    # Never more than every chunk being the largest one, never less than an even share.
    makespan = max(min(rounds * max(rows) * max(cols), tiles), tiles / actors)
    return Cut(*sides, tiles, makespan)


def _cost(c: Cut, shape: tuple[int, int], actors: int) -> tuple[float, int, int]:
    """Makespan, and up to 3 % more where there are fewer than two chunks an actor: chunks are not equally full.

    Of cuts that cost the same (methods without overlap repeat nothing) the one with the fewest chunks.
    """
    per_actor = -(-shape[0] // c.height) * -(-shape[1] // c.width) / actors
    unevenness = 1 + 0.03 * max(0.0, 2 - per_actor)
    return c.makespan * unevenness, c.tiles, -c.height * c.width
