"""Inferences: accepted at once, planned task by task, cancelled, listed whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve.api.service import Here
from serve.dialects.geostudio.ids import id_of
from serve.dialects.geostudio.layers import published
from serve.dialects.geostudio.models import SANDBOX, Models
from serve.dialects.geostudio.problems import Refusal
from serve.dialects.geostudio.records import Seen, inference, inference_status, listing, planning, task, unclear
from serve.dialects.geostudio.schema import InferenceCreate
from serve.dialects.geostudio.shared import Limit, Route, Skip, TheirModels, Who, root_of
from serve.dialects.geostudio.wishes import Wanted, wanted

if TYPE_CHECKING:
    from serve.api.service import Service
    from serve.desk.desk import Desk
    from serve.dialects.geostudio.models import Model
    from swathe.user import Caller

router = APIRouter(tags=["inference"], route_class=Route)
InferenceId = Annotated[UUID, Path()]
_OVER = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "STOPPED"})


@router.post("/inference", status_code=201)
async def create(request: Request, service: Here, models: TheirModels, who: Who, asked: InferenceCreate) -> Any:
    """Accepted, not lost, and planned in the background: unreachable imagery fails its task."""
    return await submitted(request, service, models, who, asked)


@router.post("/async/inference", status_code=201)
async def create_async(request: Request, service: Here, models: TheirModels, who: Who, asked: InferenceCreate) -> Any:
    """The same; ``event_id`` says what to follow."""
    found = await submitted(request, service, models, who, asked)
    return {**found, "event_id": found["id"]}


@router.post("/inference/dry-run", status_code=201)
async def dry_run(service: Here, models: TheirModels, who: Who, asked: InferenceCreate) -> Any:
    """All checks, and what each task would take; nothing is kept."""
    made = await to_thread.run_sync(chosen_wish, service.desk, models, who, asked)
    found = await service.slowly(_estimated, who, service.desk, made)
    return {**made.record(who), "id": None, "status": "PENDING", "tasks": found}


async def submitted(
    request: Request, service: Service, models: Models, who: Caller, asked: InferenceCreate
) -> dict[str, Any]:  # fmt: skip
    """The record of what was accepted."""
    made = await to_thread.run_sync(chosen_wish, service.desk, models, who, asked)
    return await to_thread.run_sync(_accepted, request, service.desk, who, made)


def chosen_wish(desk: Desk, models: Models, who: Caller, asked: InferenceCreate) -> Wanted:
    """Their wish, translated. Raises Refusal and SwatheError for what cannot be met."""
    return wanted(desk, who, asked, _model(models, who, asked))


def _model(models: Models, who: Caller, asked: InferenceCreate) -> Model:
    """By id or name; of a sandbox model, the tune that it is asked to try."""
    model = models.get(who, asked.model_id) if asked.model_id else models.named(who, asked.model_display_name or "")
    if model.display_name == SANDBOX:
        if not asked.fine_tuning_id:
            raise Refusal(422, {"msg": f"{SANDBOX} needs fine_tuning_id"})
        return models.tune(who, asked.fine_tuning_id)
    return model


def _accepted(request: Request, desk: Desk, who: Caller, made: Wanted) -> dict[str, Any]:
    id_ = desk.batches.new_id()
    wishes = made.to_push(id_) if desk.settings.geoserver_url else [one.wish for one in made.tasks]
    batch = desk.batches.submit(who, wishes, made.title, made.labels(who), id_)
    return shown(root_of(request), desk, who, Seen(*desk.batches.get(who, batch.id)))


def _estimated(who: Caller, desk: Desk, made: Wanted) -> list[dict[str, Any]]:
    """Of each task, as far as one request may look: the first of them."""
    found = []
    for task_ in made.tasks[:8]:
        cost = desk.jobs.estimate(who, task_.wish)
        found.append({"date": task_.date, "seconds": cost.seconds, "area_km2": cost.cost.get("area_km2"),
                      "warnings": list(cost.warnings)})  # fmt: skip
    return found


@router.get("/inference")
def listed(  # noqa: PLR0913, PLR0917  what a request has
    request: Request, service: Here, who: Who, model_id: UUID | None = None,
    tune_id: Annotated[str | None, Query(max_length=100)] = None,
    created_by: Annotated[str | None, Query(max_length=200)] = None,
    location: Annotated[str | None, Query(max_length=100)] = None, saved: bool | None = None,
    limit: Limit = 25, skip: Skip = 0,
) -> dict[str, Any]:  # fmt: skip
    """Own ones, newest first."""
    asked = {"model_id": model_id and str(model_id), "tune_id": tune_id, "created_by": created_by,
             "location": location, "saved": saved}  # fmt: skip
    labels: dict[str, Any] = {"of": "inference", **{k: v for k, v in asked.items() if v is not None}}
    found = service.desk.batches.listed(who, labels, limit, skip)
    return listing([shown(root_of(request), service.desk, who, Seen(*one)) for one in found.batches], found.total)


@router.get("/inference/{id}")
def get(request: Request, service: Here, who: Who, id: InferenceId) -> dict[str, Any]:  # noqa: A002
    """One."""
    return shown(root_of(request), service.desk, who, seen(service.desk, who, id))


@router.delete("/inference/{id}", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: InferenceId) -> Response:  # noqa: A002
    """With its tasks and results; what runs is stopped, and goes then."""
    service.desk.batches.drop(who, seen(service.desk, who, id).batch.id)
    return Response(status_code=204)


@router.post("/inference/{id}/cancel", status_code=202)
def cancel(service: Here, who: Who, id: InferenceId) -> JSONResponse:  # noqa: A002
    """Stop all tasks that have not ended, within a chunk."""
    found = seen(service.desk, who, id)
    status = inference_status(found)
    if status in _OVER:
        return JSONResponse({"msg": f"Inference {id} has ended already: {status}"}, 202)
    service.desk.batches.cancel(who, found.batch.id)
    return JSONResponse({"msg": f"Inference {id} is being stopped"}, 202)


@router.get("/inference/{id}/tasks")
def tasks(service: Here, who: Who, id: InferenceId) -> dict[str, Any]:  # noqa: A002
    """All of them, however many; the planning first."""
    found = seen(service.desk, who, id)
    told = service.desk.batches.milestones(found.parts)
    shown_ = [task(found, part, told.get(part.number, ())) for part in found.parts]
    return {"inference_id": str(id), "status": inference_status(found), "tasks": [planning(found), *shown_]}


def seen(desk: Desk, who: Caller, id_: UUID | str) -> Seen:
    """One of theirs. Raises Refusal (404)."""
    from swathe.errors import NotFoundError

    try:
        found = Seen(*desk.batches.get(who, id_of(id_, "b")))
    except NotFoundError:
        raise Refusal(404, f"Inference {id_} not found") from None
    if not found.is_batch_of_theirs:
        raise Refusal(404, f"Inference {id_} not found")
    return found


def shown(root: str, desk: Desk, who: Caller, found: Seen) -> dict[str, Any]:
    """A record with the layers that were published."""
    return inference(found, desk.batches.milestones(unclear(found)), published(desk, who, found, root))
