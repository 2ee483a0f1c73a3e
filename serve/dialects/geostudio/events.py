"""What happens to an inference as their notices; each has an id to which a listener can come back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serve.dialects.geostudio import problems
from serve.dialects.geostudio.ids import TaskId, uuid_of
from serve.dialects.geostudio.records import stamp
from swathe.job import ENDED

if TYPE_CHECKING:
    from serve.dialects.geostudio.records import Seen
    from swathe.batch import Part
    from swathe.state import Event

SOURCE = "inference-service"
NOTIFY, ERROR, UPDATED = "Inf:Task:Notify", "Inf:Task:Error", "Inf:Task:Updated"
COMPLETE, FAILED = "Inf:Task:Complete", "Inf:Task:Failed"
_WORDS = {"queued": "is planned", "preparing": "is fetching its imagery", "running": "is running",
          "finishing": "is being published", "done": "has finished", "incomplete": "has finished, with losses",
          "failed": "has failed", "cancelled": "was stopped"}  # fmt: skip
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
OVER = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "STOPPED"})


def last_type(status: str) -> str:
    """Of the notice that ends a stream. They have none for what was stopped, and that is not complete."""
    return FAILED if status in ("FAILED", "STOPPED") else COMPLETE


def notices(
    seen: Seen, events: Sequence[tuple[int, Event]], posted: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """All that has happened, oldest first: refused tasks, states of the others, and what was reported from outside."""
    parts = {part.number: part for part in seen.parts}
    found = [_refused(seen, part) for part in seen.parts if part.problem and part.settled]
    found += [_notice(seen, parts[n], event) for n, event in events if n in parts and event.kind in ("state", "retry")]
    return sorted([*found, *(dict(one) for one in posted)], key=lambda one: one["timestamp"])


def _notice(seen: Seen, part: Part, event: Event) -> dict[str, Any]:
    state = str(event.facts.get("state", "retry"))
    task = str(TaskId(seen.batch.id, part.number))
    problem = event.facts.get("problem")
    if state == "failed" and problem:
        return _made(seen, f"{part.number}.{event.seq}", event.at, ERROR,
                     {"error": problems.shown(problem)["message"], "task_id": task})  # fmt: skip
    said = _WORDS.get(state, "is tried again")
    return _made(seen, f"{part.number}.{event.seq}", event.at, NOTIFY,
                 {"message": f"Inferencing: {task} {said}", "task_id": task, "status": state})  # fmt: skip


def _refused(seen: Seen, part: Part) -> dict[str, Any]:
    assert part.problem is not None
    task = str(TaskId(seen.batch.id, part.number))
    detail = {"error": problems.shown(part.problem)["message"], "task_id": task}
    return _made(seen, f"{part.number}.0", part.settled or seen.batch.created, ERROR, detail)


def _made(seen: Seen, id_: str, at: str, kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    return {"id": id_, "event_id": uuid_of(seen.batch.id), "detail_type": kind, "source": SOURCE,
            "timestamp": stamp(at), "detail": detail}  # fmt: skip


# --- places in a stream ----------------------------------------------------------------------------------------------


def place_of(known: Mapping[int, int], parts: int) -> str:
    """How far a listener has come, as an id: of each task the number of its last event that was told."""
    return ".".join(_base36(known.get(n, 0)) for n in range(parts))


def read_place(text: str | None, parts: int) -> dict[int, int] | None:
    """The other way; None for what is none of this stream."""
    try:
        numbers = [int(one, 36) for one in (text or "").split(".")]
    except ValueError:
        return None
    return dict(enumerate(numbers)) if len(numbers) == parts and min(numbers) >= 0 else None


def _base36(number: int) -> str:
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


def message(detail_type: str, status: str, data: Mapping[str, Any]) -> str:
    """One of a stream."""
    return json.dumps({"detail_type": detail_type, "status": status, "data": data}, separators=(",", ":"))


def ended(part: Part) -> bool:
    """Whether nothing more will be told of it."""
    return part.settled is not None and (part.job is None or part.job.state in ENDED)
