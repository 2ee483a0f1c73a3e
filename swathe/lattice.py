"""Where tiles lie: a regular lattice anchored to a fixed origin, never to the area asked for.

One axis of it, for tile 224 and overlap 32 (stride 192)::

    tile 0  |=======================~~~|
    tile 1                         |~~~====================~~~|
            0                      192 224                  384 416
            = flat core, weight 1       ~ ramp, the two weights sum to 1

A pixel's value is the weighted mean of every tile that covers it. Which tiles those are depends on the
lattice alone, so a shifted, split or enlarged area leaves every shared pixel as it was. Tiles overhang the
edge of the imagery and are padded; none is shifted inwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swathe.window import Window


def ramp(overlap: int) -> NDArray[np.float32]:
    """(overlap,) rising half of a raised cosine, all > 0; ``ramp + ramp[::-1]`` is 1."""
    k = np.arange(overlap, dtype=np.float64)
    rise = 0.5 - 0.5 * np.cos(np.pi * (k + 0.5) / max(overlap, 1))
    return rise.astype(np.float32)


def tile_weight(tile: int, overlap: int) -> NDArray[np.float32]:
    """(tile,) weight of a tile along one axis: ramp, flat core, ramp. In two dimensions: the outer product."""
    weight = np.ones(tile, dtype=np.float32)
    if overlap:
        rise = ramp(overlap)
        weight[:overlap] = rise
        weight[-overlap:] = rise[::-1]
    return weight


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a lattice; positions are in pixels of the output grid."""

    tile: int
    """Side of a tile, in pixels."""
    overlap: int
    """Pixels that a tile shares with each neighbour; at most half a tile, so that no more than two meet."""
    origin: int
    """Where tile 0 starts, in pixels of the output grid (often negative: the grid is a crop)."""
    count: int | None = None
    """Tiles 0 .. count - 1 exist; None: the lattice has no end in either direction."""

    def __post_init__(self) -> None:
        """Refuse lattices on which three tiles would meet or none would move on."""
        if self.tile < 1 or not 0 <= self.overlap <= self.tile // 2:
            msg = f"overlap {self.overlap} must lie in 0 .. half of tile {self.tile}"
            raise ValueError(msg)

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.tile - self.overlap

    @classmethod
    def of_file(cls, tile: int, overlap: int, length: int, crop: int = 0) -> Axis:
        """The lattice of a file ``length`` pixels long, seen from a grid that starts at its pixel ``crop``."""
        stride = tile - overlap
        return cls(tile, overlap, -crop, max(1, -(-(length - overlap) // stride)))

    @classmethod
    def of_grid(cls, tile: int, overlap: int, corner: int) -> Axis:
        """The endless lattice of a CRS at one resolution, seen from a grid that starts at its pixel ``corner``."""
        return cls(tile, overlap, -(corner % (tile - overlap)))

    def start(self, index: int) -> int:
        """First pixel of a tile."""
        return self.origin + index * self.stride

    def over(self, start: int, stop: int) -> range:
        """Indices of all tiles that cover any pixel of ``start .. stop``."""
        first = (start - self.origin - self.tile) // self.stride + 1
        last = (stop - 1 - self.origin) // self.stride
        if self.count is not None:
            first, last = max(first, 0), min(last, self.count - 1)
        return range(first, last + 1)


@dataclass(frozen=True, slots=True)
class Tile:
    """What the network sees: one square of the lattice."""

    row: int
    """Index along the rows axis of the lattice."""
    col: int
    """Index along the columns axis."""
    window: Window
    """Its pixels on the output grid; may overhang it."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Tiles in two dimensions."""

    rows: Axis
    """Down."""
    cols: Axis
    """Across."""

    @classmethod
    def of_file(cls, tile: int, overlap: int, shape: tuple[int, int], crop: tuple[int, int] = (0, 0)) -> Lattice:
        """Anchored at a file's origin; ``shape`` is the file's (rows, cols), ``crop`` the grid's corner in it."""
        return cls(
            Axis.of_file(tile, overlap, shape[0], crop[0]),
            Axis.of_file(tile, overlap, shape[1], crop[1]),
        )

    @classmethod
    def of_grid(cls, tile: int, overlap: int, corner: tuple[int, int]) -> Lattice:
        """Anchored at the origin of a CRS; ``corner`` is the grid's first (row, col), counted from there."""
        return cls(Axis.of_grid(tile, overlap, corner[0]), Axis.of_grid(tile, overlap, corner[1]))

    def tile(self, row: int, col: int) -> Tile:
        """The tile of these indices."""
        side = self.rows.tile
        return Tile(row, col, Window(self.rows.start(row), self.cols.start(col), side, side))

    def over(self, window: Window) -> list[list[Tile]]:
        """All tiles that cover any pixel of ``window``, row by row."""
        cols = self.cols.over(window.col, window.right)
        return [[self.tile(r, c) for c in cols] for r in self.rows.over(window.row, window.bottom)]

    def count_over(self, window: Window) -> int:
        """How many tiles cover any pixel of ``window``."""
        rows, cols = self.rows.over(window.row, window.bottom), self.cols.over(window.col, window.right)
        return len(rows) * len(cols)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of work, of retry and of file: a rectangle of the output grid that one actor does whole."""

    key: str
    """Names its files, e.g. ``r00003c00012``."""
    window: Window
    """The pixels it owns; chunks partition the grid."""


def cut(shape: tuple[int, int], height: int, width: int) -> tuple[Chunk, ...]:
    """Partition a grid of ``shape`` (rows, cols) into chunks of at most ``height`` x ``width`` pixels."""
    return tuple(
        Chunk(
            f"r{i:05d}c{j:05d}",
            Window(row, col, min(height, shape[0] - row), min(width, shape[1] - col)),
        )
        for i, row in enumerate(range(0, shape[0], height))
        for j, col in enumerate(range(0, shape[1], width))
    )
