"""Outputs and logs of tasks, as things that links open: an archive with names that their viewers know, and texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.desk.content import Content, Text
from serve.dialects.geostudio.ids import TaskId
from serve.dialects.geostudio.problems import msg, shown
from serve.dialects.geostudio.records import (
    FINISHED,
    READY,
    RUNNING,
    WAITING,
    Seen,
    Step,
    planning_step,
    steps_of,
    task_status,
)
from serve.dialects.geostudio.translate import AFTER, PLANNER, PROCESSOR
from swathe.errors import NotFoundError
from swathe.step import fold

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from swathe.batch import Part
    from swathe.job import Job
    from swathe.state import Event
    from swathe.user import Caller

OUTPUT, LOG = "geostudio.output", "geostudio.log"
"""Kinds of links."""
ARCHIVE = "archive.zip"
_FILES = {
    "result.tif": "_imputed_pred.tif", "processed.tif": "_imputed_processed_pred.tif",
    "masked.tif": "_imputed_pred_masked.tif", "score.tif": "_imputed_score.tif",
    "observations.tif": "_observations.tif", "quicklook.tif": "_rgb.tif", "features.gpkg": "_imputed_pred.gpkg",
    "regularised.geojson": "_imputed_pred_adaptive_regularized.geojson",
}  # fmt: skip
"""File of ours -> what follows its stem in their archive."""
_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """A task, and the inference that it is of."""

    id: TaskId
    seen: Seen
    part: Part | None
    """None: the planning."""

    @property
    def status(self) -> str:
        """As theirs."""
        return planning_step(self.seen).status if self.part is None else task_status(self.part)


class Outputs:
    """What the desk's links are told how to open."""

    def __init__(self, desk: Desk) -> None:
        """Nothing is read yet."""
        self._desk = desk

    def task(self, caller: Caller, task_id: str) -> Found:
        """Raises NotFoundError."""
        id_ = TaskId.read(task_id)
        seen = Seen(*self._desk.batches.get(caller, id_.batch))
        if not seen.is_batch_of_theirs:
            raise NotFoundError(f"Task {task_id} not found")
        if id_.number is None:
            return Found(id_, seen, None)
        if id_.number >= len(seen.parts):
            raise NotFoundError(f"Task {task_id} not found")
        return Found(id_, seen, seen.parts[id_.number])

    def archive_name(self, caller: Caller, task_id: str, name: str = "") -> str:  # noqa: ARG002  all have one name
        """Raises NotFoundError, Refusal (409) where it has not finished."""
        found = self.task(caller, task_id)
        if found.part is None:
            raise msg(404, f"Task {task_id} has no output: it plans the others")
        if found.status != FINISHED or found.part.job is None:
            raise msg(409, f"Task {task_id} is {found.status}: there is no output")
        return ARCHIVE

    def archive(self, caller: Caller, task_id: str, name: str) -> Content:
        """A flat zip."""
        found = self.task(caller, task_id)
        self.archive_name(caller, task_id)
        assert found.part is not None
        assert found.part.job is not None
        return self._desk.archives.content(caller, found.part.job.id, name, lambda job: _members(found, job))

    def log_name(self, caller: Caller, log_id: str, name: str = "") -> str:  # noqa: ARG002  it follows from the id
        """Raises NotFoundError."""
        task_id, _, step = log_id.partition("/")
        self.task(caller, task_id)
        return f"{task_id}-{step}-stdout.log"

    def log(self, caller: Caller, log_id: str, name: str) -> Content:
        """What was said while a step ran."""
        task_id, _, step = log_id.partition("/")
        text = self.log_text(caller, self.task(caller, task_id), step).encode()
        return Content(name, len(text), Text(text), hashlib.sha256(text).hexdigest()[:32])

    def log_text(self, caller: Caller, found: Found, step: str, tail: int | None = None) -> str:
        """The same as text; ``tail``: so many lines at most, of the newest."""
        lines = _planning_lines(found.seen) if found.part is None else self._lines(caller, found.part, found, step)
        return "".join(f"{line}\n" for line in (lines[-tail:] if tail else lines))

    def steps(self, found: Found) -> list[Step]:
        """With their times."""
        if found.part is None:
            return [planning_step(found.seen)]
        return steps_of(found.seen.steps, found.part, self._told(found.part))

    def _told(self, part: Part) -> list[Event]:
        return self._desk.batches.milestones([part]).get(part.number, [])

    def _own_words(self, part: Part, job: Job, step: str) -> list[str]:
        """Of steps that write a log: what a program printed."""
        logs = [one.log for one in fold(self._told(part)) if one.log and one.name in _OWN.get(step, ())]
        blobs = self._desk.settings.blobs(f"jobs/{job.id}")
        found: list[str] = []
        for name in logs:
            with suppress(FileNotFoundError):  # it was not kept
                found += blobs.get(name).decode("utf-8", "replace").splitlines()
        return found

    def _lines(self, caller: Caller, part: Part, found: Found, step: str) -> list[str]:
        """Of the job's log what falls into the step's time; of a task without a job why there is none."""
        if part.job is None:
            return [shown(part.problem)["message"]] if part.problem else []
        mine = next((one for one in self.steps(found) if one.name == step), None)
        if mine is None or mine.start is None:
            return []
        lines = self._desk.jobs.logs(caller, part.job.id, limit=_LINES)
        last = mine.end or "9"
        said = [f"{one.at} {one.level:<7} {one.message}" for one in lines if mine.start <= one.at <= last]
        ended = part.job.problem if mine.status == "FAILED" else None
        said += self._own_words(part, part.job, step)
        return [*said, *([shown(ended)["message"]] if ended else [])]


_OWN = {PROCESSOR: ("processor",), AFTER: ("mask", "regularise")}
"""Step of theirs -> steps of ours that leave a log of their own."""


def step_named(steps: Sequence[Step], name: str) -> Step:
    """Raises Refusal: 404 for one that the task does not have, 409 for one that has not begun."""
    found = next((step for step in steps if step.name == name), None)
    if found is None:
        raise msg(404, f"Step {name[:100]} is none of this task's")
    if found.status in (WAITING, READY):
        raise msg(409, f"Step {name} is {found.status}: it has not begun")
    return found


def running(step: Step) -> bool:
    """Whether its log may grow."""
    return step.status == RUNNING


def _members(found: Found, job: Job) -> dict[str, str | bytes]:
    labels, number = found.seen.batch.labels, found.id.number or 0
    date, stem = ((labels.get(name) or [""] * (number + 1))[number] for name in ("dates", "stems"))
    start = "_".join(part for part in (str(found.id), date, stem) if part)
    files = job.result.get("files", {})
    return {f"{start}{after}": name for name, after in _FILES.items() if name in files}


def _planning_lines(seen: Seen) -> list[str]:
    found = [f"{seen.batch.created} INFO    {PLANNER}: {len(seen.parts)} tasks"]
    for part in seen.parts:
        what = f"task_{part.number}"
        if part.job is not None:
            found.append(f"{part.settled} INFO    {what}: planned as {part.job.id}, to run {part.job.where.value}")
        elif part.problem is not None:
            found.append(f"{part.settled} ERROR   {what}: {shown(part.problem)['message']}")
        elif part.settled is None:
            found.append(f"                         {what}: waits to be planned")
    return found
