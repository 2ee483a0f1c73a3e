"""Rows of jobs as jobs, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from swathe.job import Job, JobState, Progress, Where


def job_of(row: Row[Any]) -> Job:
    """A job, from all columns of ``tables.jobs``."""
    return Job(
        row.id, row.owner_id, row.request, row.model, row.created, row.updated, state=JobState(row.state),
        project=row.project_id, title=row.title, where=Where(row.place), cost=row.cost,
        progress=Progress(**row.progress), round=row.round, attempts=row.attempts, cancelling=row.cancelling,
        problem=row.problem, started=row.started, ended=row.ended, result=row.result, labels=row.labels,
        ray_job=row.ray_job, last_seq=row.last_seq,
    )  # fmt: skip


def columns_of(job: Job, area_km2: float) -> dict[str, Any]:
    """Columns of a new job."""
    return {
        "id": job.id, "owner_id": job.owner, "project_id": job.project, "title": job.title, "request": job.request,
        "model": job.model, "labels": job.labels, "state": job.state.value, "place": job.where.value,
        "cost": job.cost, "cost_s": float(job.cost.get("seconds") or 0.0), "area_km2": area_km2,
        "progress": asdict(job.progress), "created": job.created, "updated": job.updated,
    }  # fmt: skip
