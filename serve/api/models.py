"""Models over HTTP: listed with their state, added, switched, removed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from serve.api import examples
from serve.api.answers import ModelAnswer, ModelsAnswer
from serve.api.callers import Who
from serve.api.replay import IdempotencyKey, once_in_thread
from serve.api.responses import address, sent
from serve.api.service import Here, Service
from serve.api.strict import StrictRoute

router = APIRouter(prefix="/api/models", tags=["models"], route_class=StrictRoute)
ModelId = Annotated[str, Path(max_length=200, description="Id of a model.")]


class ModelChange(BaseModel):
    """What of a model can be changed; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool | None = None
    """Whether jobs may use it, and whether it is kept warm."""
    shared: bool | None = None
    """Whether all users see it (administrators)."""


@router.get("", operation_id="list_models", response_model=ModelsAnswer)
def listed(request: Request, service: Here, who: Who) -> Response:
    """Models that the caller sees, with their states."""
    root = address(request)
    found = service.desk.models.listed(who, _states(service))
    return sent(request, ModelsAnswer(models=[ModelAnswer.of(state, root) for state in found]))


@router.post("", operation_id="add_model", status_code=201, response_model=ModelAnswer)
async def add(
    request: Request, service: Here, who: Who,
    card: Annotated[dict[str, Any], Body(openapi_examples={"card": {"summary": "A method without weights",
                                                                    "value": examples.CARD}})],
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Add a model card, as in the files of configs/models. With the id of one's own card it replaces that."""

    def work() -> Response:
        made = ModelAnswer.of(service.desk.models.add(who, card), address(request))
        return sent(request, made, 201, {"Location": made.links["self"]})

    return await once_in_thread(request, service, who, key, work)


@router.get("/{id}", operation_id="get_model", response_model=ModelAnswer)
def get(request: Request, service: Here, who: Who, id: ModelId) -> Response:  # noqa: A002
    """One model, with its card, its state, and what is wrong with it."""
    return sent(request, ModelAnswer.of(service.desk.models.get(who, id, _states(service)), address(request)))


@router.patch("/{id}", operation_id="change_model", response_model=ModelAnswer)
def change(
    request: Request, service: Here, who: Who, id: ModelId,  # noqa: A002
    wanted: Annotated[ModelChange, Body(openapi_examples={"off": {"summary": "Switch it off",
                                                                  "value": {"enabled": False}}})],
) -> Response:  # fmt: skip
    """Switch a model on or off, or share it."""
    made = service.desk.models.change(who, id, enabled=wanted.enabled, shared=wanted.shared)
    return sent(request, ModelAnswer.of(made, address(request)))


@router.delete("/{id}", operation_id="delete_model", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: ModelId) -> Response:  # noqa: A002
    """Remove a model that was added; those that come with swathe are switched off instead."""
    service.desk.models.drop(who, id)
    return Response(status_code=204)


def _states(service: Service) -> dict[str, dict[str, Any]]:
    return service.replicas.states() if service.replicas else {}
