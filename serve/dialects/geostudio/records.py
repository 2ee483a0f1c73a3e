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
_GAVE_UP = "processor.stopped"
"""What is wrong with a program that says of itself that it stopped."""
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
        return _unplanned(names, part, status)
    spans = _spans(job, events)
    return _placed([_step(name, job, status, spans) for name in names], job, status)


def _unplanned(names: Iterable[str], part: Part, status: str) -> list[Step]:
    """Of a task without a job: one that could not be planned failed in its first step."""
    at = part.settled if status == FAILED else None
    rest = WAITING if status == READY else STOPPED
    return [Step(name, rest) if n else Step(name, status, at, at) for n, name in enumerate(names)]


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


def _placed(steps: list[Step], job: Job, status: str) -> list[Step]:
    """A task that runs or failed does so in one of its steps: where none says it, in the first that has not ended."""
    if status not in (RUNNING, FAILED) or any(step.status == status for step in steps):
        return steps
    at = next((n for n, step in enumerate(steps) if step.status != FINISHED), len(steps) - 1)
    before = max((step.end for step in steps[:at] if step.end), default=job.started or job.created)
    mine = Step(steps[at].name, status, steps[at].start or before, job.ended if status == FAILED else None)
    return [*steps[:at], mine, *steps[at + 1 :]]


def _spans(job: Job, events: Sequence[Event]) -> dict[str, Span]:
    """Of the newest round: each stage from its beginning to the next one's, or to the end.

    Treatments come between the model and the publication, which waits for the last of them.
    """
    newest = max((n for n, e in enumerate(events) if e.kind == "resumed"), default=-1)
    states = [(JobState(e.facts["state"]), e.at) for e in events[newest + 1 :] if e.kind == "state"]
    began, treatments = dict(reversed(states)), fold(events[newest + 1 :])
    starts = {**began, JobState.FINISHING: _published(began.get(JobState.FINISHING), treatments)}
    order = [state for state, _ in _STAGES]
    found: dict[str, Span] = {}
    for n, (state, names) in enumerate(_STAGES):
        start = starts.get(state)
        if start is None:
            continue
        after = next((began[later] for later in order[n + 1 :] if later in began), None)
        end, said = _end(job, after)
        for name in names:
            found[name] = (start, end, said)
    return found | _told(treatments, job)


def _end(job: Job, after: str | None) -> tuple[str | None, str]:
    """When a stage ended, and how. ``after``: when the next one began."""
    if after is not None:
        return after, FINISHED
    return (job.ended, _ENDS[job.state]) if job.state in ENDED else (None, RUNNING)


def _published(began: str | None, treatments: Sequence[OurStep]) -> str | None:
    """When the publication began; None: treatments are at work, or it never came to it."""
    if began is None or any(one.state in (StepState.WAITING, StepState.RUNNING) for one in treatments):
        return None
    return max([began, *(one.ended for one in treatments if one.ended)])


def _told(steps: Iterable[OurStep], job: Job) -> dict[str, Span]:
    """Steps after the model, of which the job itself speaks; several of ours may be one of theirs."""
    found: dict[str, Span] = {}
    for step in steps:
        if step.started is None and step.state is not StepState.SKIPPED:
            continue
        name = PROCESSOR if step.name == _PROCESSOR else AFTER
        gave_up = (step.problem or {}).get("code") == _GAVE_UP
        end, said = step.ended, STOPPED if step.started is None or gave_up else _TOLD[step.state]
        if said == RUNNING and job.state in ENDED:  # nobody was left to say how it ended
            end, said = job.ended, _ENDS[job.state]
        span: Span = (step.started, end, said)
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


Told = Mapping[int, Sequence[Event]]
"""Number of a part -> events of its job."""


def unclear(seen: Seen) -> list[Part]:
    """Parts whose steps cannot be told by the state of their jobs alone: how far they came, events have to say."""
    return [part for part in seen.parts if part.job is not None and _is_unclear(part.job, seen.steps)]


def _is_unclear(job: Job, steps: Sequence[str]) -> bool:
    if job.state is JobState.FINISHING:
        return AFTER in steps or PROCESSOR in steps
    return job.started is not None and job.state in (JobState.FAILED, JobState.CANCELLED)


def counts(seen: Seen, told: Told) -> dict[str, int | None]:
    """Steps of all tasks and of the planning, as they count them. ``told``: of those that are ``unclear``."""
    found = [planning_step(seen).status]
    found += [step.status for part in seen.parts for step in _quick(seen, part, told)]
    return {
        "tasks_count_total": len(found) or None,
        "tasks_count_success": found.count(FINISHED),
        "tasks_count_failed": found.count(FAILED),
        "tasks_count_stopped": found.count(STOPPED),
        "tasks_count_waiting": found.count(WAITING) + found.count(READY),
    }


def _quick(seen: Seen, part: Part, told: Told) -> list[Step]:
    """With no more events than are needed: what a job's state alone says of its steps."""
    job = part.job
    if job is None or part.number in told:
        return steps_of(seen.steps, part, told.get(part.number, ()))
    reached = [state for state, _ in _STAGES]
    if job.state in reached:
        passed = reached[: reached.index(job.state) + 1]
        return steps_of(seen.steps, part, [Event(0, job.updated, "state", {"state": s.value}) for s in passed])
    own = _told((OurStep.of(facts) for facts in job.result.get("steps", ())), job)
    return [Step(step.name, own[step.name][2]) if step.name in own else step for step in steps_of(seen.steps, part)]


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


def inference(seen: Seen, told: Told, layers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The whole record. ``told``: of parts that are ``unclear``; ``layers``: what was published, in their words."""
    batch, wished = seen.batch, {k: v for k, v in seen.record.items() if k not in _LEFT_OUT}
    wrong = errors(seen)
    return {
        "id": uuid_of(batch.id), "status": inference_status(seen), "active": True,
        "created_at": stamp(batch.created), "updated_at": stamp(_updated(seen)),
        **wished,
        "geoserver_layers": layers or wished.get("geoserver_layers"),
        "inference_output": {"errors": wrong} if wrong else wished.get("inference_output"),
        **counts(seen, told),
    }  # fmt: skip


def _updated(seen: Seen) -> str:
    times = [part.job.updated for part in seen.parts if part.job] + [p.settled for p in seen.parts if p.settled]
    return max([seen.batch.updated, *times])


def listing(results: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    """Their envelope of lists."""
    return {"total_records": total, "page_count": len(results), "results": list(results)}
