"""Crews: each has jobs that the dispatcher holds carried out, in threads, on the pool, or as Ray jobs."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from serve.structured import about
from swathe.errors import ClusterError, SwatheError
from swathe.job import Where

if TYPE_CHECKING:
    from cluster.submit import Dashboard
    from serve.running.attempt import Hired
    from serve.running.held import Held
    from serve.running.pool import Pool
    from serve.settings import ServiceSettings
    from serve.store.jobs import Hold
    from serve.store.store import Store
    from swathe.card import ModelCard
    from swathe.job import Job

_LOOK_S = 2.0
"""Between two looks at a Ray job."""
_log = logging.getLogger("swathe.crews")


class Crew(Protocol):
    """All three are called by the dispatcher's thread, and come back at once."""

    lease_s: float
    """That a job is held for until its attempt has begun."""

    @property
    def ready(self) -> bool:
        """Whether it can begin an attempt now: none is counted that nobody could have begun."""
        ...

    def start(self, job: Job, hold: Hold) -> None:
        """Begin an attempt in the name of this hold. Raises SwatheError."""
        ...

    def alive(self, hold: Hold) -> bool:
        """Whether whoever was to carry it out still may; False as well for what has come to its end."""
        ...

    def stop(self, hold: Hold) -> None:
        """Its user has waited long enough for it to stop by itself."""
        ...


class Threads:
    """Threads of this process and the plain loop: for tests, and for a service without Ray."""

    def __init__(self, settings: ServiceSettings, store: Store, *, at_once: int = 2, threads: int = 1) -> None:
        """``threads``: of the forward."""
        self.lease_s, self.ready = settings.limits.lease_s, True
        self._settings, self._store, self._threads = settings, store, threads
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="attempt")
        self._under_way: dict[Hold, Future[None]] = {}

    def start(self, job: Job, hold: Hold) -> None:  # noqa: ARG002  the protocol's
        """See :class:`Crew`."""
        from serve.running.attempt import attempt

        self._under_way[hold] = self._pool.submit(attempt, self._settings, self._store, hold, self._hiring)

    def alive(self, hold: Hold) -> bool:
        """See :class:`Crew`."""
        future = self._under_way.get(hold)
        if future is None or not future.done():
            return future is not None
        del self._under_way[hold]
        if error := future.exception():
            _log.error("the attempt broke", exc_info=error, extra=about(job=hold.job, task=hold.task))
        return False

    def stop(self, hold: Hold) -> None:
        """A thread cannot be stopped from outside; it looks for itself, between chunks."""

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown()

    @contextmanager
    def _hiring(self, card: ModelCard, held: Held) -> Iterator[Hired]:  # noqa: ARG002  a loop does all cards
        from pipelines.runner import Loop
        from serve.running.attempt import Hired

        yield Hired(Loop(self._threads), "loop")


class OnPool:
    """Leads of the standing pool; see ``serve.running.pool``."""

    def __init__(self, settings: ServiceSettings, opened: Callable[[], Pool]) -> None:
        """``opened`` gives the pool; it is asked for again where Ray has given up one of its leads."""
        self.lease_s = settings.limits.lease_s
        self._opened, self._lock = opened, threading.Lock()
        self._pool: Pool | None = None
        self._resting: dict[str, Any] = {}
        self._under_way: dict[Hold, tuple[str, Any]] = {}

    def open(self) -> None:
        """Have the pool up, or coming up, before the first job is there. Raises ClusterError."""
        with self._lock:
            if self._pool is None:
                self._pool = self._fresh()

    def _fresh(self) -> Pool:
        try:
            pool = self._opened()
            self._resting = {name: lead.ready.remote() for name, lead in pool.leads.items()}
        except SwatheError:
            raise
        except Exception as error:
            raise ClusterError(f"the pool cannot be had: {error}", code="cluster.pool") from error
        return pool

    @property
    def ready(self) -> bool:
        """See :class:`Crew`: whether a lead is warm."""
        if self._pool is None:
            return False
        for name in list(self._resting):
            self._look_at_resting(name)
        return bool(self._pool and set(self._pool.leads) - set(self._resting))

    def start(self, job: Job, hold: Hold) -> None:
        """See :class:`Crew`."""
        name = self._idlest()
        lead = self._leads[name].carry_out.options(name=task_name(hold.job))
        self._under_way[hold] = name, lead.remote(hold, small=job.where is Where.ONLINE)

    def alive(self, hold: Hold) -> bool:
        """See :class:`Crew`."""
        import ray

        name, ref = self._under_way.get(hold, ("", None))
        if ref is None:
            return False
        ready, _ = ray.wait([ref], timeout=0, fetch_local=False)
        if ready:
            del self._under_way[hold]
            self._look_at(name, ref, job=hold.job, task=hold.task)
        return not ready

    def stop(self, hold: Hold) -> None:
        """It asks the store for itself, once a second."""

    @property
    def _leads(self) -> dict[str, Any]:
        return dict(self._pool.leads) if self._pool else {}

    def _idlest(self) -> str:
        awake = [name for name in self._leads if name not in self._resting]
        if not awake:
            raise ClusterError("no lead of the pool is there", code="cluster.pool")
        busy = Counter(name for name, _ in self._under_way.values())
        return min(awake, key=lambda name: busy[name])

    def _look_at(self, name: str, ref: Any, **facts: str) -> bool:
        """Whether that call came back: a lead that died is asked whether it is there again, or asked for anew.

        ``facts``: what the call was about.
        """
        import ray
        from ray.exceptions import ActorDiedError, RayActorError, RayError

        try:
            ray.get(ref)
        except ActorDiedError as error:
            _log.warning("a lead is gone: %s", error, extra=about(actor=name, **facts))
            self._pool = None
        except RayActorError as error:
            _log.warning("a lead died: %s", error, extra=about(actor=name, **facts))
            if name in self._leads:
                self._resting[name] = self._leads[name].ready.remote()
        except RayError as error:
            _log.warning("a lead: %s", error, extra=about(actor=name, **facts))
        else:
            return True
        return False

    def _look_at_resting(self, name: str) -> None:
        import ray

        ref = self._resting[name]
        if ray.wait([ref], timeout=0, fetch_local=False)[0] and self._look_at(name, ref):
            del self._resting[name]


def task_name(job: str) -> str:
    """Of an attempt at a job on the pool, as Ray's dashboard shows it."""
    return f"job {job}"


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    future: Future[bool]


class AsRayJobs:
    """A Ray job per attempt, with its log and metadata in the dashboard."""

    STARTS_S = 120.0
    """Until the process of a Ray job holds its job by itself."""

    def __init__(self, settings: ServiceSettings, store: Store, found: Callable[[], Dashboard]) -> None:
        """``found`` gives the dashboard, at each use: it may come back at another address."""
        self.lease_s, self.ready = max(self.STARTS_S, settings.limits.lease_s), True
        self._store, self._found = store, found
        self._sender = ThreadPoolExecutor(4, thread_name_prefix="ray-jobs")
        self._sent: dict[Hold, Future[str]] = {}
        self._looked: dict[Hold, _Look] = {}

    def start(self, job: Job, hold: Hold) -> None:
        """See :class:`Crew`."""
        self._sent[hold] = self._sender.submit(self._send, job, hold)

    def alive(self, hold: Hold) -> bool:
        """See :class:`Crew`; what is not known yet is taken for alive."""
        sent = self._sent.get(hold)
        if sent is None:
            return False
        if not sent.done():
            return True
        looked = self._looked.get(hold)
        if looked is not None and looked.future.done() and not self._known(hold, looked.future):
            del self._sent[hold], self._looked[hold]
            return False
        if looked is None or (looked.future.done() and time.monotonic() - looked.at > _LOOK_S):
            self._looked[hold] = _Look(time.monotonic(), self._sender.submit(self._runs, sent))
        return True

    def stop(self, hold: Hold) -> None:
        """By signal; Ray waits half a minute before it kills."""
        sent = self._sent.get(hold)
        if sent is not None and sent.done() and not sent.exception():
            self._sender.submit(self._stop, sent.result())

    def close(self) -> None:
        """Send nothing more; Ray jobs go on."""
        self._sender.shutdown(wait=False, cancel_futures=True)

    # --- pieces, in threads: Ray's answers take their time ---

    def _send(self, job: Job, hold: Hold) -> str:
        from cluster import submit
        from serve.settings import ROOT
        from serve.store import jobs

        to = self._found()
        request = submit.JobRequest(
            (hold.job, str(hold.epoch), hold.holder), hold.job, place="here", cwd=ROOT, module="serve.running.attempt",
            metadata={"job": job.id, "user": job.owner, "model": job.model, "title": job.title[:100],
                      "attempt": str(hold.epoch)},
        )  # fmt: skip
        sent = submit.submit(request, to, again=True)
        if not sent.fresh:  # of an attempt that lost its hold, and has not noticed yet
            submit.cancel(sent.id, to)
            sent = submit.submit(request, to, again=True)
        with self._store.begin() as c:
            jobs.bind(c, hold, sent.id)
        return sent.id

    def _runs(self, sent: Future[str]) -> bool:
        """Raises where it could not be sent, or Ray does not know it any more."""
        from cluster import submit

        return not submit.state(sent.result(), self._found()).ended

    def _known(self, hold: Hold, looked: Future[bool]) -> bool:
        """What a look has shown; a Ray that cannot be asked now has not said that the job is gone."""
        error = looked.exception()
        if error is None:
            return looked.result()
        _log.warning("the Ray job: %s", error, extra=about(job=hold.job, task=hold.task))
        known = isinstance(error, SwatheError) and error.problem.code in {"cluster.unreachable", "cluster.auth"}
        return known and self._sent[hold].exception() is None

    def _stop(self, ray_job: str) -> None:
        from cluster import submit

        try:
            submit.cancel(ray_job, self._found(), wait_s=0)
        except SwatheError as error:
            _log.warning("%s", error.problem.line())
