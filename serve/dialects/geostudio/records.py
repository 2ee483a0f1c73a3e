"""From ours to theirs: what became of a batch as an inference, its parts as tasks, and all times as they parse them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serve.dialects.geostudio import problems
from serve.dialects.geostudio.ids import TaskId, uuid_of
from serve.dialects.geostudio.translate import AFTER, FETCH, MODEL, PLANNER, PROCESSOR, PUSH, TUNE, URLS
from swathe.batch import Batch, Part
from swathe.job import ENDED, Job, JobState
from swathe.state import Event
from swathe.step import Step as OurStep
from swathe.step import StepState, fold

READY, RUNNING, FINISHED, FAILED, STOPPED, WAITING = "READY", "RUNNING", "FINISHED", "FAILED", "STOPPED", "WAITING"
_ENDS = {JobState.DONE: FINISHED, JobState.INCOMPLETE: FINISHED, JobState.FAILED: FAILED, JobState.CANCELLED: STOPPED}
_STAGES = ((JobState.PREPARING, (FETCH, URLS)), (JobState.RUNNING, (MODEL, TUNE)), (JobState.FINISHING, (PUSH,)))
"""Of a job, and the step in which they are seen."""
_PROCESSOR = "processor"
"""Our name of the step in which a user's own program runs."""
_TOLD = {StepState.WAITING: WAITING, StepState.RUNNING: RUNNING, StepState.FINISHED: FINISHED,
         StepState.FAILED: FAILED, StepState.SKIPPED: FINISHED}  # fmt: skip
"""Of a step that began; one that had nothing to do has finished. One that never began did not run: STOPPED."""
_LEFT_OUT = ("model_input_data_spec", "data_connector_config", "geoserver_push", "pipeline_steps", "post_processing")
"""Of a wish; what they do not answer with."""


def stamp(when: str) -> str:
    """UTC with microseconds and Z, always: their poller parses nothing else."""
    moment = datetime.fromisoformat(when)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _clock(when: str | None) -> str | None:
    """Of a step: to the second."""
    return None if when is None else datetime.fromisoformat(when).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one task."""

    name: str
    status: str
    start: str | None = None
    end: str | None = None

    def shown(self, number: int) -> dict[str, Any]:
        """As they write it."""
        times = {"start_time": _clock(self.start), "end_time": _clock(self.end)}
        return {"status": self.status, "process_id": self.name, "step_number": number,
                **{key: said for key, said in times.items() if said}}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch as it stands."""

    batch: Batch
    parts: Sequence[Part]

    @property
    def record(self) -> Mapping[str, Any]:
        """What was wished, in their words."""
        return self.batch.labels.get("record", {})

    @property
    def steps(self) -> list[str]:
        """Of each task."""
        return list(self.batch.labels.get("steps", ()))

    @property
    def is_batch_of_theirs(self) -> bool:
        """Whether it came by this API."""
        return "record" in self.batch.labels


# --- states ----------------------------------------------------------------------------------------------------------


def task_status(part: Part) -> str:
    """Of one task."""
    job = part.job
    if job is None:
        if part.settled is None:
            return READY
        code = (part.problem or {}).get("code")
        return STOPPED if part.problem is None or code == "batch.cancelled" else FAILED
    if job.state in ENDED:
        return _ENDS[job.state]
    return READY if job.state is JobState.QUEUED else RUNNING


def planning_status(seen: Seen) -> str:
    """Of the planning: it fails where not one task could be planned."""
    if any(part.settled is None for part in seen.parts):
        return RUNNING if any(part.settled for part in seen.parts) else READY
    if any(part.job is not None for part in seen.parts):
        return FINISHED
    if seen.batch.cancelled:
        return STOPPED
    return FAILED if any(task_status(part) == FAILED for part in seen.parts) else FINISHED


def inference_status(seen: Seen) -> str:
    """The fold of its tasks. What runs is called running until all of it has ended."""
    found = [task_status(part) for part in seen.parts]
    kinds = set(found)
    if kinds & {READY, RUNNING}:
        began = kinds != {READY} or any(part.settled for part in seen.parts)
        return "RUNNING" if began else "PENDING"
    if STOPPED in kinds:
        return "STOPPED"
    if kinds == {FAILED}:
        return "FAILED"
    whole = all(part.job is None or part.job.state is not JobState.INCOMPLETE for part in seen.parts)
    return "COMPLETED" if kinds <= {FINISHED} and whole else "COMPLETED_WITH_ERRORS"


# --- steps -----------------------------------------------------------------------------------------------------------


def steps_of(names: Iterable[str], part: Part, events: Sequence[Event] = ()) -> list[Step]:
    """What really ran, and when. ``events``: of its job; without them no times are said."""
    status, job = task_status(part), part.job
    if job is None:
        first = {READY: READY, FAILED: STOPPED, STOPPED: STOPPED}[status]
        rest = WAITING if status == READY else STOPPED
        return [Step(name, first if n == 0 else rest) for n, name in enumerate(names)]
    spans = _spans(job, events)
    return [_step(name, job, status, spans) for name in names]


Span = tuple[str | None, str | None, str]
"""Start, end, status."""


def _step(name: str, job: Job, status: str, spans: Mapping[str, Span]) -> Step:
    if name in spans:
        start, end, said = spans[name]
        return Step(name, said, start, end)
    if status == READY:
        return Step(name, READY if name in (FETCH, URLS) else WAITING)
    if job.state in ENDED:
        return Step(name, FINISHED if status == FINISHED else STOPPED)
    return Step(name, WAITING)


def _spans(job: Job, events: Sequence[Event]) -> dict[str, Span]:
    """Of the newest round: each stage from its beginning to the next one's, or to the end."""
    newest = max((n for n, e in enumerate(events) if e.kind == "resumed"), default=-1)
    states = [(e.facts["state"], e.at) for e in events[newest + 1 :] if e.kind == "state"]
    began = dict(reversed(states))
    order = [state for state, _ in _STAGES]
    found: dict[str, Span] = {}
    for n, (state, names) in enumerate(_STAGES):
        if state not in began:
            continue
        after = next((began[later] for later in order[n + 1 :] if later in began), None)
        end = after or (job.ended if job.state in ENDED else None)
        broke = after is None and job.state in ENDED
        status = (_ENDS[job.state] if broke else FINISHED) if end else RUNNING
        for name in names:
            found[name] = (began[state], end, status)
    return found | _told(fold(events[newest + 1 :]))


def _told(steps: Iterable[OurStep]) -> dict[str, Span]:
    """Steps after the model, of which the job itself speaks; several of ours may be one of theirs."""
    found: dict[str, Span] = {}
    for step in steps:
        if step.started is None and step.state is not StepState.SKIPPED:
            continue
        name = PROCESSOR if step.name == _PROCESSOR else AFTER
        span = (step.started, step.ended, STOPPED if step.started is None else _TOLD[step.state])
        found[name] = _joined(found[name], span) if name in found else span
    return found


def _joined(one: Span, other: Span) -> Span:
    """From the first's beginning to the last's end; as bad as the worse of the two."""
    worse = next((s for s in (RUNNING, FAILED, STOPPED) if s in (one[2], other[2])), FINISHED)
    starts, ends = ([said for said in (one[n], other[n]) if said] for n in (0, 1))
    return min(starts, default=None), None if worse == RUNNING else max(ends, default=None), worse


def planning_step(seen: Seen) -> Step:
    """The one step of the planning task."""
    status = planning_status(seen)
    settled = [part.settled for part in seen.parts if part.settled]
    start = seen.batch.created if status != READY else None
    end = max(settled, default=seen.batch.created) if status in (FINISHED, FAILED, STOPPED) else None
    return Step(PLANNER, status, start, end)


# --- records ---------------------------------------------------------------------------------------------------------


def counts(seen: Seen) -> dict[str, int | None]:
    """Steps of all tasks and of the planning, as they count them."""
    found = [planning_step(seen).status]
    found += [step.status for part in seen.parts for step in _quick(seen, part)]
    return {
        "tasks_count_total": len(found) or None,
        "tasks_count_success": found.count(FINISHED),
        "tasks_count_failed": found.count(FAILED),
        "tasks_count_stopped": found.count(STOPPED),
        "tasks_count_waiting": found.count(WAITING) + found.count(READY),
    }


def _quick(seen: Seen, part: Part) -> list[Step]:
    """Without events: what a job's state alone says of its steps."""
    if part.job is None:
        return steps_of(seen.steps, part)
    at = part.job.state
    reached = [state for state, _ in _STAGES]
    if at in reached:
        events = [Event(n, part.job.updated, "state", {"state": s.value})
                  for n, s in enumerate(reached[: reached.index(at) + 1])]  # fmt: skip
        return steps_of(seen.steps, part, events)
    told = _told(OurStep.of(facts) for facts in part.job.result.get("steps", ()))
    found = [Step(step.name, told[step.name][2]) if step.name in told else step for step in steps_of(seen.steps, part)]
    if at is JobState.FAILED and not any(step.status == FAILED for step in found):
        found[0] = Step(found[0].name, FAILED)
    return found


def task(seen: Seen, part: Part, events: Sequence[Event] = ()) -> dict[str, Any]:
    """One of them."""
    steps = steps_of(seen.steps, part, events)
    return _task(seen, part.number, task_status(part), steps)


def planning(seen: Seen) -> dict[str, Any]:
    """The planning as a task."""
    step = planning_step(seen)
    return _task(seen, None, step.status, [step])


def _task(seen: Seen, number: int | None, status: str, steps: Sequence[Step]) -> dict[str, Any]:
    id_ = uuid_of(seen.batch.id)
    return {
        "inference_id": id_, "task_id": str(TaskId(seen.batch.id, number)), "inference_folder": f"/data/{id_}",
        "status": status, "pipeline_steps": [step.shown(n) for n, step in enumerate(steps)],
    }  # fmt: skip


def errors(seen: Seen) -> list[dict[str, Any]]:
    """What went wrong, task by task."""
    found = [(part, part.problem or (part.job.problem if part.job else None)) for part in seen.parts]
    return [
        {**problems.shown(problem), "task_id": str(TaskId(seen.batch.id, part.number))}
        for part, problem in found if problem and problem.get("code") != "batch.cancelled"
    ]  # fmt: skip


def inference(seen: Seen, layers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The whole record. ``layers``: what was published of it, in their words."""
    batch, wished = seen.batch, {k: v for k, v in seen.record.items() if k not in _LEFT_OUT}
    wrong = errors(seen)
    return {
        "id": uuid_of(batch.id), "status": inference_status(seen), "active": True,
        "created_at": stamp(batch.created), "updated_at": stamp(_updated(seen)),
        **wished,
        "geoserver_layers": layers or wished.get("geoserver_layers"),
        "inference_output": {"errors": wrong} if wrong else wished.get("inference_output"),
        **counts(seen),
    }  # fmt: skip


def _updated(seen: Seen) -> str:
    times = [part.job.updated for part in seen.parts if part.job] + [p.settled for p in seen.parts if p.settled]
    return max([seen.batch.updated, *times])


def listing(results: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    """Their envelope of lists."""
    return {"total_records": total, "page_count": len(results), "results": list(results)}
