"""Tiles collected into batches of fixed size, run by the network, and blended across their row."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor, lanes_of
from models.prepare import fill_units
from pipelines.pieces import hull
from swathe.errors import ModelError, SwatheError
from swathe.lattice import Tile, ramp
from swathe.plan import Work
from swathe.raster import Stack
from swathe.window import Window

Floats = NDArray[np.float32]


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
    """In the network; batches that run side by side share it."""
    blend_s: float = 0.0
    """Cutting out and normalising tiles, and blending their results."""

    def fail(self, tile: Tile, error: SwatheError) -> None:
        """Note a lost tile."""
        self.failed.append({"row": tile.row, "col": tile.col, "error": error.problem.line()})


@dataclass(slots=True)
class Blend:
    """Predictions of one row of tiles, blended across."""

    window: Window
    """All tiles of the row, in cells of the output grid."""
    wanted: NDArray[np.bool_]
    """(h, w) cells that should get a value."""
    sums: NDArray[np.float32]
    """(K, h, w) weighted sums; w is 0 until the first tile comes."""
    weight: NDArray[np.float32]
    """(w,) sums of weights across; 0 where no tile was predicted."""
    pending: int
    """Tiles still to come."""

    @classmethod
    def of(cls, row: Sequence[Tile], work: Work) -> Blend:
        """A row of which nothing is known yet."""
        window = hull(row)
        sums = np.empty((work.card.output.depth, window.height, 0), np.float32)
        wanted = np.zeros((window.height, window.width), bool)
        return cls(window, wanted, sums, np.zeros(window.width, np.float32), len(row))


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A piece of a few rows of tiles, as read."""

    rows: tuple[tuple[Tile, ...], ...]
    """Those to predict, left to right, of each row."""
    dropped: tuple[int, ...]
    """How many others each row has here: lost, or without a wanted cell."""
    blends: tuple[Blend, ...]
    """Where their predictions go, one per row."""
    starts: bool
    """Whether it is the first piece of its rows."""
    window: Window
    """The piece, in cells of the output grid."""
    stack: Stack
    """Its pixels. They become model units tile by tile: all at once, those would take twice the room."""
    scaling: tuple[Floats, Floats]
    """Gain and bias per band that do so."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Tiles for one call of the network."""

    buffer: NDArray[np.float32]
    """(N, T, C, chip, chip) in model units."""
    slots: list[tuple[Tile, Blend]] = field(default_factory=list)
    """Whose tile lies where, and where its prediction goes."""

    @property
    def full(self) -> bool:
        return len(self.slots) == len(self.buffer)


_Run = tuple[Floats | None, float]
"""Outputs, or None where a batch failed or they are not finite; seconds that it took."""


def _run(lane: Predictor, batch: _Batch) -> _Run:
    started, outputs = time.perf_counter(), None
    with suppress(ModelError):
        outputs = lane(batch.buffer)
    seconds = time.perf_counter() - started
    # One sum finds any NaN or infinity; only then is it worth asking which tile it was.
    return (outputs if outputs is not None and np.isfinite(outputs[: len(batch.slots)].sum()) else None), seconds


class Batches:
    """Collects tiles from one piece after another; batches run in as many lanes as the network has, in order."""

    def __init__(self, work: Work, predict: Predictor, tally: Tally) -> None:
        """Empty; starts threads where there are several lanes."""
        self.work, self.tally = work, tally
        self.rise = ramp(work.lattice.cols.overlap)
        self.lanes = deque(lanes_of(predict))
        self.share = 1 / len(self.lanes)
        # One lane needs no thread: nothing is done beside it that would take long.
        self.pool = ThreadPoolExecutor(len(self.lanes), "predict") if len(self.lanes) > 1 else None
        self.running: deque[tuple[_Batch, Predictor, Future[_Run]]] = deque()
        self.filling = self._empty()
        self.spare: list[_Batch] = []

    def close(self) -> None:
        """Wait for what runs; its results are dropped."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def add(self, tile: Tile, piece: Loaded, blend: Blend) -> None:
        """One more tile, whose batch may be run."""
        started = time.perf_counter()
        stride, at = self.work.stride, tile.window
        row, col = (at.row - piece.window.row) * stride, (at.col - piece.window.col) * stride
        batch, side = self.filling, self.filling.buffer.shape[-1]
        cut = (..., slice(row, row + side), slice(col, col + side))
        fill_units(batch.buffer[len(batch.slots)], piece.stack.data[cut], piece.stack.mask[cut], piece.scaling)
        batch.slots.append((tile, blend))
        self.tally.blend_s += time.perf_counter() - started
        if batch.full:
            self._send()

    def finish(self) -> None:
        """Predict what was collected; the empty places of the last batch hold zeros."""
        if self.filling.slots:
            self.filling.buffer[len(self.filling.slots) :] = 0
            self._send()
        while self.running:
            self._settle()

    def _send(self) -> None:
        """Run the batch; with several lanes, once the first of those that run has come to its end."""
        batch = self.filling
        if self.pool is None:
            self._spread(batch, self.lanes[0], _run(self.lanes[0], batch))
            return
        if not self.lanes:
            self._settle()
        lane = self.lanes.popleft()
        self.running.append((batch, lane, self.pool.submit(_run, lane, batch)))
        self.filling = self.spare.pop() if self.spare else self._empty()

    def _settle(self) -> None:
        """Take the results of the batch that was sent first."""
        batch, lane, future = self.running.popleft()
        self._spread(batch, lane, future.result())
        self.lanes.append(lane)
        self.spare.append(batch)

    def _spread(self, batch: _Batch, lane: Predictor, run: _Run) -> None:
        outputs, seconds = run
        self.tally.predict_s += seconds * self.share
        if outputs is None:
            self._one_by_one(batch, lane)
        else:
            for (tile, blend), output in zip(batch.slots, outputs, strict=False):
                self._place(tile, blend, output)
        batch.slots.clear()

    def _empty(self) -> _Batch:
        eats, size = self.work.card.input, self.work.card.resources.batch
        return _Batch(np.zeros((size, eats.times, len(eats.bands), eats.chip, eats.chip), np.float32))

    def _one_by_one(self, batch: _Batch, lane: Predictor) -> None:
        """A batch failed: find out which of its tiles are to blame, so that the others are kept."""
        for index, (tile, blend) in enumerate(batch.slots):
            try:
                output = self._alone(batch, index, lane)
            except ModelError as error:
                self.tally.fail(tile, error)
                blend.pending -= 1
            else:
                self._place(tile, blend, output)

    def _alone(self, batch: _Batch, index: int, lane: Predictor) -> Floats:
        alone = np.zeros_like(batch.buffer)
        alone[0] = batch.buffer[index]
        output = lane(alone)[0]
        if not np.isfinite(output).all():
            raise ModelError("the model gave values that are not finite", code="model.not_finite")
        return output

    def _place(self, tile: Tile, blend: Blend, output: Floats) -> None:
        """Add a tile to its row, left neighbour first: ramp, core, ramp."""
        started = time.perf_counter()
        col, side, o = tile.window.col - blend.window.col, tile.window.width, len(self.rise)
        right = col + side
        if not blend.sums.size:
            blend.sums = np.empty((*blend.sums.shape[:2], blend.window.width), np.float32)
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
