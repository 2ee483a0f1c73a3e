"""The order in which a chunk is read and its tiles are done: whole rows, or pieces that follow the imagery's blocks.

Over a network blocks come one after the other, and each is higher than a row of tiles. Row after row, the network
would first wait for a whole row of blocks, and have all their tiles left when the last byte has come. So the rows of
tiles that one row of blocks completes are done together, one column of blocks after the other::

    blocks     tiles of 3 rows: first a, then b, then c
    +---+---+---+      a a b b b c c c
    |   |   |   |      a a b b b c c c
    +---+---+---+      a a b b b c c c

A chunk begins with two rows of blocks at once. One row of blocks completes hardly more than one row of tiles: a batch
of eight would take half of it, and the network would wait while the link brings the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from swathe.lattice import Chunk, Tile
from swathe.plan import Work
from swathe.window import Window

ROWS = 3
"""Rows of tiles that are done together, at most; at a chunk's start twice as many. Predictions of all are held."""


@dataclass(frozen=True, slots=True)
class Grain:
    """Blocks in which imagery comes, on the grid of its pixels."""

    row: int
    """First row of one of them."""
    col: int
    """First column of one of them."""
    side: int
    """Of each, in pixels."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is read at once: a rectangle of tiles."""

    rows: tuple[tuple[Tile, ...], ...]
    """Neighbouring rows of tiles, from top to bottom, over the same columns."""
    window: Window
    """All of them, in cells of the output grid."""


def groups(chunk: Chunk, work: Work, grain: Grain | None) -> Iterator[tuple[list[list[Tile]], Iterator[Piece]]]:
    """Whole rows of tiles that are done together, and their pieces from left to right.

    Without a grain: one row, in one piece. Depends on imagery and chunk alone, so every driver fills its batches alike.
    """
    rows = work.lattice.over(chunk.window)
    if grain is None:
        yield from (([row], iter([_piece([row])])) for row in rows)
        return

    def last_block(row: list[Tile]) -> int:
        return (work.pixels_of(row[0].window).bottom - 1 - grain.row) // grain.side

    most, second = 2 * ROWS, (work.pixels_of(rows[0][0].window).row - grain.row) // grain.side + 1
    for _, several in groupby(rows, lambda row: max(last_block(row), second)):
        while group := list(islice(several, most)):
            yield group, _pieces(group, work, grain)
            most = ROWS


def windows(chunk: Chunk, work: Work, grain: Grain | None) -> Iterator[Window]:
    """What is read for a chunk, in this order, in cells of the output grid."""
    return (piece.window for _, pieces in groups(chunk, work, grain) for piece in pieces)


def hull(tiles: Sequence[Tile]) -> Window:
    """All tiles of a row."""
    first, last = tiles[0].window, tiles[-1].window
    return Window(first.row, first.col, first.height, last.right - first.col)


def _pieces(group: list[list[Tile]], work: Work, grain: Grain) -> Iterator[Piece]:
    """A piece ends with the last tile that a column of blocks completes."""
    start = 0
    for _, tiles in groupby(group[0], lambda tile: (work.pixels_of(tile.window).right - 1 - grain.col) // grain.side):
        stop = start + sum(1 for _ in tiles)
        yield _piece([row[start:stop] for row in group])
        start = stop


def _piece(rows: list[list[Tile]]) -> Piece:
    first, last = hull(rows[0]), hull(rows[-1])
    window = Window(first.row, first.col, last.bottom - first.row, first.width)
    return Piece(tuple(tuple(row) for row in rows), window)
