"""A job: an accepted request for a run, from the queue to its results. Its events are facts; its state is their fold.

A job outlives processes. Each time it is tried is an attempt; attempts come and go, the job's state does not move back:

    queued -> preparing -> running -> finishing -> done | incomplete | failed | cancelled

Only its user moves a job back, from an end to the queue: ``resume``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from swathe.state import Event


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Accepted; nothing has run."""
    PREPARING = "preparing"
    """Imagery is looked at, the model is made ready."""
    RUNNING = "running"
    """Chunks are being done."""
    FINISHING = "finishing"
    """Mosaic, vectors, steps after the model, preview, catalogue item."""
    DONE = "done"
    """Complete: products stand and are in the catalogue."""
    INCOMPLETE = "incomplete"
    """Finished, with failed chunks or a failed step; never called a success."""
    FAILED = "failed"
    """Stopped by an error; ``problem`` says which."""
    CANCELLED = "cancelled"
    """Stopped by its user."""


ENDED = frozenset({JobState.DONE, JobState.INCOMPLETE, JobState.FAILED, JobState.CANCELLED})
"""Nothing more happens by itself."""
ACTIVE = frozenset({JobState.PREPARING, JobState.RUNNING, JobState.FINISHING})
"""Somebody is at work."""
_RANK = {state: rank for rank, state in enumerate((JobState.QUEUED, JobState.PREPARING, JobState.RUNNING,
                                                   JobState.FINISHING))}  # fmt: skip
_TOP = len(_RANK)


def may(before: JobState, after: JobState) -> bool:
    """Whether a job may go from one state to another by itself: forwards, or to an end."""
    return before not in ENDED and _RANK.get(after, _TOP) > _RANK[before]


def may_resume(state: JobState) -> bool:
    """Whether its user may put it into the queue again."""
    return state in ENDED - {JobState.DONE}


def fold(events: Iterable[Event]) -> JobState:
    """The state of a job after these events: what an attempt repeats does not move it back."""
    state = JobState.QUEUED
    for event in events:
        if event.kind == "resumed":
            state = JobState.QUEUED
        elif event.kind == "state" and may(state, after := JobState(event.facts["state"])):
            state = after
    return state


class Where(StrEnum):
    """Where a job is carried out; decided by its estimated seconds."""

    ONLINE = "online"
    """On the standing pool, as small jobs, for which a client may well wait: they have a queue of their own."""
    POOL = "pool"
    """On the standing pool of warm workers."""
    CLUSTER = "cluster"
    """As a Ray job of its own."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. None of these numbers ever falls within one round of the job."""

    pixels: int = 0
    """Done."""
    of_pixels: int = 0
    """In all; 0: not planned yet."""
    chunks: int = 0
    """Settled: done, empty, without data, or failed."""
    of_chunks: int = 0
    """In all."""
    failed_chunks: int = 0
    """Of the settled ones."""

    @property
    def share(self) -> float:
        """0..1."""
        return self.pixels / self.of_pixels if self.of_pixels else 0.0

    def onwards(self, to: Progress) -> Progress:
        """The later of two, number by number."""
        return Progress(*(max(a, b) for a, b in zip(self._numbers(), to._numbers(), strict=True)))

    def _numbers(self) -> tuple[int, ...]:
        return self.pixels, self.of_pixels, self.chunks, self.of_chunks, self.failed_chunks


@dataclass(frozen=True, slots=True)
class Job:
    """One of them, as the store has it."""

    id: str
    """``j`` and 26 letters and digits that sort by time of creation."""
    owner: str
    """Id of a user."""
    request: dict[str, Any]
    """What was asked, in the API's own words (``serve.desk.asking.Asking``)."""
    model: str
    """Id of a card."""
    created: str
    """UTC, RFC 3339, as all times here."""
    updated: str
    """Of the last change."""
    state: JobState = JobState.QUEUED
    """See there."""
    project: str | None = None
    """Id of a project."""
    title: str = ""
    """For people."""
    where: Where = Where.POOL
    """Decided at submission."""
    cost: dict[str, Any] = field(default_factory=dict)
    """``Plan.cost``, as plain numbers."""
    progress: Progress = Progress()
    """See there."""
    round: int = 1
    """1; one more at each ``resume``."""
    attempts: int = 0
    """Times that this round was begun."""
    cancelling: bool = False
    """Whether its user wants it stopped."""
    problem: dict[str, Any] | None = None
    """RFC 9457: why it failed, or which step after the model did."""
    started: str | None = None
    """First attempt of this round."""
    ended: str | None = None
    """When it came to its end."""
    result: dict[str, Any] = field(default_factory=dict)
    """Of an ended job: ``item`` (collection and id), ``files`` (name -> bytes), ``pixels``, ``warnings``, ``steps`` (of
    those after the model: ``swathe.step.Step``), ``published`` (name of the raster that is the result)."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Whatever a client or a dialect wants to find again; the service does not look inside."""
    ray_job: str | None = None
    """Submission id of the Ray job that carries it out, where it is one."""
    last_seq: int = 0
    """Number of its newest event."""

    @property
    def published(self) -> str:
        """Name of the raster that is the result: of the model, or of the last step after it that made one."""
        return str(self.result.get("published", "result.tif"))
