"""Layers: rasters of results as maps show them. They follow from jobs and their items; nothing is kept of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.desk import files, rights
from serve.store.jobs import Filter
from serve.store.pages import Page
from swathe.errors import NotFoundError
from swathe.job import JobState
from swathe.layer import Layer, job_of

if TYPE_CHECKING:
    from pipelines.layers.draw import Drawn
    from pipelines.layers.files import Files, RasterFile
    from pipelines.layers.frame import Frame
    from serve.desk.jobs import Jobs
    from serve.desk.models import Models
    from serve.settings import ServiceSettings
    from swathe.job import Job
    from swathe.user import Caller

_SHOWN = (JobState.DONE, JobState.INCOMPLETE)
_KEPT = 2048
"""Jobs whose layers are remembered."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layer is at a point."""

    stored: float | None
    """The number in the file; None: outside, or no data."""
    value: float | None
    """The number after scale and offset; None: there is none."""
    name: str
    """Name of its class; empty where it has none."""


class Layers:
    """The use cases around layers. Whoever sees a job sees its layers; others' are not there."""

    def __init__(self, settings: ServiceSettings, jobs: Jobs, models: Models) -> None:
        self._settings, self._jobs, self._models = settings, jobs, models
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], tuple[Layer, ...]] = OrderedDict()
        self._files: Files | None = None

    def of_job(self, caller: Caller, job: str) -> tuple[Layer, ...]:
        """Layers of a job, its result first; none before its end. Raises NotFoundError (``job.unknown``)."""
        return self.of(self._jobs.get(caller, job))

    def of(self, job: Job) -> tuple[Layer, ...]:
        """The same of a job that the desk gave its caller: it is not asked for again."""
        if job.state not in _SHOWN or "item.json" not in job.result.get("files", {}):
            return ()
        key = (job.id, job.updated)
        with self._lock:
            found = self._known.get(key)
        if found is None:
            found = self._made(job)
            with self._lock:
                self._known[key] = found
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
        return found

    def listed(self, caller: Caller, limit: int = 20, cursor: str | None = None) -> Page[Layer]:
        """Layers of all jobs that the caller sees, the newest job first. ``limit``: jobs of a page."""
        page = self._jobs.listed(caller, Filter(state=_SHOWN), limit, cursor)
        return Page(tuple(layer for job in page.items for layer in self.of(job)), page.cursor)

    def get(self, caller: Caller, id_: str) -> Layer:
        """A layer that the caller sees. Raises NotFoundError (``layer.unknown``)."""
        job = job_of(id_)
        try:
            found = () if job is None else self.of_job(caller, job)
        except NotFoundError:
            found = ()
        layer = next((layer for layer in found if layer.id == id_), None)
        if layer is None:
            raise rights.missing(f"layer {id_[:100]}")
        return layer

    def draw(self, layer: Layer, frame: Frame) -> Drawn | None:
        """A layer that ``get`` gave, in a frame; None where it has nothing. Raises NotFoundError, ReadError."""
        from pipelines.layers.draw import draw

        return draw(self._opened(), self._file(layer), layer, frame)

    def read(self, layer: Layer, crs: str, point: tuple[float, float]) -> Reading:
        """What it is at a point (x, y), with its true number or class. Raises NotFoundError, ReadError."""
        from pipelines.layers.draw import value_at

        stored = value_at(self._opened(), self._file(layer), layer, crs, point)
        name = next((c.name for c in layer.style.labels if c.value == stored), "")
        return Reading(stored, None if stored is None else stored * layer.style.scale, name)

    # --- pieces ---

    def _made(self, job: Job) -> tuple[Layer, ...]:
        from pipelines.layers.published import Of, layers_of

        there = job.result.get("files", {})
        try:
            item = files.item(job, self._settings)
        except NotFoundError:  # its files went a moment ago
            return ()
        made = layers_of(item, Of(job.id, job.owner, job.model, self._range(job.model)))
        return tuple(layer for layer in made if layer.file in there)

    def _range(self, model: str) -> tuple[float, float] | None:
        """What a picture of the model's values shows, while its card is there."""
        card = self._models.card(model)
        return None if card is None else card.output.range

    def _opened(self) -> Files:
        from pipelines.layers.files import Files

        with self._lock:
            self._files = self._files or Files()
            return self._files

    def _file(self, layer: Layer) -> RasterFile:
        from pipelines.layers.files import RasterFile

        return RasterFile(self._settings.blobs(f"jobs/{layer.job}"), layer.file, layer.version)
