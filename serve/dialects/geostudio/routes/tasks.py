"""Tasks: their outputs as links that need no key, and the logs of their steps."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request

from serve.api.service import Here
from serve.dialects.geostudio.outputs import LOG, OUTPUT, Found, Outputs, running, step_named
from serve.dialects.geostudio.problems import Refusal, msg
from serve.dialects.geostudio.shared import Route, Who, root_of
from swathe.errors import NotFoundError

if TYPE_CHECKING:
    from serve.api.service import Service
    from swathe.user import Caller

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=Route)
TaskIdText = Annotated[str, Path(max_length=120)]
VALID = timedelta(seconds=302_400)


@router.get("/{task_id}/output")
@router.get("/{task_id}/output-url")
def output(request: Request, service: Here, who: Who, task_id: TaskIdText) -> dict[str, Any]:
    """An archive of what a task left; both spellings of the address and of the field."""
    _task(service, who, task_id, of_log=False)
    made = service.desk.links.make(who, OUTPUT, task_id, valid=VALID)
    url = root_of(request) + made.path
    return {"task_id": task_id, "output_url": url, "url": url}


@router.get("/{task_id}/logs/{step_id}")
def logs(  # noqa: PLR0913, PLR0917  what a request has
    request: Request, service: Here, who: Who, task_id: TaskIdText, step_id: Annotated[str, Path(max_length=100)],
    allow_incomplete: bool = True,
    tail_lines: Annotated[int | None, Query(ge=1, le=20_000)] = None,
    force_refresh: bool = False,  # noqa: ARG001  every reading is fresh
) -> dict[str, Any]:  # fmt: skip
    """What was said while a step ran."""
    found = _task(service, who, task_id, of_log=True)
    outputs = Outputs(service.desk)
    step = step_named(outputs.steps(found), step_id)
    if running(step) and not allow_incomplete:
        raise msg(409, f"Step {step_id} is {step.status}: its log is not complete")
    text = outputs.log_text(who, found, step_id, tail_lines)
    if not text:
        raise msg(404, f"Step {step_id} has no log")
    made = service.desk.links.make(who, LOG, f"{task_id}/{step_id}", valid=VALID)
    told = "the step is running: its log goes on" if running(step) else None
    tail = {"tail": text} if tail_lines else {}
    return {"task_id": task_id, "step_id": step_id, "step_log_url": root_of(request) + made.path,
            "status": step.status, "warning": told, **tail}  # fmt: skip


def _task(service: Service, who: Caller, task_id: str, *, of_log: bool) -> Found:
    try:
        return Outputs(service.desk).task(who, task_id)
    except NotFoundError:
        text = f"Task {task_id} not found"
        raise (Refusal(404, text) if of_log else msg(404, text)) from None
