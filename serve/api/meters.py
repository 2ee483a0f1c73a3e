"""Numbers for Prometheus: requests as this process sees them, jobs as the store has them.

Every process that answers counts its own requests. Jobs are read from the store at each scrape, those that ended since
the process began; two processes tell the same about them, so ``max`` joins them and not ``sum``. Of several processes
behind one address each scrape meets another one: what a process counts says whose it is, so that no counter jumps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter as Numbers
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.store import tally
from serve.store.store import now, text_of
from serve.store.tally import Mark
from swathe.errors import StoreError
from swathe.job import JobState, Where

if TYPE_CHECKING:
    from serve.store.store import Store
    from serve.store.tally import Ended

_SHORT = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
_SPEED = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_PAGE = 500
_LATE_S = 30.0
"""Between the moment that an end says of itself and its commit, at most: others may have been counted meanwhile."""
_log = logging.getLogger(__name__)
States = Callable[[], dict[str, dict[str, Any]]]
Shared = Callable[[], frozenset[str]]
OWN = "own"
"""Label of all models together that not all users see: whoever can read the numbers sees it."""


class Meters:
    """Counts what one process does."""

    def __init__(self, store: Store, states: States, shared: Shared, replica: str = "") -> None:
        """``states``: of warm models, as ``Replicas`` has them. ``shared``: ids of models that all users see.

        ``replica``: this process; empty: the only one.
        """
        self._store, self._turn, self._replica = store, threading.Lock(), replica
        self._began = self._newest = now()
        self._counted: set[Mark] = set()
        self._own, self._of_all = registry, standing = CollectorRegistry(), CollectorRegistry()
        labels = ("route", "method", "status")
        self.requests = Counter("swathe_http_requests", "Requests answered.", labels, registry=registry)
        self.latency = Histogram("swathe_http_request_seconds", "From request to first byte.", ("route",),
                                 buckets=_SHORT, registry=registry)  # fmt: skip
        self.in_flight = Gauge("swathe_http_requests_in_flight", "Requests at work.", registry=registry)
        self.listeners = Gauge("swathe_listeners", "Clients that follow jobs.", registry=registry)
        self.predictions = Histogram("swathe_prediction_seconds", "Of predictions at once.", ("model",), buckets=_SHORT,
                                     registry=registry)  # fmt: skip
        self.predicting = Gauge("swathe_predictions_in_flight", "Predictions at work or waiting for a replica.",
                                ("model",), registry=registry)  # fmt: skip
        self.refused = Counter("swathe_prediction_failures", "Predictions that failed, by code.", ("model", "code"),
                               registry=registry)  # fmt: skip
        self._ends = Counter("swathe_jobs_ended", "Jobs that came to their end.", ("state", "place"), registry=registry)
        self._failures = Counter("swathe_job_failures", "Jobs that failed, by code.", ("code",), registry=registry)
        self._stages = Histogram("swathe_job_stage_seconds", "Of ended jobs, in each state.", ("stage", "place"),
                                 buckets=_LONG, registry=registry)  # fmt: skip
        self._speed = Histogram("swathe_job_megapixels_per_second", "Of ended jobs, while they ran.", ("place",),
                                buckets=_SPEED, registry=registry)  # fmt: skip
        self._pixels = Counter("swathe_pixels", "Of ended jobs.", ("place",), registry=registry)
        standing.register(_Standing(store, states, shared))
        ProcessCollector(registry=registry)

    def page(self) -> bytes:
        """All numbers, in the text form of Prometheus. Called in threads. What the store cannot tell now is missing."""
        try:
            self._catch_up()
        except StoreError as error:
            _log.warning("jobs are not counted: %s", error.problem.line())
        return generate_latest(_Named(self._own, self._replica)) + generate_latest(self._of_all)

    def _catch_up(self) -> None:
        with self._turn:
            after = Mark(self._since)
            while True:
                with self._store.read() as c:
                    found = tally.ended(c, after, _PAGE, but=self._counted)
                for job in found:
                    self._count(job)
                    self._counted.add(job.mark)
                    after = job.mark
                self._newest = max(self._newest, after.ended)
                if len(found) < _PAGE:
                    break
            self._counted = {mark for mark in self._counted if mark.ended >= self._since}

    @property
    def _since(self) -> str:
        """RFC 3339: from where on ends may yet turn up that were not counted."""
        late = text_of(datetime.fromisoformat(self._newest) - timedelta(seconds=_LATE_S))
        return max(self._began, late)

    def _count(self, job: Ended) -> None:
        self._ends.labels(job.state, job.place).inc()
        self._pixels.labels(job.place).inc(job.pixels)
        if job.state == JobState.FAILED:
            self._failures.labels(job.code or "internal").inc()
        for stage, seconds in job.stages.items():
            self._stages.labels(stage, job.place).observe(seconds)
        if running := job.stages.get(JobState.RUNNING):
            self._speed.labels(job.place).observe(job.pixels / 1e6 / running)


class _Named(Collector):
    """What one process counts, under its name."""

    def __init__(self, own: CollectorRegistry, name: str) -> None:
        self._own, self._name = own, name

    def collect(self) -> Iterator[Metric]:
        """With a label more."""
        for metric in self._own.collect():
            if self._name:
                metric.samples = [s._replace(labels={**s.labels, "replica": self._name}) for s in metric.samples]
            yield metric


class _Standing(Collector):
    """How it stands at the moment of the scrape."""

    def __init__(self, store: Store, states: States, shared: Shared) -> None:
        self._store, self._states, self._shared = store, states, shared

    def describe(self) -> list[Metric]:
        """Without asking anybody: the registry wants the names alone."""
        return list(self._empty())

    def collect(self) -> Iterator[Metric]:
        """What the store cannot tell now is left out."""
        jobs, queue, states, replicas = self._empty()
        try:
            with self._store.read() as c:
                found = tally.standing(c)
            shared = self._shared()
        except StoreError:
            return
        for state in JobState:
            jobs.add_metric([state.value], sum(n for (s, _), n in found.items() if s == state))
        for place in Where:
            queue.add_metric([place.value], found.get((JobState.QUEUED.value, place.value), 0))
        in_state, answering = self._models(shared)
        for labels, number in in_state.items():
            states.add_metric(list(labels), number)
        for label, number in answering.items():
            replicas.add_metric([label], number)
        yield from (jobs, queue, states, replicas)

    def _models(self, shared: frozenset[str]) -> tuple[Numbers[tuple[str, str]], Numbers[str]]:
        """(model, state) -> how many are in it, and model -> replicas that answer."""
        in_state: Numbers[tuple[str, str]] = Numbers()
        answering: Numbers[str] = Numbers()
        for model, said in self._states().items():
            label = model if model in shared else OWN
            in_state[label, str(said.get("state", ""))] += 1
            if "replicas" in said:
                answering[label] += said["replicas"]
        return in_state, answering

    @staticmethod
    def _empty() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("swathe_jobs", "Jobs by state.", labels=["state"]),
            GaugeMetricFamily("swathe_queue_length", "Jobs that wait, by place.", labels=["place"]),
            GaugeMetricFamily("swathe_model_state", "Warm models by state; as own all that not everybody sees.",
                              labels=["model", "state"]),
            GaugeMetricFamily("swathe_model_replicas", "Replicas that answer, of models with processes of their own.",
                              labels=["model"]),
        )  # fmt: skip


class Metered:
    """ASGI middleware: counts requests, and tells each client what is left of its rate."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        """Stands inside everything that gives a request its route."""
        self.app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the application raises."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, state = time.perf_counter(), scope.setdefault("state", {})
        seen = {"status": 500, "began": 0.0}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"], seen["began"] = message["status"], time.perf_counter() - began
                rate = state.get("rate")
                if rate is not None:
                    message["headers"] = [*message.get("headers", []), *_raw(rate.headers())]
            await send(message)

        with self._meters.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, told)
            finally:
                self._note(scope, seen["status"], seen["began"] or time.perf_counter() - began)

    def _note(self, scope: Scope, status: float, seconds: float) -> None:
        route = scope["state"].get("route", "none")
        self._meters.requests.labels(route, scope["method"], str(int(status))).inc()
        self._meters.latency.labels(route).observe(seconds)


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(k.lower().encode(), v.encode()) for k, v in headers.items()]
