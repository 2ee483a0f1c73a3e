"""Batches: many wishes accepted at once; each becomes a job as soon as it is planned and the queue has room."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serve.desk import rights
from serve.desk.asking import asked
from serve.desk.inputs import at_home
from serve.desk.labels import check_labels
from serve.desk.wording import of_storage
from serve.passing import passing, waits
from serve.store import audit, batches, events, ids, users
from serve.structured import about
from swathe.errors import (
    AccessError,
    BusyError,
    ConflictError,
    InputError,
    Interrupted,
    LimitError,
    NotFoundError,
    StoreError,
    SwatheError,
)
from swathe.job import ENDED
from swathe.user import SCOPES_OF, Caller, Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.desk.asking import Asking
    from serve.desk.jobs import Jobs
    from serve.settings import ServiceSettings
    from serve.store.batches import Labels, Wish
    from serve.store.store import Store
    from swathe.batch import Batch, Part
    from swathe.job import Job
    from swathe.state import Event
    from swathe.user import User

LONGEST_LABELS = 1 << 20
"""Characters of a batch's labels as JSON."""
_STOPPED = Interrupted("its batch was cancelled before it was planned", code="batch.cancelled").problem.as_dict()
_MILESTONES = ("state", "step", "resumed", "retry")
"""Kinds of events. A large job has thousands of others, of its chunks."""
_CLEARED = 64
"""Removed batches that are looked after at a time."""
_log = logging.getLogger("swathe.batches")


@dataclass(frozen=True, slots=True)
class Listing:
    """Some of somebody's batches, with their parts."""

    batches: tuple[tuple[Batch, list[Part]], ...]
    """Newest first."""
    total: int
    """How many there are in all."""


class Batches:
    """The use cases around them. Others' batches do not exist."""

    def __init__(self, settings: ServiceSettings, store: Store, jobs: Jobs) -> None:
        self._settings, self._store, self._jobs = settings, store, jobs

    @staticmethod
    def new_id() -> str:
        """For a batch whose wishes have to know it."""
        return ids.new("b")

    def submit(
        self, caller: Caller, wishes: Sequence[Asking], title: str = "", labels: dict[str, Any] | None = None,
        id_: str | None = None,
    ) -> Batch:  # fmt: skip
        """Accept them; no imagery is looked at. ``id_``: from ``new_id``.

        Raises LimitError (``limit.wishes``, ``limit.labels``), InputError (``batch.secret``: a wish that waits is kept
        without the secret of its hook, which then could not sign).
        """
        rights.require(caller, Scope.JOBS_WRITE)
        _check(len(wishes), self._settings.limits.wishes_per_batch, labels or {})
        _check_hooks(wishes)
        lasting = [self._lasting(wish).record() for wish in wishes]
        with self._store.begin() as c:
            made = batches.add(c, caller.user.id, lasting, title, labels, id_)
            audit.note(c, caller, "batch.submit", made.id, wishes=len(wishes))
        return made

    def _lasting(self, wish: Asking) -> Asking:
        """With links to uploads named as uploads: they would expire while it waits. A bad one fails its part, later."""
        with suppress(SwatheError):
            return at_home(wish, self._settings)
        return wish

    def get(self, caller: Caller, id_: str) -> tuple[Batch, list[Part]]:
        """One with its parts. Raises NotFoundError."""
        with self._store.read() as c:
            return self._seen(c, caller, id_), batches.parts(c, [id_])[id_]

    def listed(self, caller: Caller, labels: Labels | None = None, limit: int = 25, skip: int = 0) -> Listing:
        """Those that they see and that have all these labels."""
        rights.require(caller, Scope.JOBS_READ)
        owner = None if caller.admin else caller.user.id
        with self._store.read() as c:
            found = batches.listed(c, owner, labels or {}, limit, skip)
            parts = batches.parts(c, [batch.id for batch in found])
            total = batches.count(c, owner, labels or {})
        return Listing(tuple((batch, parts[batch.id]) for batch in found), total)

    def events(self, caller: Caller, id_: str, after: Mapping[int, int] | None = None) -> list[tuple[int, Event]]:
        """What became of its jobs, oldest first, each fact with the number of its part; without those of chunks.

        ``after``: number of a part -> number of the last event that is known of it.
        """
        known = after or {}
        _, parts = self.get(caller, id_)
        news = [part for part in parts if part.job is not None and part.job.last_seq > known.get(part.number, 0)]
        told = self.milestones(news)
        found = [(n, event) for n in told for event in told[n] if event.seq > known.get(n, 0)]
        return sorted(found, key=lambda one: (one[1].at, one[0], one[1].seq))

    def milestones(self, parts: Iterable[Part]) -> dict[int, list[Event]]:
        """The same of parts of one batch that ``get`` or ``listed`` gave, by their numbers; all have a list."""
        numbers = {part.job.id: part.number for part in parts if part.job is not None}
        with self._store.read() as c:
            found = events.of_several(c, list(numbers), _MILESTONES) if numbers else {}
        return {number: found.get(job, []) for job, number in numbers.items()}

    def cancel(self, caller: Caller, id_: str) -> tuple[Batch, list[Part]]:
        """Stop what runs, and plan nothing more. What has ended stays as it is. Raises NotFoundError."""
        rights.require(caller, Scope.JOBS_WRITE)
        with self._store.begin() as c:
            self._seen(c, caller, id_)
            held = batches.cancel(c, id_, _STOPPED)
            audit.note(c, caller, "batch.cancel", id_)
        for job in held:
            with suppress(ConflictError, NotFoundError):  # it has ended, or was removed
                self._jobs.cancel(caller, job)
        return self.get(caller, id_)

    def label(self, caller: Caller, id_: str, labels: dict[str, Any]) -> Batch:
        """Other labels. Raises NotFoundError, LimitError."""
        rights.require(caller, Scope.JOBS_WRITE)
        _check(0, 0, labels)
        with self._store.begin() as c:
            self._seen(c, caller, id_)
            return batches.change(c, id_, labels)

    def drop(self, caller: Caller, id_: str) -> None:
        """With its jobs and their results: those that have ended now, those that run when they have stopped.

        Raises NotFoundError.
        """
        self.cancel(caller, id_)
        with self._store.begin() as c:
            batches.hide(c, id_)
            audit.note(c, caller, "batch.drop", id_)
        self._clear(id_)

    # --- by whoever plans -------------------------------------------------------------------------------------------

    def waiting(self, limit: int, but: Collection[str] = ()) -> list[Batch]:
        """Batches with something to plan: of each user the oldest one, then of each the second, and so on.

        ``but``: ids of users whose batches are left out.
        """
        with self._store.read() as c:
            return batches.waiting(c, limit, but)

    def clear(self) -> None:
        """What is left of batches that were removed while jobs of theirs ran. Raises StoreError, OutputError."""
        with self._store.read() as c:
            left = batches.hidden(c, _CLEARED)
        for id_ in left:
            self._clear(id_)

    def plan_next(self, batch: Batch) -> bool:
        """Make the next wish a job, or note why it cannot be one; False: none is to be planned now.

        A wish that meets trouble which passes is tried again as an attempt of a job is, as often and after the same
        pauses.
        Raises BusyError where the queue of its owner is full: the wish goes on waiting. Raises StoreError.
        """
        with self._store.read() as c:
            wish = batches.next_wish(c, batch.id)
            owner = users.get(c, batch.owner)
        if wish is None:
            return False
        caller = Caller(owner, SCOPES_OF[owner.role])

        def kept(c: Connection, job: Job) -> None:
            batches.settle(c, batch.id, wish.number, job=job.id)

        try:
            _check_owner(owner)
            self._jobs.submit(caller, asked(wish.request), kept, batch.created)
        except (BusyError, StoreError):
            raise
        except SwatheError as error:
            self._not_planned(batch, wish, error)
        except Exception as error:  # noqa: BLE001  a fault of ours, which would only repeat itself and keep its batch for ever
            _log.exception("the planning broke", extra=about(batch=batch.id, wish=wish.number))
            self._refused(batch, wish, SwatheError(f"the planning broke: {type(error).__name__}", code="internal"))
        return True

    # --- pieces -----------------------------------------------------------------------------------------------------

    def _not_planned(self, batch: Batch, wish: Wish, error: SwatheError) -> None:
        tried = wish.tries + 1
        if not passing(error) or tried >= self._settings.limits.max_attempts:
            self._refused(batch, wish, error)
            return
        wait = waits(tried, error.problem.code)
        _log.warning("tried again in %g s: %s", wait, error.problem.line(),
                     extra=about(batch=batch.id, wish=wish.number))  # fmt: skip
        with self._store.begin() as c:
            batches.postpone(c, batch.id, wish.number, wait)

    def _refused(self, batch: Batch, wish: Wish, error: SwatheError) -> None:
        with suppress(ConflictError), self._store.begin() as c:  # it was stopped meanwhile
            batches.settle(c, batch.id, wish.number, problem=of_storage(error.problem).as_dict())

    def _clear(self, id_: str) -> None:
        """Jobs of a batch that was removed, as far as they have ended; with the last of them, the batch."""
        with self._store.read() as c:
            held = [part.job for part in batches.parts(c, [id_])[id_] if part.job is not None]
        for job in held:
            if job.state in ENDED:
                with suppress(ConflictError, NotFoundError):  # somebody resumed it, or was quicker
                    self._jobs.clear(job.id)
        if all(job.state in ENDED for job in held):
            with suppress(NotFoundError), self._store.begin() as c:
                batches.drop(c, id_)

    def _seen(self, c: Connection, caller: Caller, id_: str) -> Batch:
        rights.require(caller, Scope.JOBS_READ)
        found = batches.get(c, id_)
        rights.see(caller, found.owner, f"batch {id_}")
        return found


def _check_owner(owner: User) -> None:
    if not owner.active:
        raise AccessError("its owner is switched off", code="access.user")


def _check_hooks(wishes: Sequence[Asking]) -> None:
    if any(wish.hook is not None and wish.hook.secret for wish in wishes):
        raise InputError("the secret of a hook is not kept with the wishes of a batch", code="batch.secret",
                         field="hook.secret", hint="leave the secret out, or submit these jobs one by one")  # fmt: skip


def _check(count: int, most: int, labels: dict[str, Any]) -> None:
    if count > most:
        raise LimitError(f"these are {count:,} jobs, {most:,} are allowed at once", code="limit.wishes",
                         hint="ask for fewer areas or dates")  # fmt: skip
    check_labels(labels, LONGEST_LABELS)
