"""The heart: one chunk from pixels to blended predictions, in strips that march down it.

Every driver (the plain loop, Ray Data, a request) calls :func:`process`, so they give the same pixels.
Memory is two strips (one row of tiles high, one chunk wide), whatever the area.

    read      strip of imagery, one row of tiles high      (a thread ahead)
    tiles     those that hold a wanted pixel, in batches of fixed size that run on across strips
    across    tiles of a row are blended into one strip
    down      the strip's upper ramp is blended with the lower ramp of the one before, and rows are given out
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from models.prepare import fill_units, gain_and_bias
from pipelines.ahead import ahead
from swathe.errors import ModelError, ReadError, SwatheError
from swathe.lattice import Chunk, Tile, ramp
from swathe.plan import Work
from swathe.raster import Raster, Stack
from swathe.window import Window

Read = Callable[[Window], Stack]
Inside = Callable[[Window], NDArray[np.bool_] | None]
Floats = NDArray[np.float32]
PATIENCE = 8
"""Tiles that may be lost one after the other before the rest of a chunk is not tried."""


@dataclass(slots=True)
class Tally:
    """What became of a chunk's tiles and where the time went; filled while it runs."""

    tiles: int = 0
    """Forwards of the network."""
    skipped: int = 0
    """Tiles without a wanted pixel."""
    failed: list[dict[str, object]] = field(default_factory=list)
    """Tiles lost: row, col, problem."""
    lost_running: int = 0
    """Tiles whose imagery was lost one after the other; PATIENCE of them and the chunk is given up."""
    wanted: int = 0
    """Valid pixels inside the area."""
    lost: int = 0
    """Wanted pixels without a value."""
    read_s: float = 0.0
    """Reading, in the reader's thread."""
    predict_s: float = 0.0
    """In the network."""
    blend_s: float = 0.0
    """Cutting out and normalising tiles, and blending their results."""

    def fail(self, tile: Tile, error: SwatheError) -> None:
        """Note a lost tile."""
        self.failed.append({"row": tile.row, "col": tile.col, "error": error.problem.line()})


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """One row of tiles, as read."""

    tiles: tuple[Tile, ...]
    """Those to predict, left to right."""
    window: Window
    """All tiles of the row, in cells of the output grid."""
    stack: Stack
    """Their pixels. They become model units tile by tile: a whole strip of those would be twice as large."""
    scaling: tuple[Floats, Floats]
    """Gain and bias per band that do so."""
    wanted: NDArray[np.bool_]
    """(h, w) cells that should get a value."""


@dataclass(slots=True)
class Blend:
    """Predictions of one row of tiles, blended across."""

    window: Window
    """All tiles of the row, in cells of the output grid."""
    wanted: NDArray[np.bool_]
    """(h, w) cells that should get a value."""
    sums: NDArray[np.float32]
    """(K, h, w) weighted sums."""
    weight: NDArray[np.float32]
    """(w,) sums of weights across; 0 where no tile was predicted."""
    pending: int
    """Tiles still to come."""


def process(
    chunk: Chunk, work: Work, read: Read, predict: Predictor, inside: Inside, tally: Tally | None = None
) -> Generator[Raster]:
    """Give the chunk's rows from top to bottom, as blocks of blended predictions on the output grid.

    A pixel's value depends on the tiles that cover it and on nothing else. Lost tiles weigh nothing and are
    listed in ``tally``; pixels that only they covered are masked out and counted as lost.
    """
    tally = tally if tally is not None else Tally()
    # Closed by hand: after an interruption its traceback would keep the thread reading, while files are closed.
    with closing(ahead(_strips(chunk, work, read, inside, tally))) as read_ahead:
        yield from _down(_across(read_ahead, work, predict, tally), chunk, work, tally)


# --- read -----------------------------------------------------------------------------------------------------------


def strips(chunk: Chunk, work: Work) -> Iterator[Window]:
    """What is read for a chunk, in this order, in cells of the output grid."""
    return (_hull(row) for row in work.lattice.over(chunk.window))


def _strips(chunk: Chunk, work: Work, read: Read, inside: Inside, tally: Tally) -> Iterator[Strip]:
    """Read row after row of tiles; runs in the reader's thread."""
    for row in work.lattice.over(chunk.window):
        started = time.perf_counter()
        strip = _strip(row, chunk, work, read, inside, tally)
        tally.read_s += time.perf_counter() - started
        yield strip


def _strip(row: list[Tile], chunk: Chunk, work: Work, read: Read, inside: Inside, tally: Tally) -> Strip:
    window = _hull(row)
    stack, lost = _read_or_salvage(row, window, work, read, tally)
    wanted = _wanted(stack, window, chunk, work, inside)
    tiles = []
    for tile in row:
        if tile in lost:
            continue
        if wanted[tile.window.within(window)].any():
            tiles.append(tile)
        else:
            tally.skipped += 1
    return Strip(tuple(tiles), window, stack, gain_and_bias(stack, work.card.input), wanted)


def _hull(row: list[Tile]) -> Window:
    first, last = row[0].window, row[-1].window
    return Window(first.row, first.col, first.height, last.right - first.col)


def _read_or_salvage(
    row: list[Tile], window: Window, work: Work, read: Read, tally: Tally
) -> tuple[Stack, frozenset[Tile]]:
    """The strip in one read; where that is lost, tile by tile, so that one bad block costs one tile."""
    try:
        if tally.lost_running < PATIENCE:
            return read(work.pixels_of(window)), frozenset()
    except ReadError:
        pass
    return _salvage(row, window, work, read, tally)


def _salvage(row: list[Tile], window: Window, work: Work, read: Read, tally: Tally) -> tuple[Stack, frozenset[Tile]]:
    lost: set[Tile] = set()
    whole: Stack | None = None
    for tile in row:
        stack = _tile_or_none(tile, work, read, tally)
        if stack is None:
            lost.add(tile)
            continue
        whole = whole or _blank(stack, work.pixels_of(window))
        rows, cols = work.pixels_of(tile.window).within(work.pixels_of(window))
        whole.data[:, :, rows, cols] = stack.data
        whole.mask[:, rows, cols] = stack.mask
    return whole or _nothing(work, work.pixels_of(window)), frozenset(lost)


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
    """(h, w) cells of the strip that lie in chunk and area and have valid imagery (any, where a cell is a patch)."""
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


def _across(strips: Iterator[Strip], work: Work, predict: Predictor, tally: Tally) -> Iterator[Blend]:
    """Run all tiles in batches of fixed size and blend each row; rows come out whole and in order."""
    batch = _Batch(work, predict, tally)
    waiting: list[Blend] = []
    for strip in strips:
        blend = _empty_blend(strip, work)
        waiting.append(blend)
        for tile in strip.tiles:
            batch.add(tile, strip, blend)
        while waiting and not waiting[0].pending:
            yield _without_gaps(waiting.pop(0))
    batch.flush()
    yield from map(_without_gaps, waiting)


def _empty_blend(strip: Strip, work: Work) -> Blend:
    h, w = strip.window.height, strip.window.width
    sums = np.empty((work.card.output.depth, h, w if strip.tiles else 0), np.float32)
    return Blend(strip.window, strip.wanted, sums, np.zeros(w, np.float32), len(strip.tiles))


def _without_gaps(blend: Blend) -> Blend:
    """Sums are 0 where no tile was placed: the room was not cleared before, as nearly all of it is written to."""
    gaps = blend.weight == 0
    if blend.sums.size and gaps.any():
        blend.sums[..., gaps] = 0
    return blend


class _Batch:
    """Collects tiles from one strip after another until the network's batch is full."""

    def __init__(self, work: Work, predict: Predictor, tally: Tally) -> None:
        eats, size = work.card.input, work.card.resources.batch
        self.buffer = np.zeros((size, eats.times, len(eats.bands), eats.chip, eats.chip), np.float32)
        self.slots: list[tuple[Tile, Blend]] = []
        self.work, self.predict, self.tally = work, predict, tally
        self.rise = ramp(work.lattice.cols.overlap)

    def add(self, tile: Tile, strip: Strip, blend: Blend) -> None:
        started = time.perf_counter()
        col = (tile.window.col - strip.window.col) * self.work.stride
        cols = slice(col, col + self.buffer.shape[-1])
        stack, into = strip.stack, self.buffer[len(self.slots)]
        fill_units(into, stack.data[..., cols], stack.mask[..., cols], strip.scaling)
        self.slots.append((tile, blend))
        self.tally.blend_s += time.perf_counter() - started
        if len(self.slots) == len(self.buffer):
            self.flush()

    def flush(self) -> None:
        """Predict what was collected; the empty places of the last batch hold zeros."""
        if not self.slots:
            return
        self.buffer[len(self.slots) :] = 0
        outputs = self._run(self.buffer)
        if outputs is None:
            self._one_by_one()
        else:
            for (tile, blend), output in zip(self.slots, outputs, strict=False):
                self._place(tile, blend, output)
        self.slots.clear()

    def _run(self, tiles: NDArray[np.float32]) -> NDArray[np.float32] | None:
        started = time.perf_counter()
        try:
            outputs = self.predict(tiles)
        except ModelError:
            return None
        finally:
            self.tally.predict_s += time.perf_counter() - started
        # One sum finds any NaN or infinity; only then is it worth asking which tile it was.
        return outputs if np.isfinite(outputs[: len(self.slots)].sum()) else None

    def _one_by_one(self) -> None:
        """A batch failed: find out which of its tiles are to blame, so that the others are kept."""
        for index, (tile, blend) in enumerate(self.slots):
            try:
                output = self._alone(index)
            except ModelError as error:
                self.tally.fail(tile, error)
                blend.pending -= 1
            else:
                self._place(tile, blend, output)

    def _alone(self, index: int) -> NDArray[np.float32]:
        alone = np.zeros_like(self.buffer)
        alone[0] = self.buffer[index]
        output = self.predict(alone)[0]
        if not np.isfinite(output).all():
            raise ModelError("the model gave values that are not finite", code="model.not_finite")
        return output

    def _place(self, tile: Tile, blend: Blend, output: NDArray[np.float32]) -> None:
        """Add a tile to its row, left neighbour first: ramp, core, ramp."""
        started = time.perf_counter()
        col, side, o = tile.window.col - blend.window.col, tile.window.width, len(self.rise)
        right = col + side
        sums, weight = blend.sums, blend.weight
        if o:
            left = sums[..., col : col + o]
            if weight[col]:  # the left neighbour is there
                left += output[..., :o] * self.rise
            else:
                np.multiply(output[..., :o], self.rise, out=left)
            sums[..., right - o : right] = output[..., side - o :] * self.rise[::-1]
            weight[col : col + o] += self.rise
            weight[right - o : right] = self.rise[::-1]
        sums[..., col + o : right - o] = output[..., o : side - o]
        weight[col + o : right - o] = 1
        blend.pending -= 1
        self.tally.tiles += 1
        self.tally.blend_s += time.perf_counter() - started


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
