"""A run, from a plan to finished products; the only writer of its state.

``run`` may be killed at any point: what is done stands in the output folder, or in the store that takes its place, as
receipts and part files, and the same call goes on with the missing chunks.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self

from models.weights import ModelHome
from pipelines import saved_search
from pipelines.fit import fit_over_area
from pipelines.imagery.gdal import Access
from pipelines.ledger import Ledger, Receipt
from pipelines.pace import learn
from pipelines.products.assets import ASSETS
from pipelines.publish import Published, publish
from pipelines.receipt import outdated
from pipelines.remote.network import Network
from pipelines.report import report
from pipelines.runner import Runner
from pipelines.steps.memory import Memory, base_of, wish_of
from pipelines.steps.sequence import FIRST, Treated, announce, treat
from pipelines.steps.treatment import Bench, Start, Treatment, prepared
from pipelines.store.blobs import Blobs
from pipelines.store.chunk_store import ChunkStore
from pipelines.store.place import Place, place_of
from pipelines.worker import ChunkWorker, Order
from swathe.errors import ClusterError, Interrupted, OutputError, SwatheError
from swathe.lattice import Chunk
from swathe.mosaic import Mosaic
from swathe.plan import Plan
from swathe.recipe import Recipe
from swathe.source import SourceCard
from swathe.state import ENDS, Event, State, may
from swathe.step import Step


class Observer(Protocol):
    """Who watches a run: the terminal, a log, a service."""

    def event(self, event: Event) -> None:
        """Something happened."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Pixels done so far, of all."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """Everything a run needs beside its plan."""

    out: Path
    """Folder of the products; with a store, a private one to make them in."""
    home: ModelHome
    """Weights and artefacts."""
    access: Access = field(default=Access())
    """How imagery is read."""
    overwrite: bool = False
    """Whether another run's products in that folder may go."""
    keep_cut: bool = True
    """Whether a resumed run keeps the cut it began with; False where the user gave a chunk size."""
    context: dict[str, Any] = field(default_factory=dict)
    """Facts for the report: versions, machine, command."""
    store: Blobs | None = None
    """Where parts, receipts and products are kept instead: object storage, for workers that share no disk."""
    network: Network | None = None
    """How searched imagery is fetched."""
    pace: Path | None = None
    """Folder in which the machine's pace is learnt; None: it is not."""
    treatments: tuple[Treatment, ...] = ()
    """Steps after the model, in order (``pipelines.steps``)."""
    model: str = ""
    """Hash of the weights (``models.load.Ready.content``): with others it is another run."""
    check: Callable[[], None] = lambda: None
    """Raises Interrupted where the run is to stop; asked while those steps are at work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    state: State
    """done or incomplete."""
    report: dict[str, Any]
    """What stands in report.json."""
    resumed: int
    """Chunks that an earlier attempt had done."""
    already: bool = False
    """Whether everything stood there before."""


def run(plan: Plan, request: Request, runner: Runner, observer: Observer) -> Outcome:
    """Carry out a plan whose card has its engine settled (``models.load.ensure``).

    Raises OutputError (folder busy, taken, full, read-only; store denied, missing, out of reach), ClusterError,
    Interrupted, and what the model raises.
    """
    ledger = Ledger(request.out, request.store)
    refuse_foreign(request)
    with ledger.open():
        plan = _adopt(plan, request, ledger)
        if ledger.state is State.DONE and _stands(ledger.place):
            return Outcome(State.DONE, _kept_report(ledger.place), len(plan.chunks), already=True)
        with _stops_noted(ledger, observer):
            return _Run(plan, request, runner, _Noted(ledger, observer)).carry_out()


# --- before -----------------------------------------------------------------------------------------------------------


def kept_scenes(out: Path, store: Blobs | None, recipe: Recipe, sources: Mapping[str, SourceCard]) -> Mosaic | None:
    """The scenes of the run in this folder, if it was asked for the same; else they have to be searched.

    ``sources``: cards by id, which have the keys that addresses are kept without.
    """
    place, name = place_of(out, store), f".swathe/{saved_search.NAME}"
    source = recipe.search.source.strip() if recipe.search else ""
    address = sources[source].url if source in sources else source
    return saved_search.read(place.read(name), recipe.asked, address) if place.has(name) else None


def refuse_foreign(request: Request) -> None:
    """A folder that holds results of something else is not written into. Raises OutputError."""
    place = place_of(request.out, request.store)
    if not request.overwrite and place.has("result.tif") and not place.has(".swathe/cut.json"):
        raise _taken(place, "holds a result.tif that no run of swathe left there")


def _adopt(plan: Plan, request: Request, ledger: Ledger) -> Plan:
    """The plan as it was begun in this folder, or a fresh start."""
    kept, place, over = ledger.kept(), ledger.place, request.overwrite
    same = kept is not None and kept.same(plan.key, request.model)
    if kept is not None and not same and not over and _worth_keeping(ledger):
        raise _taken(place, "holds another run (other imagery, model, area or settings)")
    recut = same and kept is not None and not request.keep_cut and kept.chunks != plan.chunks
    over_done = ledger.state is State.DONE and (over or not _stands(place))
    if kept is None or not same or recut or over_done:
        _begin_anew(ledger, plan, request)
        return plan
    if ledger.state is State.DONE and _steps_kept(place) != wish_of(request.treatments):
        raise _taken(place, "holds this run with other steps after the model")
    return plan.with_chunks(kept.chunks, kept.chunk_shape)


def _worth_keeping(ledger: Ledger) -> bool:
    """A run that ended before its first chunk left nothing that anybody would miss."""
    return ledger.place.has("result.tif") or bool(ledger.receipts())


def _begin_anew(ledger: Ledger, plan: Plan, request: Request) -> None:
    """Nothing of an earlier run stays: neither its memory nor products, which the new item would list as its own."""
    ledger.clear()
    if request.overwrite or ledger.place.has("report.json"):
        ledger.place.remove(*(asset.name for asset in ASSETS), "item.json")
    ledger.keep_plan(plan, request.model)


def _steps_kept(place: Place) -> str:
    """Which steps a finished run was asked for; what wrote no word of it had none."""
    return _kept_report(place).get("steps_key", "") if place.has("report.json") else ""


def _taken(place: Place, why: str) -> OutputError:
    return OutputError(
        f"{place.name} {why}", code="output.taken", field="--out", hint="choose another folder, or add --overwrite"
    )


def _stands(place: Place) -> bool:
    """Whether every file is there that the item speaks of."""
    if not place.has("result.tif", "item.json", "report.json"):
        return False
    assets = json.loads(place.read("item.json")).get("assets", {}).values()
    return place.has(*(PurePosixPath(str(asset["href"])).name for asset in assets))


def _kept_report(place: Place) -> dict[str, Any]:
    return json.loads(place.read("report.json"))


# --- while it runs ----------------------------------------------------------------------------------------------------


class _Noted:
    """The ledger, with everything that goes in shown to the observer as well."""

    def __init__(self, ledger: Ledger, observer: Observer) -> None:
        self.ledger, self.observer = ledger, observer

    def enter(self, state: State, **facts: Any) -> None:
        self.observer.event(self.ledger.enter(state, **facts))

    def note(self, kind: str, **facts: Any) -> None:
        self.observer.event(self.ledger.note(kind, **facts))


@contextmanager
def _stops_noted(ledger: Ledger, observer: Observer) -> Iterator[None]:
    """Whatever ends a run early is written down, and says that it can be resumed."""
    if ledger.state is not None and ledger.state not in ENDS:
        ledger.enter(State.INTERRUPTED, reason="the process was killed")
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        _note_stop(ledger, observer, State.INTERRUPTED, reason="stopped by the user")
        raise Interrupted(f"stopped; {_done(ledger)}", hint="run the same command again to continue") from None
    except SwatheError as error:
        _note_stop(ledger, observer, State.FAILED, problem=error.problem.as_dict())
        raise
    except Exception as error:
        _note_stop(ledger, observer, State.FAILED, problem={"code": "internal", "detail": repr(error)})
        raise


def _done(ledger: Ledger) -> str:
    try:
        return f"{len(ledger.receipts())} chunks are done"
    except OutputError:  # the store is out of reach
        return "what is done is kept"


def _note_stop(ledger: Ledger, observer: Observer, state: State, **facts: Any) -> None:
    """What stops a run may be what keeps this from being written down; then the reason itself is still told.

    A run that had ended before, and is stopped before it goes on, stands where it stood.
    """
    if not may(ledger.state, state):
        return
    with suppress(OutputError, OSError):
        observer.event(ledger.enter(state, **facts))


class _Run:
    """One attempt."""

    def __init__(self, plan: Plan, request: Request, runner: Runner, noted: _Noted) -> None:
        self.plan, self.request, self.runner, self.noted = plan, request, runner, noted
        self.ledger = noted.ledger
        self.treatments = request.treatments
        self.seconds: dict[str, float] = {}

    def carry_out(self) -> Outcome:
        if self.ledger.state is None:
            self.noted.enter(State.PLANNED, key=self.plan.key, chunks=len(self.plan.chunks))
        announce(self.request.treatments, self._tell_step)
        self.noted.enter(State.PREPARING)
        start = Start(self.plan, self.ledger.place, self.ledger.folder, self.request.check)
        self.treatments = prepared(self.request.treatments, start)
        order = self._order()
        receipts = self.ledger.receipts()
        self.ledger.chunk_store.forget_attempts()
        todo = [c for c in self.plan.chunks if c.key not in receipts]
        self.noted.enter(State.RUNNING, chunks=len(self.plan.chunks), resumed=len(receipts))
        resumed = len(receipts)
        with self._timed("chunks"):
            kept = receipts
            receipts = kept | self._do(order, todo, sum(r.pixels for r in kept.values()))
            receipts |= self._renewed(order, kept, receipts)
        self.noted.enter(State.FINISHING)
        with self._timed("products"):
            published = publish(self.plan, self._in_order(receipts), self.ledger.chunk_store, self.request.out)
        with self._timed("steps"):
            treated = self._treat(receipts, published)
        return self._finish(receipts, published, treated, order, resumed)

    def _order(self) -> Order:
        work = self.plan.work
        order = Order(
            work, self.ledger.parts, self.request.home, threads=self.runner.threads, access=self.request.access,
            widest=min(self.plan.chunk_shape[1], work.shape[1]), store=self.request.store,
            network=self.request.network,
        )  # fmt: skip
        fitted = self._fitted_before()
        if fitted is None:
            with self._timed("fit"):
                fitted = fit_over_area(order, self.plan.chunks, self.runner)
            if fitted is not None:
                self.noted.note("fitted", **fitted)
        return replace(order, fitted=fitted)

    def _fitted_before(self) -> dict[str, float] | None:
        """What an earlier attempt found: the whole area need not be read again."""
        return next((event.facts for event in reversed(self.ledger.events) if event.kind == "fitted"), None)

    def _do(self, order: Order, todo: list[Chunk], done_px: int) -> dict[str, Receipt]:
        found: dict[str, Receipt] = {}
        total = self.plan.cost.pixels
        with _Gauge(self.ledger.chunk_store, self.noted.observer, total) as gauge:
            gauge.settled = done_px
            for answer in self.runner.map(ChunkWorker, order, todo):
                receipt = Receipt(**{**answer, "failed_tiles": tuple(answer["failed_tiles"])})
                found[receipt.chunk] = receipt
                gauge.settled += receipt.pixels
                self.noted.note(
                    "chunk", chunk=receipt.chunk, status=receipt.status, valid=receipt.valid, lost=receipt.lost,
                    error=receipt.error, seconds=receipt.seconds.get("total"),
                )  # fmt: skip
                _stop_where_hopeless(receipt)
        missing = len(todo) - len(found)
        if missing:
            raise ClusterError(f"{missing} chunks were never answered for", code="cluster.lost",
                               hint="run the same command again: it continues with the missing chunks")  # fmt: skip
        return found

    def _renewed(self, order: Order, kept: dict[str, Receipt], receipts: dict[str, Receipt]) -> dict[str, Receipt]:
        """What earlier attempts made with another runtime, done again: it is not mixed within one raster.

        A run that is killed on the way finds both kinds; the newest one counts then, too.
        """
        found: dict[str, Receipt] = {}
        while others := outdated(kept, receipts):
            self.noted.note("outdated", chunks=len(others))
            kept = {key: receipt for key, receipt in kept.items() if key not in others}
            settled = sum(r.pixels for key, r in receipts.items() if key not in others)
            found |= self._do(order, [c for c in self.plan.chunks if c.key in others], settled)
            receipts = receipts | found
        return found

    def _in_order(self, receipts: dict[str, Receipt]) -> list[tuple[Chunk, Receipt]]:
        return [(c, receipts[c.key]) for c in self.plan.chunks]

    def _treat(self, receipts: dict[str, Receipt], published: Published) -> Treated:
        request = self.request
        bench = Bench(request.out, self.plan, published.layer, FIRST, _unheard, _unheard, request.check,
                      request.access, request.network)  # fmt: skip
        memory = Memory(self.ledger.place, self.ledger.folder)
        return treat(self.treatments, bench, memory, base_of(self.plan.key, receipts.values()), self._tell_step)

    def _tell_step(self, step: Step) -> None:
        self.noted.note("step", **step.as_dict())

    def _finish(
        self, receipts: dict[str, Receipt], published: Published, treated: Treated, order: Order, resumed: int
    ) -> Outcome:
        whole = all(r.settled for r in receipts.values()) and treated.whole
        state = State.DONE if whole else State.INCOMPLETE
        facts = report(self.plan, list(receipts.values()), state, self.seconds | published.seconds,
                       fitted=order.fitted, context=self.request.context)  # fmt: skip
        facts |= {"steps": [step.as_dict() for step in treated.steps], "steps_key": wish_of(self.request.treatments),
                  "published": treated.raster}  # fmt: skip
        published.conclude(facts, self.request.network)
        if self.request.pace is not None:
            learn(self.plan.work.card, list(receipts.values()), self.request.pace)
        self.ledger.place.finish()
        self.noted.enter(state, valid_fraction=facts["pixels"]["valid_fraction"])
        if whole:
            self.ledger.drop_parts()
        return Outcome(state, facts, resumed)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - started, 3)


def _unheard(*_: object, **__: object) -> None:
    """Before a step has begun nobody listens."""


def _stop_where_hopeless(receipt: Receipt) -> None:
    """A full disk fails every chunk after the first: stop at once, and resume when there is room."""
    if receipt.error.startswith("output."):
        code, _, told = receipt.error.partition(": ")
        detail, _, hint = told.partition(" — ")  # as ``Problem.line`` puts them together
        raise OutputError(detail, code=code, field="--out", hint=hint)


class _Gauge:
    """Tells the observer twice a second how many pixels are done, those of unfinished chunks included."""

    def __init__(self, chunk_store: ChunkStore, observer: Observer, total: int) -> None:
        self.chunk_store, self.observer, self.total = chunk_store, observer, total
        self.settled = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self.chunk_store.forget_progress()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.observer.progress(self.settled, self.total)

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            self.observer.progress(min(self.settled + self.chunk_store.under_way(), self.total), self.total)
