"""A hand of the standing pool: a process that does one chunk at a time, of whichever job, with everything loaded."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swathe.errors import ClusterError, SwatheError

if TYPE_CHECKING:
    from models.predictor import Predictor
    from pipelines.runner import Hire
    from pipelines.worker import ChunkWorker, Measurer, Order
    from swathe.card import ModelCard
    from swathe.lattice import Chunk

WORKERS = 6
"""Runs whose imagery is kept open."""
KEPT_GB = 4.0
"""Of models, as their cards say it; the one used last is kept whatever it takes."""
WARM = (
    "rasterio", "pyproj", "shapely", "scipy.sparse.csgraph", "models.load", "models.formula", "pipelines.worker",
    "pipelines.imagery.readers", "pipelines.products.shapes",
)  # fmt: skip
"""What a hand imports before its first chunk."""


def warm(names: tuple[str, ...]) -> None:
    """Import modules that are slow to come, while nobody waits."""
    for name in names:
        importlib.import_module(name)


class Hand:
    """Not to be shared by threads."""

    def __init__(self, kept_gb: float = KEPT_GB) -> None:
        """Nothing is loaded yet."""
        self._kept_gb = kept_gb
        self._workers: OrderedDict[str, ChunkWorker | Measurer] = OrderedDict()
        self._models: OrderedDict[str, tuple[Predictor, float]] = OrderedDict()

    def do(self, ticket: str, hire: Hire, order: Callable[[], Order], chunk: Chunk) -> dict[str, Any] | SwatheError:
        """One chunk; ``ticket`` names the order, which is only asked for where it is not known here.

        What keeps it from being done at all is an answer: an exception would say less of itself on its way.
        """
        try:
            return self._worker(ticket, hire, order)(chunk)
        except SwatheError as error:
            return error
        except Exception as error:  # noqa: BLE001  the hand lives on, the run is told
            return ClusterError(f"a worker broke: {type(error).__name__}: {error}", code="cluster.worker")

    def forget(self, ticket: str) -> None:
        """That order is done: close its files."""
        worker = self._workers.pop(ticket, None)
        if worker is not None:
            worker.reader.close()

    def _worker(self, ticket: str, hire: Hire, order: Callable[[], Order]) -> ChunkWorker | Measurer:
        if ticket not in self._workers:
            self._workers[ticket] = self._hired(hire, order())
        self._workers.move_to_end(ticket)
        while len(self._workers) > WORKERS:
            self.forget(next(iter(self._workers)))
        return self._workers[ticket]

    def _hired(self, hire: Hire, order: Order) -> ChunkWorker | Measurer:
        from pipelines.worker import ChunkWorker

        return ChunkWorker(order, self._model(order)) if hire is ChunkWorker else hire(order)

    def _model(self, order: Order) -> Predictor:
        from pipelines.worker import load_for_chunks

        card, name = order.work.card, _name(order)
        if name not in self._models:
            self._make_room(card)
            self._models[name] = load_for_chunks(order), card.resources.memory_gb
        self._models.move_to_end(name)
        return self._models[name][0]

    def _make_room(self, card: ModelCard) -> None:
        """Before it is loaded: those that were used longest ago go, with the runs that they belong to."""
        wanted = card.resources.memory_gb
        while self._models and sum(gb for _, gb in self._models.values()) + wanted > self._kept_gb:
            _, (model, _) = self._models.popitem(last=False)
            for ticket in [t for t, w in self._workers.items() if getattr(w, "predict", None) is model]:
                self.forget(ticket)


def _name(order: Order) -> str:
    return repr((order.work.card.model_dump_json(), order.threads, order.fitted))
