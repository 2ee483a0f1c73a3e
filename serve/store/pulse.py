"""How far jobs are, many at a time: what a process that watches for all its listeners asks again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from serve.store.tables import jobs
from swathe.job import JobState, Progress


@dataclass(frozen=True, slots=True)
class Pulse:
    """How far one job is."""

    seq: int
    """Number of its newest event."""
    state: JobState
    """State of the job."""
    progress: Progress
    """Progress of the job."""


def of(c: Connection, job_ids: Iterable[str]) -> dict[str, Pulse]:
    """Pulses by id of the job, in one query; jobs that are gone are missing."""
    wanted = select(jobs.c.id, jobs.c.last_seq, jobs.c.state, jobs.c.progress).where(jobs.c.id.in_(list(job_ids)))
    return {row.id: Pulse(row.last_seq, JobState(row.state), Progress(**row.progress)) for row in c.execute(wanted)}
