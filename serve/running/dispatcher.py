"""The dispatcher: takes jobs from the queue, gives them to crews, and takes them back from whoever has died.

There may be several; a lease in the store lets one of them work. All that it knows lies in the store, so that it may
be killed at any point: attempts go on without it, and another dispatcher finds what has no living holder.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serve.passing import waits
from serve.structured import about
from swathe.errors import ClusterError, ConflictError, StoreError, SwatheError
from swathe.job import ENDED, JobState, Where

if TYPE_CHECKING:
    from serve.running.crews import Crew
    from serve.settings import ServiceSettings
    from serve.store.jobs import Hold
    from serve.store.queue import QueueLimits
    from serve.store.store import Store
    from swathe.job import Job

LEASE = "dispatcher"
TURN_S = 0.15
"""Between two looks into the queue."""
_IDLE_S = 1.0
"""The same, while another dispatcher works or the database is away."""
_AT_ONCE = 16
"""Jobs begun in one turn."""
_GRACE_S = 20.0
"""For an attempt to stop by itself when its user wants it to."""
_HURRY_S = 2.0
_STUCK_S = 60.0
_log = logging.getLogger("swathe.dispatcher")


@dataclass(slots=True)
class _Begun:
    """An attempt that this dispatcher began."""

    hold: Hold
    crew: Crew
    cancelled: float | None = None
    """When it was first seen to be unwanted."""


@dataclass(slots=True)
class _Beside:
    """Something done now and then."""

    seconds: float
    step: Callable[[], object]
    due: float = 0.0

    def look(self) -> None:
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + self.seconds
            self.step()


class Dispatcher:
    """One thread. ``every``: what is done beside it, as (seconds, step)."""

    def __init__(
        self, settings: ServiceSettings, store: Store, crews: Mapping[Where, Crew],
        every: tuple[tuple[float, Callable[[], object]], ...] = (),
    ) -> None:  # fmt: skip
        """Nothing happens before ``start``."""
        self._settings, self._limits, self._store, self._crews = settings, settings.limits, store, crews
        self._name = f"d-{uuid.uuid4().hex[:12]}"
        self._epoch: int | None = None
        self._renewed = 0.0
        self._begun: dict[str, _Begun] = {}
        self._beside = [_Beside(seconds, step) for seconds, step in ((_HURRY_S, self._hurry), *every)]
        self._end = threading.Event()
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)

    # --- the thread ---

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Take nothing more. What is begun goes on, and the next dispatcher may begin at once."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._give()

    @property
    def leading(self) -> bool:
        """Whether this is the one that works."""
        return self._epoch is not None

    def check(self) -> None:
        """Raises RuntimeError where the thread has ended or stands still."""
        if not self._thread.is_alive() or time.monotonic() - self._turned > _STUCK_S:
            raise RuntimeError("the dispatcher does not work any more")

    def _work(self) -> None:
        while not self._end.is_set():
            pause = _IDLE_S
            try:
                pause = TURN_S if self.step() else _IDLE_S
            except StoreError as error:
                _log.warning("%s", error.problem.line())
            except Exception:  # noqa: BLE001  one job's trouble must not be the end of all
                _log.exception("the dispatcher stumbled")
            self._turned = time.monotonic()
            self._end.wait(pause)

    # --- one turn ---

    def step(self) -> bool:
        """Look at everything once; False: another dispatcher works. Raises StoreError."""
        if not self._leads():
            return False
        self._look_after()
        self._take_up()
        self._begin_waiting()
        for one in self._beside:
            one.look()
        return True

    def _leads(self) -> bool:
        """Whether the lease is ours: renewed now and then, taken where it is free."""
        from serve.store import leases

        span = self._limits.lease_s
        if self._epoch is not None and time.monotonic() - self._renewed < span / 5:
            return True
        with self._store.begin() as c:
            if self._epoch is None or not leases.renew(c, LEASE, self._name, self._epoch, span):
                self._epoch = leases.take(c, LEASE, self._name, span)
        self._renewed = time.monotonic()
        return self._epoch is not None

    def _give(self) -> None:
        from serve.store import leases

        if self._epoch is None:
            return
        try:
            with self._store.begin() as c:
                leases.give(c, LEASE, self._name, self._epoch)
        except SwatheError as error:
            _log.warning("%s", error.problem.line())
        self._epoch = None

    def _look_after(self) -> None:
        """Attempts of ours that ended: whoever died without a word has the job taken back from it at once."""
        for id_, begun in list(self._begun.items()):
            if not begun.crew.alive(begun.hold):
                self._take_back(begun.hold)
                del self._begun[id_]

    def _take_back(self, hold: Hold) -> None:
        from serve.store import jobs
        from serve.store.store import clock
        from swathe.errors import NotFoundError

        # It came to its end, or gave the job back itself: then there is nothing to take.
        with suppress(ConflictError, NotFoundError), self._store.begin() as c:
            job = jobs.get(c, hold.job)
            if job.state not in ENDED:
                lost = jobs.fruitless(c, hold.job)
                jobs.release(c, hold, clock() + (0.0 if lost <= 1 else waits(lost - 1)))
                _log.warning("the attempt died: taken back", extra=about(job=hold.job, task=hold.task))

    def _hurry(self) -> None:
        """What is not wanted any more and does not stop by itself is stopped from outside, where that can be done."""
        from serve.store import jobs
        from swathe.errors import NotFoundError

        for id_, begun in self._begun.items():
            if begun.cancelled is not None and time.monotonic() - begun.cancelled > _GRACE_S:
                begun.crew.stop(begun.hold)
                begun.cancelled = time.monotonic()
            elif begun.cancelled is None:
                with suppress(NotFoundError), self._store.read() as c:
                    begun.cancelled = time.monotonic() if jobs.get(c, id_).cancelling else None

    def _take_up(self) -> None:
        """Jobs of whoever has not been heard of: attempts of a dispatcher that died, of a machine that is gone."""
        from serve.store import queue

        with self._store.read() as c:
            found = queue.abandoned(c)
        for job in found:
            self._begin(job)

    def _begin_waiting(self) -> None:
        from serve.store import queue

        with self._store.read() as c:
            found = queue.waiting(c, _AT_ONCE, self._queue_limits)
        for job in found:
            self._begin(job)

    @property
    def _queue_limits(self) -> QueueLimits:
        from serve.store.queue import QueueLimits

        limits = self._limits
        running = {Where.ONLINE: limits.running_online, Where.POOL: limits.running_pool,
                   Where.CLUSTER: limits.running_cluster}  # fmt: skip
        return QueueLimits(limits.running_per_user, running)

    def _begin(self, job: Job) -> None:
        """Take it and give it to its crew; one that was tried too often, or is not wanted any more, ends here."""
        from serve.store import jobs

        crew = self._crews[job.where]
        if not crew.ready:
            return
        with self._store.begin() as c:
            hold = jobs.take(c, job.id, f"{self._name}/{uuid.uuid4().hex[:8]}", crew.lease_s)
            if hold is None:
                return
            lost = jobs.fruitless(c, job.id) - 1
        if job.cancelling:
            self._finish(hold, JobState.CANCELLED)
        elif lost >= self._limits.max_attempts:
            self._finish(hold, JobState.FAILED, _given_up(lost).problem.as_dict())
        else:
            self._hand_over(job, hold, crew)

    def _finish(self, hold: Hold, state: JobState, problem: dict[str, Any] | None = None) -> None:
        from serve.desk.files import lying
        from serve.store import jobs

        left = lying(hold.job, self._settings)
        with self._store.begin() as c:
            jobs.finish(c, hold, state, {}, left, problem)

    def _hand_over(self, job: Job, hold: Hold, crew: Crew) -> None:
        from serve.store import jobs
        from serve.store.store import clock

        try:
            crew.start(job, hold)
        except SwatheError as error:
            _log.warning("the attempt cannot begin: %s", error.problem.line(), extra=about(job=job.id, task=hold.task))
            with self._store.begin() as c:
                jobs.release(c, hold, clock() + waits(jobs.fruitless(c, job.id)))
        else:
            self._begun[job.id] = _Begun(hold, crew)


def _given_up(lost: int) -> ClusterError:
    return ClusterError(f"the job's worker was lost {lost} times without progress", code="job.given_up",
                        hint="resume it: it goes on where it stopped")  # fmt: skip
