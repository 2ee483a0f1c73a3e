"""Rows of jobs as jobs, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from serve.store import tables
from swathe.job import Job, JobState, Progress, Where

LONGEST_LISTED = 4096
"""Characters, as JSON, of one field of a job's request above which lists leave it out."""
_T = tables.jobs
LISTED = (
    *(column for column in _T.c if column not in {_T.c.request, _T.c.listed}),
    _T.c.listed.label("request"),
)
"""What lists read of a job: what is long of its request stays in the database."""
_JSON = json.JSONEncoder()


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
        "listed": listed_of(job.request),
        "model": job.model, "labels": job.labels, "state": job.state.value, "place": job.where.value,
        "cost": job.cost, "cost_s": float(job.cost.get("seconds") or 0.0), "area_km2": area_km2,
        "progress": asdict(job.progress), "created": job.created, "updated": job.updated,
    }  # fmt: skip


def listed_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as lists show it: without what is long of it, such as an area in all detail.

    That somebody is told and that layers are published stays, as links depend on it.
    """
    short = {name: value for name, value in request.items() if name == "hook" or not _is_long(value)}
    if "publish" in request and "publish" not in short:
        short["publish"] = [{name: one.get(name) for name in ("workspace", "name")} for one in request["publish"]]
    return short


def _is_long(value: object) -> bool:
    """Written piece by piece, no further than it takes to know."""
    size = 0
    for piece in _JSON.iterencode(value):
        size += len(piece)
        if size > LONGEST_LISTED:
            return True
    return False
