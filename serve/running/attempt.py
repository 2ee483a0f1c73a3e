"""One attempt of one job: look, plan, run, and finish it, all in the name of a hold.

Whatever ends an attempt early leaves receipts and part files, with which the next one goes on. ``python -m
serve.running.attempt JOB EPOCH HOLDER`` is what a Ray job runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.running.ending import Ending
from serve.running.held import Held
from serve.running.journal import Journal
from serve.running.recorder import Recorder
from serve.running.write_queue import WriteQueue
from swathe.errors import Interrupted, SwatheError
from swathe.job import ENDED

if TYPE_CHECKING:
    from models.load import Ready
    from pipelines.run import Outcome
    from pipelines.runner import Hire, Runner
    from pipelines.store.blobs import Blobs
    from pipelines.worker import Order
    from serve.desk.asking import Asking
    from serve.settings import ServiceSettings
    from serve.store.jobs import Hold
    from serve.store.store import Store
    from swathe.card import ModelCard
    from swathe.imagery import Imagery
    from swathe.job import Job
    from swathe.lattice import Chunk
    from swathe.mosaic import Mosaic
    from swathe.plan import Plan
    from swathe.recipe import Recipe

PIECE_S = 8.0
"""Estimated seconds of a chunk, at most: others wait so long for a worker, and a user for a job to stop."""
_MOST_PIECES = 512


@dataclass(frozen=True, slots=True)
class Hired:
    """Who does the chunks of one attempt."""

    runner: Runner
    """They."""
    kind: str
    """loop, pool or ray; see ``pipelines.pace.START_S``."""


Hiring = Callable[["ModelCard", Held], AbstractContextManager[Hired]]
"""Gives workers for a card; they are told to stop by the ``Held``."""


def attempt(
    settings: ServiceSettings, store: Store, hold: Hold, hiring: Hiring, on_stop: Callable[[], None] | None = None
) -> None:
    """Carry a job out. How it went stands in the store; nothing is raised but what no attempt could handle.

    ``on_stop`` is called by another thread when the attempt is to end (cancelled, or somebody else's).
    """
    with Held(store, hold, settings.limits.lease_s, on_stop) as held:
        writes = WriteQueue(store, hold, held.lose)
        with store.read() as c:
            from serve.store import jobs

            job = jobs.get(c, hold.job)
        if held.lost or job.state in ENDED:
            return
        ending = Ending(settings, store, held, job, writes)
        _Attempt(settings, store, held, job, writes, hiring).carry_out(ending)


class _Attempt:
    def __init__(
        self, settings: ServiceSettings, store: Store, held: Held, job: Job, writes: WriteQueue, hiring: Hiring
    ) -> None:
        self.settings, self.store, self.held, self.job, self.hiring = settings, store, held, job, hiring
        self.journal = Journal(held.hold, writes)
        self.recorder = Recorder(held.hold, job.round, writes, self.journal)
        self.words: Callable[[str], str] = str

    def carry_out(self, ending: Ending) -> None:
        """Every way out of an attempt ends here, so that none is silent."""
        started = time.perf_counter()
        try:
            self.held.check()
            ending.done(self._run(), self.journal, time.perf_counter() - started)
        except (Interrupted, KeyboardInterrupt):
            ending.stopped(self.journal)
        except SwatheError as error:
            ending.failed(error, self.words, self.journal)
        except Exception as error:  # noqa: BLE001  a fault of ours: told as one, its trace kept from the user
            self.journal.inside("the attempt broke")
            ending.broke(error, self.journal)

    def _run(self) -> Outcome:
        from pipelines.store.place import working_folder
        from serve.desk.asking import asked
        from serve.desk.inputs import settled
        from serve.desk.wording import in_words

        asking = asked(self.job.request)
        found = settled(asking.to_recipe(), self.settings, self.store)
        self.recorder.words = self.words = lambda text: in_words(text, found.names)
        self._enter_preparing()
        with working_folder(self.settings.folder_of(self.job.id), self.settings.store) as (out, blobs):
            return self._in(out, blobs, found.recipe, asking)

    def _enter_preparing(self) -> None:
        from swathe.state import Event, State

        self.recorder.event(Event(0, "", "state", {"state": State.PREPARING.value}))

    def _in(self, out: Path, blobs: Blobs | None, recipe: Recipe, asking: Asking) -> Outcome:
        from pipelines.run import Request, run

        ready, imagery = self._ready(out, blobs, recipe, asking)
        card = ready.card
        request = Request(
            out, self.settings.home, store=blobs, network=self.settings.network_for(recipe),
            pace=self.settings.data_dir, context={"job": self.job.id}, check=self.held.check,
            treatments=self.settings.treatments(recipe, self.settings.limits.bounds), model=ready.content,
        )  # fmt: skip
        self._take_up(request.out, blobs)
        with self.hiring(card, self.held) as hired:
            plan = self._plan(recipe, card, imagery, hired)
            outcome = run(plan, request, _Stoppable(hired.runner, self.held), self.recorder)
        self._sum_up(out)
        return outcome

    def _sum_up(self, out: Path) -> None:
        """For archives of the result, while its files are near; what is not noted is read again when it is wanted."""
        from pipelines.store.blobs import open_blobs
        from pipelines.store.checksums import crcs
        from serve.running.ending import FILES

        sizes = {name: (out / name).stat().st_size for name in FILES if (out / name).is_file()}
        with suppress(OSError, SwatheError):
            crcs(self.settings.blobs(f"jobs/{self.job.id}"), sizes, f"{self.job.round}", open_blobs(out))

    def _ready(self, out: Path, blobs: Blobs | None, recipe: Recipe, asking: Asking) -> tuple[Ready, Imagery | Mosaic]:
        """The model, settled, and the imagery: the scenes that the job began with, if it began."""
        from models.load import ensure
        from pipelines.begin import begin
        from pipelines.real_tiles import real_tiles
        from pipelines.run import kept_scenes
        from serve.planning import card_of, in_precision, look

        card = in_precision(card_of(recipe, self.settings, self.store), asking.precision)
        kept = kept_scenes(out, blobs, recipe, self.settings.sources) if recipe.search else None
        imagery = kept or look(recipe, card, self.settings)
        self.held.check()
        with real_tiles(lambda: begin(recipe, card, imagery, 1).work, self.settings.network_for(recipe)) as tiles:
            ready = ensure(card, self.settings.home, say=self.recorder.say, tiles=tiles, check=self.held.check)
            return ready, imagery

    def _take_up(self, out: Path, blobs: Blobs | None) -> None:
        """An attempt before this one may have died before it could tell what was done."""
        if self.held.hold.epoch <= 1:
            return
        from pipelines.store.place import place_of

        self.recorder.catch_up(place_of(out, blobs).chunk_store.settled().values())

    def _plan(self, recipe: Recipe, card: ModelCard, imagery: Imagery | Mosaic, hired: Hired) -> Plan:
        from pipelines.begin import begin
        from pipelines.estimate import Means
        from serve.planning import estimated

        runner = hired.runner
        plan = begin(recipe, card, imagery, _pieces(self.job, runner.actors))
        return estimated(plan, self.settings, Means(hired.kind, runner.actors, runner.threads))


def _pieces(job: Job, workers: int) -> int:
    """Chunks to aim for: all workers busy, and none so long that others or a stop have to wait for it.

    Told from the estimate of the submission, which no attempt changes, so that all of them cut alike.
    """
    seconds = job.cost.get("seconds") or 0.0
    return min(max(workers, math.ceil(seconds * workers / PIECE_S)), max(workers, _MOST_PIECES))


class _Stoppable:
    """A runner that ends between two chunks where its attempt is to."""

    def __init__(self, runner: Runner, held: Held) -> None:
        self.actors, self.threads = runner.actors, runner.threads
        self._runner, self._held = runner, held

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """See :class:`pipelines.runner.Runner`."""
        self._held.check()
        for answer in self._runner.map(hire, order, chunks):
            yield answer
            self._held.check()


# --- as a Ray job -----------------------------------------------------------------------------------------------------


def main(job: str, epoch: str, holder: str) -> None:
    """The process of a Ray job. A stop by signal, as Ray or a cancelled job brings it, interrupts what is going on."""
    import os
    import signal
    import threading

    from serve import structured
    from serve.settings import ServiceSettings
    from serve.store.jobs import Hold

    def interrupt(number: int, _: object) -> None:  # noqa: ARG001  a handler's form
        raise KeyboardInterrupt

    def ask() -> None:
        if threading.main_thread().is_alive():
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, interrupt)
    structured.install()
    settings = ServiceSettings.read()
    attempt(settings, settings.open_store(), Hold(job, int(epoch), holder), _on_ray(settings), ask)


def _on_ray(settings: ServiceSettings) -> Hiring:
    """Workers of the cluster, for this job alone, on Ray Data."""
    from contextlib import contextmanager

    @contextmanager
    def hiring(card: ModelCard, _: Held) -> Iterator[Hired]:
        from cluster.local import ClusterSpec, connect
        from cluster.resources import layout
        from pipelines.ray_data import RayData

        spec = ClusterSpec(settings.data_dir, settings.ray_address or "auto", auth=settings.ray_auth_mode)
        with connect(spec) as session:
            yield Hired(RayData(layout(card.resources, session.nodes)), "ray")

    return hiring


def main_of_command() -> None:
    """From the command line."""
    import sys

    main(*sys.argv[1:4])


if __name__ == "__main__":
    main_of_command()
