"""One small image at once: the same look, preparation and heart as a run, and a single product in memory.

What a run spreads over files and workers is done here in one go, for whoever waits for the answer: no chunks, no
part files, no resume. The pixels are those of ``swathe run`` (``process.py`` makes them); what cannot be answered
whole is refused, as there is no report that could say what is missing.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from models.weights import ModelHome
from pipelines.begin import begin, look
from pipelines.estimate import Means, estimated
from pipelines.fit import fit_over_area
from pipelines.imagery.area import inside
from pipelines.imagery.gdal import Access, Retry
from pipelines.pace import Pace, on_replica
from pipelines.process import Tally, process
from pipelines.products import single
from pipelines.products.layer import LayerSpec, layer_of
from pipelines.products.quantise import Stored, quantise
from pipelines.remote.network import Network
from pipelines.runner import Loop
from pipelines.worker import Order
from swathe.card import ModelCard
from swathe.errors import InputError, LimitError, ModelError, ReadError, SwatheError
from swathe.lattice import Chunk
from swathe.plan import Plan, Work
from swathe.recipe import Recipe
from swathe.sensor import SensorProfile
from swathe.window import Window

if TYPE_CHECKING:
    from models.load import Ready

ONCE = Access(Retry(attempts=2), cache_mb=64)
"""Somebody waits: what does not come soon is refused."""
_SEEN, _KEPT = 8, 32
"""Forwards after which a model knows its pace, and those of which the fastest is it: what slowed one down, as the first
is slow everywhere, must not have images refused that would come at once."""


class Form(StrEnum):
    """What the answer is to be."""

    TIFF = "image/tiff"
    """GeoTIFF with palette and class names."""
    PNG = "image/png"
    """The card's colours, a pixel each; nodata is transparent."""
    JSON = "application/json"
    """Classes with their areas, or statistics of the values."""


@dataclass(frozen=True, slots=True)
class Question:
    """One small request."""

    recipe: Recipe
    """What is wanted. Its ``inputs`` are empty where ``image`` holds the imagery."""
    image: bytes | None = field(default=None, repr=False)
    """A file, as it was sent."""
    form: Form = Form.TIFF
    """See there."""
    max_pixels: int = 4_194_304
    """Of the imagery; more is refused before a pixel is predicted."""
    max_seconds: float | None = None
    """Estimated; what would take longer is refused as well. None: it takes what it takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it."""

    body: bytes = field(repr=False)
    """In the form that was asked for."""
    form: Form
    """See there."""
    pixels: int
    """Of the output grid."""
    tiles: int
    """Forwards of the network."""
    seconds: dict[str, float]
    """``look``, ``process`` (of which ``predict``: in the network, and waiting for it), ``product``, ``total``."""
    warnings: tuple[str, ...] = ()
    """What the user should know."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the seconds of an answer are told from, as long as the model has not shown them itself."""

    folder: Path
    """Where the runs of this machine keep their pace."""
    mbit_s: float | None = None
    """Bandwidth to imagery at addresses; None: it is taken for no hindrance."""


class _InTurn:
    """A predictor for several threads: one forward at a time, each with an output of its own."""

    def __init__(self, predict: Predictor) -> None:
        self._predict, self._turn = predict, threading.Lock()
        self._forwards: deque[float] = deque(maxlen=_KEPT)
        self.pace: Pace | None = None
        """As it has shown itself; None: not often enough yet."""
        self.info = predict.info

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._turn:
            began = time.perf_counter()
            made = self._predict(tiles).copy()  # the next one to call may overwrite it
            self._note((time.perf_counter() - began) / len(tiles))
            return made

    def _note(self, tile_s: float) -> None:
        self._forwards.append(tile_s)
        if len(self._forwards) >= _SEEN:
            self.pace = Pace(min(self._forwards), measured=True)


class Online:
    """One model, loaded, answering questions; threads may share it: they take turns at the network alone."""

    def __init__(
        self, card: ModelCard, home: ModelHome, sensors: Mapping[str, SensorProfile], threads: int = 1,
        network: Network | None = None, grounds: Grounds | None = None,
    ) -> None:  # fmt: skip
        """Load the model. ``network``: for imagery at addresses. Raises what ``models.load.load`` raises.

        ``grounds``: what estimates are made from; without them nothing is refused for its seconds.
        """
        from models.load import ensure, load

        ready = ensure(card, home)
        self._home, self._sensors, self._network = home, sensors, network
        self._layer = layer_of(card)
        batch = _batch_of(ready)
        self._predict = None if _fits(card) else _InTurn(load(ready.card, home, threads, batch=batch))
        self.card = _in_batches(ready.card, batch)
        self._grounds, self._threads, self._device = grounds, threads, ready.device

    def __call__(self, question: Question) -> Answer:
        """Answer one; what is too large is refused before a pixel is read.

        Raises InputError and its kin, LimitError (``limit.pixels``, ``.seconds``), ModelError, ReadError.
        """
        began = time.perf_counter()
        seconds: dict[str, float] = {}
        with _as_file(question) as recipe:
            with _timed(seconds, "look"):
                plan = self._plan(recipe, question)
            stored, tally = self._stored(plan.work, seconds)
        with _timed(seconds, "product"):
            body = self._product(question.form, plan, stored, tally)
        seconds["total"] = time.perf_counter() - began
        rounded = {name: round(value, 4) for name, value in seconds.items()}
        notes = (*plan.warnings, *plan.work.imagery.notes)
        return Answer(body, question.form, plan.cost.pixels, tally.tiles, rounded, notes)

    def _plan(self, recipe: Recipe, question: Question) -> Plan:
        imagery = self._look(recipe)
        _expect_few(imagery.shape, question.max_pixels)
        plan = begin(recipe, self.card, imagery, actors=1)
        if plan.work.card.output.picture:
            raise InputError("a picture has nothing to be predicted", code="predict.picture", field="body",
                             hint="submit it as a job: its colours become a layer")  # fmt: skip
        if question.max_seconds is not None:
            _expect_soon(self._seconds(plan), question.max_seconds)
        return plan

    def _seconds(self, plan: Plan) -> float:
        """Estimated; 0 where nobody can tell."""
        pace = self._pace
        if self._grounds is None or pace is None:
            return 0.0
        return estimated(plan, pace, Means("replica", 1, self._threads, self._grounds.mbit_s)).cost.seconds or 0.0

    @property
    def _pace(self) -> Pace | None:
        """Its own, once it has one: no run has had its threads and its device."""
        shown = None if self._predict is None else self._predict.pace
        if shown is not None or self._grounds is None:
            return shown
        return on_replica(self.card, self._grounds.folder, self._threads, self._device)

    def _look(self, recipe: Recipe) -> Any:
        if recipe.search is not None:
            raise InputError("a search is no single image", code="predict.search", field="search",
                             hint="submit it as a job")  # fmt: skip
        return look(recipe, self.card, self._sensors, ONCE, self._network)

    def _stored(self, work: Work, seconds: dict[str, float]) -> tuple[dict[str, Stored], Tally]:
        order = Order(work, Path(), self._home, access=ONCE, widest=work.shape[1], network=self._network)
        whole = Chunk("whole", Window(0, 0, *work.shape))
        predict, tally = self._predict or self._fitted(order, whole), Tally()
        with _timed(seconds, "process"):
            stored = _carried_out(order, whole, predict, self._layer, tally)
        seconds["predict"] = tally.predict_s
        _expect_whole(tally)
        return stored, tally

    def _fitted(self, order: Order, whole: Chunk) -> Predictor:
        """Methods that find a threshold in the data look at this image, as a run looks at its area."""
        from models.load import load

        return load(self.card, self._home, 1, fit_over_area(order, (whole,), Loop()))

    def _product(self, form: Form, plan: Plan, stored: dict[str, Stored], tally: Tally) -> bytes:
        if form is Form.PNG:
            return single.png(stored["result"], self._layer)
        if form is Form.JSON:
            return single.summary(plan, stored, self._layer, tally.wanted - tally.lost)
        return single.tiff(stored["result"], self._layer, plan.work.grid)


def _carried_out(order: Order, whole: Chunk, predict: Predictor, layer: LayerSpec, tally: Tally) -> dict[str, Stored]:
    """Stored numbers of every file of the layer, (bands, H, W)."""
    work = order.work
    kept = {r.name: np.empty((r.count, *work.shape), r.dtype) for r in layer.predicted}

    def area(window: Window) -> Any:
        return inside(work.area, work.transform, window)

    with (
        closing(order.reader()) as reader,
        closing(process(whole, work, reader.read, predict, area, tally, grain=reader.grain)) as blocks,
    ):
        for block in blocks:
            rows = slice(block.row, block.row + block.data.shape[1])
            for name, array in quantise(block.data, block.mask, layer).items():
                kept[name][:, rows] = array
    return kept


# --- what is refused --------------------------------------------------------------------------------------------------


def _expect_few(shape: tuple[int, int], most: int) -> None:
    if shape[0] * shape[1] > most:
        raise LimitError(f"the image has {shape[0] * shape[1]} pixels; answered at once are {most} at most",
                         code="limit.pixels", hint="submit it as a job", field="body")  # fmt: skip


def _expect_soon(seconds: float, most: float) -> None:
    if seconds > most:
        raise LimitError(f"this would take about {seconds:,.0f} s; answered at once is what takes {most:g} s at most",
                         code="limit.seconds", hint="submit it as a job", field="body")  # fmt: skip


def _expect_whole(tally: Tally) -> None:
    if tally.failed:
        first = str(tally.failed[0]["error"])
        kind = ReadError if first.startswith("read") else ModelError
        code = "read.lost" if kind is ReadError else "model.failed"
        raise kind(f"{len(tally.failed)} tiles were lost; the first: {first}", code=code)


def _batch_of(ready: Ready) -> int:
    """Tiles per forward. A core is as fast with one at a time, and then none is added to fill the last batch.

    Our own exports say whether they take any batch; files of others are given what their card says.
    """
    any_batch = ready.card.adapter == "terratorch" and ready.artefact is not None and ready.artefact.dynamic
    return 1 if any_batch and ready.device == "cpu" else ready.card.resources.batch


def _in_batches(card: ModelCard, batch: int) -> ModelCard:
    return card.model_copy(update={"resources": card.resources.model_copy(update={"batch": batch})})


def _fits(card: ModelCard) -> bool:
    if card.adapter != "formula":
        return False
    from models.formula import needs_fit

    return needs_fit(card)


# --- bytes as a file --------------------------------------------------------------------------------------------------


@contextmanager
def _as_file(question: Question) -> Iterator[Recipe]:
    """The recipe, with the image that was sent as its input: a file is opened as all files are, and refused so."""
    if question.image is None:
        yield question.recipe
        return
    with tempfile.TemporaryDirectory(prefix="swathe-image-") as folder:
        file = Path(folder) / "image"
        file.write_bytes(question.image)
        try:
            yield replace(question.recipe, inputs=(str(file),))
        except SwatheError as error:
            raise _nameless(error, str(file)) from None


def _nameless(error: SwatheError, path: str) -> SwatheError:
    """The same without the name of our file, which means nothing to whoever sent it."""
    detail, hint = (text.replace(path, "the image") for text in (error.detail, error.hint))
    field = "body" if error.field == "--input" else error.field
    return type(error)(detail, hint=hint, field=field, code=error.problem.code)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
