"""One actor's work: load the model once, then do chunks whole, from imagery to part files and a receipt."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from models.threshold import Histogram
from models.weights import ModelHome
from pipelines.ahead import Behind
from pipelines.imagery.area import inside
from pipelines.imagery.gdal import Access
from pipelines.imagery.readers import WindowReader, reader_of
from pipelines.ledger import MAX_ATTEMPTS, Receipt
from pipelines.pieces import windows
from pipelines.process import Tally, process
from pipelines.products.layer import Kind, layer_of
from pipelines.products.parts import PartWriter
from pipelines.products.shapes import ShapeRules
from pipelines.remote.network import Network
from pipelines.store.blobs import Blobs
from pipelines.store.chunk_store import ChunkStore, chunk_store_of
from swathe.errors import SwatheError
from swathe.lattice import Chunk
from swathe.mosaic import Mosaic
from swathe.plan import Work
from swathe.raster import Raster
from swathe.window import Window

LANES = 2
"""Batches side by side where a worker has several threads."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is hired for."""

    work: Work
    """The run."""
    parts: Path
    """Folder of part files and receipts, unless they are kept in ``store``; every worker sees it."""
    home: ModelHome
    """Where weights and artefacts lie."""
    threads: int = 1
    """Of the forward."""
    fitted: dict[str, float] | None = None
    """Thresholds found in the data, once over the whole area."""
    access: Access = field(default=Access())
    """How imagery is opened and read."""
    widest: int = 4096
    """Columns of the widest chunk: GDAL's cache holds the blocks under one strip of it."""
    store: Blobs | None = None
    """Where results are kept, if not in a folder."""
    network: Network | None = None
    """How imagery at addresses is fetched; None: from public ones alone."""

    @property
    def chunk_store(self) -> ChunkStore:
        """Where part files and receipts go."""
        return chunk_store_of(self.parts, self.store)

    def reader(self) -> WindowReader:
        """Imagery, ready to be read here."""
        return reader_of(self.work, self.access, self.network, self.widest)

    @property
    def observed(self) -> int:
        """Dates of which each pixel's scene is told; 0: files were given."""
        return len(self.work.imagery.slots) if isinstance(self.work.imagery, Mosaic) else 0

    def rules(self) -> ShapeRules:
        """What becomes a polygon."""
        return ShapeRules(self.work.products.min_area_px, self.work.products.simplify_px)


def load_for_chunks(order: Order) -> Predictor:
    """The model of an order, loaded as whoever does chunks loads it. Raises SwatheError."""
    from models.load import load

    return load(order.work.card, order.home, order.threads, order.fitted, lanes=LANES)


class ChunkWorker:
    """Does chunks of one run. Built inside the actor: models and open files do not travel."""

    def __init__(self, order: Order, predict: Predictor | None = None) -> None:
        """Load the model, unless it is loaded already, and prepare to read. Raises SwatheError."""
        self.order = order
        self.spec = layer_of(
            order.work.card, probabilities=order.work.products.probabilities, observations=order.observed
        )
        self.reader = order.reader()
        self.reader.begin()  # while the model is loaded
        started = time.perf_counter()
        with _closed_where_it_fails(self.reader):
            self.predict = predict or load_for_chunks(order)
        if self.spec.kind is Kind.CLASSES:
            import scipy.sparse.csgraph  # noqa: F401  for tracing: half a second, and here nobody waits for a chunk
        self.load_s = time.perf_counter() - started
        self.chunk_store = order.chunk_store
        self.room = self.chunk_store.room()

    def __call__(self, chunk: Chunk) -> dict[str, Any]:
        """Do a chunk; what went wrong stands in the receipt. Raises OutputError where not even that can be kept."""
        began = time.perf_counter(), time.process_time()
        attempt = self.chunk_store.begin(chunk.key)
        try:
            receipt = self._give_up(chunk) if attempt > MAX_ATTEMPTS else self._do(chunk, attempt, began)
        except SwatheError as error:
            receipt = self._failed(chunk, error.problem.line())
        except Exception as error:  # noqa: BLE001  the chunk is lost, the run goes on and lists it
            receipt = self._failed(chunk, f"internal: {type(error).__name__}: {error}")
        self.chunk_store.keep(receipt, self.room)
        give_back()
        return asdict(receipt)

    def _do(self, chunk: Chunk, attempt: int, began: tuple[float, float]) -> Receipt:
        work, tally, clock = self.order.work, Tally(), _Clock()
        area = inside(work.area, work.transform, chunk.window)
        if area is not None and not area.any():
            return self._receipt(chunk, "empty", began=began)
        name = f"{attempt}-{os.getpid()}"
        writer = PartWriter(self.room, chunk, self.spec, grid=work.grid, rules=self.order.rules(), attempt=name)
        with clock.around(writer), Behind[Raster](clock.timed(self._written_by(writer))) as behind:
            grain = self.reader.grain
            self.reader.ahead(work.pixels_of(window) for window in windows(chunk, work, grain))
            found = process(chunk, work, self.reader.read, self.predict, self._inside, tally, grain=grain)
            with closing(found) as blocks:
                for block in blocks:
                    behind.put(block)
                    self._progress(chunk, block)
                    del block  # or it would keep its strip while the next one is predicted
        part = writer.part
        files = part.files if part else {}
        classes = {str(value): count for value, count in part.counts.items()} if part else {}
        if tally.wanted == tally.lost:  # nothing in it: no file says so as well
            files = self._discard(files)
        receipt = self._receipt(chunk, _status(tally), tally, clock.seconds, files, began)
        return replace(receipt, classes=classes)

    def _written_by(self, writer: PartWriter) -> Callable[[Raster], None]:
        """Rows of the result, and of which scenes they were made."""

        def write(block: Raster) -> None:
            window = Window(block.row, block.col, block.data.shape[1], block.data.shape[2])
            label = self.reader.label(self.order.work.pixels_of(window)) if self.order.observed else None
            writer.write(block, None if label is None else {"observations": self._of_cells(label, window)})

        return write

    def _of_cells(self, label: NDArray[np.uint16], window: Window) -> NDArray[np.uint16]:
        """Outside the area nothing was observed; of a cell of several pixels the first one speaks."""
        stride = self.order.work.stride
        cells = label[:, ::stride, ::stride]
        area = self._inside(window)
        return cells if area is None else np.where(area, cells, np.uint16(0))

    def _discard(self, files: dict[str, int]) -> dict[str, int]:
        for name in files:
            (self.room / name).unlink(missing_ok=True)
        return {}

    def _inside(self, window: Window) -> NDArray[np.bool_] | None:
        return inside(self.order.work.area, self.order.work.transform, window)

    def _progress(self, chunk: Chunk, block: Raster) -> None:
        done = (block.row + block.data.shape[1] - chunk.window.row) * chunk.window.width
        self.chunk_store.tell(chunk.key, done)

    def _receipt(
        self, chunk: Chunk, status: str, tally: Tally | None = None, write_s: float = 0.0,
        files: dict[str, int] | None = None, began: tuple[float, float] = (0.0, 0.0),
    ) -> Receipt:  # fmt: skip
        tally, ended = tally or Tally(), time.time()
        seconds = {
            "read": tally.read_s, "predict": tally.predict_s, "blend": tally.blend_s, "write": write_s,
            "total": time.perf_counter() - began[0], "load": self.load_s,
        }  # fmt: skip
        return Receipt(
            chunk=chunk.key, status=status, pixels=chunk.window.area, valid=tally.wanted - tally.lost,
            lost=tally.lost, tiles=tally.tiles, skipped=tally.skipped, failed_tiles=tuple(tally.failed),
            seconds={k: round(v, 4) for k, v in seconds.items()}, cpu_s=round(time.process_time() - began[1], 3),
            peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            started=round(ended - seconds["total"], 3), ended=round(ended, 3),
            worker=f"{socket.gethostname()}:{os.getpid()}", runtime=asdict(self.predict.info), files=files or {},
            reading=self.reader.told(),
        )  # fmt: skip

    def _give_up(self, chunk: Chunk) -> Receipt:
        return self._failed(chunk, f"chunk.poison: it took its worker down {MAX_ATTEMPTS} times")

    def _failed(self, chunk: Chunk, why: str) -> Receipt:
        area = chunk.window.area
        return Receipt(chunk.key, "failed", area, lost=area, error=why, worker=f"{socket.gethostname()}:{os.getpid()}")


def give_back() -> None:
    """Return freed memory to the system: chunks are long, and the next one's threads would take fresh memory.

    Without it a worker grows by a tenth from its first chunk to its third. A matter of glibc; elsewhere nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(tally: Tally) -> str:
    if tally.failed:
        return "failed"
    return "done" if tally.wanted else "nodata"


class _Clock:
    """Adds up the time spent in the writer's thread and in closing its files."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since

    def timed(self, call: Callable[[Raster], None]) -> Callable[[Raster], None]:
        """The same call, its time counted."""

        def timed_call(item: Raster) -> None:
            with self:
                call(item)

        return timed_call

    @contextmanager
    def around(self, writer: PartWriter) -> Iterator[None]:
        """The writer's context, with the time it takes to close its files counted."""
        with ExitStack() as stack:
            stack.enter_context(writer)
            yield
            with self:
                stack.pop_all().close()


class Measurer:
    """Looks at a chunk's values for a threshold that is found in the data."""

    def __init__(self, order: Order) -> None:
        """Prepare to read and to count."""
        from models.formula import measurer

        self.order = order
        self.measure = measurer(order.work.card)
        self.reader = order.reader()

    def __call__(self, chunk: Chunk) -> dict[str, Any]:
        """Histogram of the chunk as plain numbers: ``{"counts": …, …}``."""
        from models.prepare import to_model_units

        work, total = self.order.work, None
        for window in _bands(chunk.window):
            area = inside(work.area, work.transform, window)
            if area is not None and not area.any():
                continue
            stack = self.reader.read(work.pixels_of(window))
            valid = stack.valid if area is None else stack.valid & area
            counted = self.measure(to_model_units(stack, work.card.input)[None], valid[None])
            total = counted if total is None else total.merge(counted)
        return {"chunk": chunk.key, "histogram": None if total is None else _plain(total)}


def _plain(histogram: Histogram) -> dict[str, Any]:
    return {"low": histogram.low, "high": histogram.high, "counts": histogram.counts.tolist()}


def _bands(window: Window, rows: int = 512) -> Iterator[Window]:
    for row in range(window.row, window.bottom, rows):
        yield Window(row, window.col, min(rows, window.bottom - row), window.width)


@contextmanager
def _closed_where_it_fails(reader: WindowReader) -> Iterator[None]:
    try:
        yield
    except BaseException:
        reader.close()
        raise


@contextmanager
def open_files_closed(worker: ChunkWorker | Measurer) -> Iterator[None]:
    """Close the worker's files at the end (the plain loop; an actor's end with its process)."""
    try:
        yield
    finally:
        worker.reader.close()
