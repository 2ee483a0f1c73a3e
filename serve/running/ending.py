"""How an attempt ends: the job with it, once and in one transaction, or only this try of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.products.assets import ASSETS
from pipelines.steps.sequence import FIRST
from serve.passing import BUSY, FULL, passing, waits
from serve.running.write_queue import LOST
from swathe.errors import ClusterError, ConflictError, NotFoundError, OutputError, StoreError, SwatheError
from swathe.job import JobState
from swathe.state import State

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipelines.run import Outcome
    from serve.running.held import Held
    from serve.running.journal import Journal
    from serve.running.write_queue import WriteQueue
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.job import Job

FILES = (*(asset.name for asset in ASSETS), "item.json")
"""What a job may leave behind."""
_STATES = {State.DONE: JobState.DONE, State.INCOMPLETE: JobState.INCOMPLETE}
_AGAIN_S = 0.5
_BUSY_S = 10.0
"""Between two looks whether another attempt's hold on the folder has run out; it lasts a minute beyond its holder."""


def _of_the_machine(error: Exception) -> SwatheError | None:
    """What it had too little of, where the system said so to somebody who did not expect it."""
    from pipelines.products.parts import disk_full

    if isinstance(error, MemoryError):
        return ClusterError("the attempt ran out of memory", code="cluster.memory")
    return OutputError(f"the disk is full: {error}", code=FULL) if disk_full(error) else None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a job leaves in the catalogue."""

    collections: tuple[dict[str, Any], ...]
    """That it needs."""
    item: dict[str, Any]
    """The result."""
    model: dict[str, Any] | None = None
    """The Item of its model, where that is not there yet."""


class Ending:
    """Of one attempt. Each way waits for the database, as long as the job is still this attempt's."""

    def __init__(self, settings: ServiceSettings, store: Store, held: Held, job: Job, writes: WriteQueue) -> None:
        """Nothing is written yet."""
        self._settings, self._store, self._held, self._job, self._writes = settings, store, held, job, writes

    def done(self, outcome: Outcome, journal: Journal, seconds: float) -> None:
        """Products stand: files, catalogue and end state are written together, or not at all."""
        files, entry = self._files(), self._entry()
        result = {
            "files": files, "item": {"collection": entry.item["collection"], "id": entry.item["id"]},
            "pixels": outcome.report.get("pixels", {}), "warnings": outcome.report.get("warnings", []),
            "steps": (steps := outcome.report.get("steps", [])), "published": outcome.report.get("published", FIRST),
        }  # fmt: skip
        state = _STATES[outcome.state]
        problem = next((step["problem"] for step in steps if step["problem"]), None)
        journal.info(f"ends as {state.value}", seconds=round(seconds, 3), resumed=outcome.resumed)
        size = sum(files.values()) if state is JobState.DONE else self._lying()
        self._finish(state, result, size, problem, entry)

    def stopped(self, journal: Journal) -> None:
        """Cancelled by its user: an end. Told to go by the machine: another attempt takes it up at once."""
        if self._held.lost:
            journal.inside("the job is somebody else's by now")
        elif self._held.cancelling:
            journal.info("ends as cancelled")
            self._finish(JobState.CANCELLED, {}, self._lying())
        else:
            journal.info("given back: this attempt was told to stop")
            self._release(0.0, counts=False)

    def failed(self, error: SwatheError, words: Callable[[str], str], journal: Journal) -> None:
        """Tried again where that may help, and an end where it cannot.

        A folder that a dead attempt still seems to hold is waited for, however often that has to be.
        """
        if isinstance(error, OutputError):
            journal.inside(error.problem.line())  # its owner is not told where the service keeps what
        problem = self._problem(error, words)
        if self._held.lost:
            return
        if self._held.cancelling:
            self.stopped(journal)
        elif error.problem.code == BUSY:
            journal.warning("waits for the attempt before it", problem=problem, seconds=_BUSY_S)
            self._release(_BUSY_S, problem, counts=False)
        elif passing(error) and (tried := self._fruitless()) < self._settings.limits.max_attempts:
            wait = waits(tried, error.problem.code)
            journal.warning("tried again", problem=problem, seconds=wait)
            self._release(wait, problem)
        else:
            journal.error("ends as failed", problem=problem)
            self._finish(JobState.FAILED, {}, self._lying(), problem)

    def broke(self, error: Exception, journal: Journal) -> None:
        """A fault of ours, which would only repeat itself; but for what the machine lacked, which passes."""
        if (known := _of_the_machine(error)) is not None:
            self.failed(known, str, journal)
            return
        problem = SwatheError(f"the attempt broke: {type(error).__name__}", code="internal").problem.as_dict()
        journal.error("ends as failed", problem=problem)
        self._finish(JobState.FAILED, {}, self._lying(), problem)

    # --- pieces ---

    def _problem(self, error: SwatheError, words: Callable[[str], str]) -> dict[str, Any]:
        from serve.desk.wording import of_storage, reworded

        if error.problem.code == "output.taken":
            error = ConflictError("the imagery or the model has changed since this job began", code="job.changed",
                                  hint="submit it anew")  # fmt: skip
        error = reworded(error, {})
        error.detail, error.hint = words(error.detail), words(error.hint)
        return of_storage(error.problem).as_dict()

    def _files(self) -> dict[str, int]:
        """Name -> bytes."""
        blobs = self._settings.blobs(f"jobs/{self._job.id}")
        found = ((name, blobs.look(name)) for name in FILES)
        return {name: blob.size for name, blob in found if blob is not None}

    def _lying(self) -> int:
        """Bytes that an unfinished job keeps for its next round; its user's quota counts them."""
        from serve.desk.files import lying

        return lying(self._job.id, self._settings)

    def _entry(self) -> Entry:
        """What goes into the catalogue. An Item's own id names the plan, which two jobs may share."""
        from pipelines.catalogue.model_items import MODELS, model_item, models_collection
        from pipelines.catalogue.register import result_entry
        from serve.planning import cards_of

        job, cards = self._job, cards_of(self._settings)  # those of everybody: added ones may be their owner's alone
        item = json.loads(self._settings.blobs(f"jobs/{job.id}").get("item.json")) | {"id": job.id}
        collection, item = result_entry(item, f"{self._settings.folder_of(job.id)}/item.json", cards)
        if job.model not in cards or self._catalogued(MODELS, job.model):
            return Entry((collection,), item)
        model = model_item(cards[job.model], datetime.now(UTC).replace(microsecond=0))
        return Entry((collection, models_collection()), item, model)

    def _catalogued(self, collection: str, id_: str) -> bool:
        from serve.store import catalogue

        try:
            catalogue.item(self._store, self._settings.service_dir, collection, id_)
        except NotFoundError:
            return False
        return True

    def _finish(
        self, state: JobState, result: dict[str, Any], size: int, problem: dict[str, Any] | None = None,
        entry: Entry | None = None,
    ) -> None:  # fmt: skip
        from serve.store import catalogue, jobs

        def write(c: Connection) -> None:
            if entry is not None:
                for collection in entry.collections:
                    catalogue.put_collection(c, collection)
                catalogue.put_item(c, entry.item, self._job.owner, self._job.project)
                if entry.model is not None:
                    catalogue.put_item(c, entry.model, None)
            jobs.finish(c, self._held.hold, state, result, size, problem)

        self._write(write)

    def _fruitless(self) -> int:
        """As it stands when all is written that this attempt has done."""
        from serve.store import jobs

        for _ in self._tries():
            if self._writes.flush():
                with suppress(StoreError), self._store.read() as c:
                    return jobs.fruitless(c, self._job.id)
        return 0

    def _release(self, wait: float, problem: dict[str, Any] | None = None, *, counts: bool = True) -> None:
        from serve.store import jobs
        from serve.store.store import clock

        hold = self._held.hold

        def write(c: Connection) -> None:
            if problem is not None:
                jobs.note(c, hold, "retry", key=f"{self._job.round}:{hold.epoch}:retry", problem=problem, seconds=wait)
            jobs.release(c, hold, clock() + wait, counts=counts)

        self._write(write)

    def _write(self, step: Callable[[Connection], None]) -> None:
        """What waits first, then this; again and again, until it stands or the job is somebody else's."""
        for _ in self._tries():
            if not self._writes.flush():
                continue
            try:
                with self._store.begin() as c:
                    step(c)
            except StoreError:
                continue
            except ConflictError as error:
                if error.problem.code != LOST:
                    raise
            return

    def _tries(self) -> Iterator[None]:
        import time

        while not self._held.lost:
            yield
            time.sleep(_AGAIN_S)
