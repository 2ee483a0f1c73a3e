"""The heart: one chunk from pixels to blended predictions, in strips that march down it.

Every driver (the plain loop, Ray Data, a request) calls :func:`process`, so they give the same pixels.
Memory is two strips (one row of tiles high, one chunk wide), whatever the area; where imagery comes in blocks over a
network, pieces of it and the predictions of a few strips (``pipelines.pieces``).

    read      strip of imagery, one row of tiles high, or a piece of a few      (a thread ahead)
    tiles     those that hold a wanted pixel, in batches of fixed size that run on across strips
    across    tiles of a row are blended into one strip
    down      the strip's upper ramp is blended with the lower ramp of the one before, and rows are given out
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from models.prepare import gain_and_bias
from pipelines.ahead import ahead
from pipelines.batches import Batches, Blend, Floats, Loaded, Tally
from pipelines.pieces import Grain, Piece, groups, hull
from swathe.errors import ReadError
from swathe.lattice import Chunk, Tile, ramp
from swathe.plan import Work
from swathe.raster import Raster, Stack
from swathe.window import Window

Read = Callable[[Window], Stack]
Inside = Callable[[Window], NDArray[np.bool_] | None]
PATIENCE = 8
"""Tiles that may be lost one after the other before the rest of a chunk is not tried."""


def process(  # noqa: PLR0913  what is done, and with what
    chunk: Chunk,
    work: Work,
    read: Read,
    predict: Predictor,
    inside: Inside,
    tally: Tally | None = None,
    *,
    grain: Grain | None = None,
) -> Generator[Raster]:
    """Give the chunk's rows from top to bottom, as blocks of blended predictions on the output grid.

    A pixel's value depends on the tiles that cover it and on nothing else. Lost tiles weigh nothing and are
    listed in ``tally``; pixels that only they covered are masked out and counted as lost. ``grain``: the blocks in
    which imagery comes, whose order is followed.
    """
    tally = tally if tally is not None else Tally()
    # Closed by hand: after an interruption its traceback would keep the thread reading, while files are closed.
    with (
        closing(ahead(_loaded(chunk, work, read, inside, tally, grain))) as read_ahead,
        closing(Batches(work, predict, tally)) as batches,
    ):
        yield from _down(_across(read_ahead, batches), chunk, work, tally)


# --- read -----------------------------------------------------------------------------------------------------------


def _loaded(
    chunk: Chunk, work: Work, read: Read, inside: Inside, tally: Tally, grain: Grain | None
) -> Iterator[Loaded]:
    """Read piece after piece; runs in the reader's thread."""
    for rows, pieces in groups(chunk, work, grain):
        blends = tuple(Blend.of(row, work) for row in rows)
        for n, piece in enumerate(pieces):
            started = time.perf_counter()
            stack, lost = _read_or_salvage(piece, work, read, tally)
            wanted = _wanted(stack, piece.window, chunk, work, inside)
            tiles = tuple(
                _chosen(row, blend, lost, wanted, piece.window, tally)
                for row, blend in zip(piece.rows, blends, strict=True)
            )
            tally.read_s += time.perf_counter() - started
            dropped = tuple(len(row) - len(kept) for row, kept in zip(piece.rows, tiles, strict=True))
            scaling = gain_and_bias(stack, work.card.input)
            yield Loaded(tiles, dropped, blends, n == 0, piece.window, stack, scaling)


def _chosen(
    row: tuple[Tile, ...], blend: Blend, lost: frozenset[Tile], wanted: NDArray[np.bool_], window: Window, tally: Tally
) -> tuple[Tile, ...]:
    """Tiles of a row that hold a wanted cell; what is wanted is noted for the row."""
    part = hull(row)
    blend.wanted[part.within(blend.window)] |= wanted[part.within(window)]
    tiles = []
    for tile in row:
        if tile in lost:
            continue
        if wanted[tile.window.within(window)].any():
            tiles.append(tile)
        else:
            tally.skipped += 1
    return tuple(tiles)


def _read_or_salvage(piece: Piece, work: Work, read: Read, tally: Tally) -> tuple[Stack, frozenset[Tile]]:
    """The piece in one read; where that is lost, tile by tile, so that one bad block costs one tile."""
    try:
        if tally.lost_running < PATIENCE:
            return read(work.pixels_of(piece.window)), frozenset()
    except ReadError:
        pass
    return _salvage(piece, work, read, tally)


def _salvage(piece: Piece, work: Work, read: Read, tally: Tally) -> tuple[Stack, frozenset[Tile]]:
    lost: set[Tile] = set()
    whole: Stack | None = None
    for tile in (tile for row in piece.rows for tile in row):
        stack = _tile_or_none(tile, work, read, tally)
        if stack is None:
            lost.add(tile)
            continue
        whole = whole or _blank(stack, work.pixels_of(piece.window))
        rows, cols = work.pixels_of(tile.window).within(work.pixels_of(piece.window))
        whole.data[:, :, rows, cols] = stack.data
        whole.mask[:, rows, cols] = stack.mask
    return whole or _nothing(work, work.pixels_of(piece.window)), frozenset(lost)


def _tile_or_none(tile: Tile, work: Work, read: Read, tally: Tally) -> Stack | None:
    """One tile's imagery, or None where it is lost.

    After PATIENCE tiles lost in a row the rest of the chunk is not tried: every try takes all the pauses of a read
    that is repeated, and a server that is down would hold the run for hours.
    """
    if tally.lost_running >= PATIENCE:
        tally.fail(
            tile, ReadError("not tried: the tiles before it were lost one after the other", code="read.given_up")
        )
        return None
    try:
        stack = read(work.pixels_of(tile.window))
    except ReadError as error:
        tally.lost_running += 1
        tally.fail(tile, error)
        return None
    tally.lost_running = 0
    return stack


def _blank(like: Stack, window: Window) -> Stack:
    t, c = like.data.shape[:2]
    data = np.zeros((t, c, window.height, window.width), like.data.dtype)
    return Stack(data, np.zeros((t, window.height, window.width), bool), like.scale, like.offset)


def _nothing(work: Work, window: Window) -> Stack:
    t, c = len(work.imagery.dates), len(work.card.input.bands)
    data = np.zeros((t, c, window.height, window.width), np.int16)
    return Stack(data, np.zeros((t, window.height, window.width), bool), np.ones(c), np.zeros(c))


def _wanted(stack: Stack, window: Window, chunk: Chunk, work: Work, inside: Inside) -> NDArray[np.bool_]:
    """(h, w) cells of a piece that lie in chunk and area and have valid imagery (any, where a cell is a patch)."""
    valid, s = stack.valid, work.stride
    if s > 1:
        valid = np.logical_or.reduce(valid.reshape(window.height, s, window.width, s), axis=(1, 3))
    wanted = np.zeros((window.height, window.width), bool)
    part = window.intersection(chunk.window)
    if part is None:
        return wanted
    cut = part.within(window)
    wanted[cut] = valid[cut]
    area = inside(part)
    if area is not None:
        wanted[cut] &= area
    return wanted


# --- predict and blend across ---------------------------------------------------------------------------------------


def _across(pieces: Iterator[Loaded], batches: Batches) -> Iterator[Blend]:
    """Run all tiles in batches of fixed size and blend each row; rows come out whole and in order."""
    waiting: deque[Blend] = deque()
    for piece in pieces:
        if piece.starts:
            waiting.extend(piece.blends)
        for tiles, dropped, blend in zip(piece.rows, piece.dropped, piece.blends, strict=True):
            blend.pending -= dropped
            for tile in tiles:
                batches.add(tile, piece, blend)
        while waiting and not waiting[0].pending:
            yield _without_gaps(waiting.popleft())
    batches.finish()
    yield from map(_without_gaps, waiting)


def _without_gaps(blend: Blend) -> Blend:
    """Sums are 0 where no tile was placed: the room was not cleared before, as nearly all of it is written to."""
    gaps = blend.weight == 0
    if blend.sums.size and gaps.any():
        blend.sums[..., gaps] = 0
    return blend


# --- blend down -----------------------------------------------------------------------------------------------------


def _down(blends: Iterator[Blend], chunk: Chunk, work: Work, tally: Tally) -> Iterator[Raster]:
    """Join each strip's upper ramp with the lower ramp of the strip above, and give out finished rows."""
    rise = ramp(work.lattice.rows.overlap)
    fall, o = rise[::-1], len(rise)
    above: Blend | None = None
    for blend in blends:
        side = blend.window.height
        upper = _faded(blend, slice(0, o), rise)
        if above is not None:
            lower = _faded(above, slice(0, o), fall)
            upper = lower[0] + upper[0], lower[1] + upper[1]
        yield from _rows(upper, blend, 0, chunk, tally)
        yield from _rows((blend.sums[:, o : side - o], blend.weight[None]), blend, o, chunk, tally)
        blend.sums = blend.sums[:, side - o :].copy()  # its lower ramp; the rest goes as soon as it is written
        above = blend
    if above is not None:
        yield from _rows(_faded(above, slice(0, o), fall), above, above.window.height - o, chunk, tally)


def _faded(blend: Blend, rows: slice, fade: Floats) -> tuple[Floats, Floats]:
    """Weighted sums (K, o, w) and weights (o, w) of a strip's ramp, with the fade down applied."""
    height, width = len(fade), blend.window.width
    weight = np.multiply(blend.weight[None], fade[:, None], dtype=np.float32)
    if not blend.sums.size:  # no tile of the strip was wanted
        return np.zeros((len(blend.sums), height, width), np.float32), weight
    return np.multiply(blend.sums[:, rows], fade[:, None], dtype=np.float32), weight


def _rows(weighted: tuple[Floats, Floats], blend: Blend, first: int, chunk: Chunk, tally: Tally) -> Iterator[Raster]:
    """Cut rows ``first ..`` of a strip to the chunk and divide by the weights; nothing where none lie in it.

    ``weighted``: sums (K, h, w), divided in place, as nobody needs them again; weights (h, w) or (1, w).
    """
    started = time.perf_counter()
    sums, weight = weighted
    height, window = sums.shape[1], blend.window
    if not height:
        return
    part = Window(window.row + first, window.col, height, window.width).intersection(chunk.window)
    if part is None:
        return
    rows, cols = part.within(Window(window.row + first, window.col, height, window.width))
    wanted = blend.wanted[first + rows.start : first + rows.stop, cols]
    weight = weight[rows if len(weight) > 1 else slice(None), cols]
    covered = weight > 0
    whole = bool(covered.all())
    mask = wanted if whole else wanted & covered
    if sums.size:
        data = sums[:, rows, cols]
        np.divide(data, weight, out=data, where=whole or covered)
    else:
        data = np.zeros((len(sums), part.height, part.width), np.float32)
    asked = int(np.count_nonzero(wanted))
    tally.wanted += asked
    tally.lost += asked - int(np.count_nonzero(mask))
    tally.blend_s += time.perf_counter() - started
    yield Raster(part.row, part.col, data, mask)
