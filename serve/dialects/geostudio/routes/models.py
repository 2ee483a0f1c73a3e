"""Models: what comes with the service, and what users make of configs and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from serve.api.service import Here
from serve.dialects.geostudio.models import MODEL, Models, about, card_named
from serve.dialects.geostudio.problems import Refusal, msg
from serve.dialects.geostudio.records import listing
from serve.dialects.geostudio.schema import Deploy, ModelCreate, ModelUpdate
from serve.dialects.geostudio.shared import Limit, Route, Skip, TheirModels, Who
from swathe.errors import SwatheError

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from serve.dialects.geostudio.models import Model
    from swathe.user import Caller

router = APIRouter(prefix="/models", tags=["models"], route_class=Route)
ModelId = Annotated[UUID, Path()]
_NO_DEPLOY = frozenset({"DEPLOY_IN_PROGRESS", "COMPLETED", "UNAVAILABLE"})


@router.get("")
def listed(
    models: TheirModels, who: Who, internal_name: Annotated[str, Query(max_length=100)] = "", limit: Limit = 25,
    skip: Skip = 0,
) -> dict[str, Any]:  # fmt: skip
    """Own ones, shared ones, and those that come with the service."""
    found = [m.shown() for m in models.listed(who) if internal_name in m.internal_name]
    return listing(found[skip : skip + limit], len(found))


@router.post("", status_code=201)
def create(service: Here, models: TheirModels, who: Who, asked: ModelCreate) -> dict[str, Any]:
    """A name with settings. It can be used when it has a network: by ``deploy``, or a model_url of a model here."""
    card = _card(models, who, asked.model_url)
    before = _namesakes(models, who, asked.display_name)
    fields = asked.model_dump(mode="json", exclude={"display_name", "sharable", "latest"})
    if before:
        fields["version"] = max(float(m.fields.get("version", 1.0)) for m in before) + 1
    latest = True if asked.latest is None else asked.latest
    labels = {"fields": fields, "latest": latest, "created_by": who.user.email}
    made = service.desk.presets.add(who, MODEL, asked.display_name, card, labels, shared=_shared(who, asked.sharable))
    if latest:
        _outdate(service.desk, who, before)
    return _of(models, who, made.id)


@router.get("/{id}")
def get(models: TheirModels, who: Who, id: ModelId) -> dict[str, Any]:  # noqa: A002
    """One."""
    return models.get(who, id).shown()


@router.patch("/{id}", status_code=201)
def update(service: Here, models: TheirModels, who: Who, id: ModelId, asked: ModelUpdate) -> dict[str, Any]:  # noqa: A002
    """What was sent is changed, to false and empty, too; what was not sent, or sent as null, stays."""
    preset = models.preset_of(who, id)
    said = asked.model_dump(mode="json", exclude_unset=True)
    changes: dict[str, Any] = {}
    if "display_name" in said:
        changes["name"] = said["display_name"]
    if "sharable" in said:
        changes["shared"] = _shared(who, said["sharable"])
    if "model_url" in said:
        changes["model"] = _card(models, who, said["model_url"])
    labels = {**preset.labels, "fields": {**preset.labels.get("fields", {}), **_own(said)}}
    if "latest" in said:
        labels["latest"] = said["latest"]
    service.desk.presets.change(who, preset.id, labels=labels, **changes)
    if "sharable" in said and preset.labels.get("brought") and preset.model and who.admin:
        service.desk.models.change(who, preset.model, shared=changes["shared"])  # a name alone is of no use
    if said.get("latest"):
        name = changes.get("name", preset.name)
        _outdate(service.desk, who, [m for m in _namesakes(models, who, name) if m.preset and m.preset.id != preset.id])
    return _of(models, who, preset.id)


@router.delete("/{id}", status_code=204, response_class=Response)
def drop(service: Here, models: TheirModels, who: Who, id: ModelId) -> Response:  # noqa: A002
    """With the network that was deployed for it, unless something else uses that."""
    preset = models.preset_of(who, id)
    forget(service.desk, who, preset.id)
    return Response(status_code=204)


@router.post("/{id}/deploy")
async def deploy(service: Here, models: TheirModels, who: Who, id: ModelId, asked: Deploy) -> dict[str, Any]:  # noqa: A002
    """A config and a checkpoint of TerraTorch become its network; the weights are fetched when it is made ready."""
    model = await to_thread.run_sync(models.get, who, id)
    if model.preset is None:
        raise msg(422, f"Model {model.display_name} comes with the service")
    if model.status in _NO_DEPLOY:
        raise msg(422, f"Model {model.display_name} is {model.status}: it cannot be deployed again")
    found = await service.slowly(_deployed, who, service.desk, models, model, asked)
    return {"id": found.id, "internal_name": found.internal_name, "display_name": found.display_name,
            "status": "DEPLOY_REQUESTED" if found.status == "COMPLETED" else found.status}  # fmt: skip


def _deployed(who: Caller, desk: Desk, models: Models, model: Model, asked: Deploy) -> Model:
    assert model.preset is not None
    desk.presets.expect_changeable(who, model.preset.id)
    known = about(model, model.internal_name, str(model.fields.get("description") or ""), model.fields)
    state = desk.adoption.adopt(
        who, known, asked.model_configs_url, asked.model_checkpoint_url, shared=model.preset.shared
    )
    fields = {**model.fields, "model_onboarding_config": asked.model_dump(mode="json")}
    labels = {**model.preset.labels, "fields": fields, "brought": True}
    try:
        desk.presets.change(who, model.preset.id, model=state.card.id, labels=labels)
    except SwatheError:
        if model.preset.model is None:  # else the card stood there before
            desk.models.drop(who, state.card.id)
        raise
    return models.get(who, model.id)


def forget(desk: Desk, who: Caller, preset: str) -> None:
    """A preset, and the card that was made for it. Raises ConflictError while jobs use that."""
    from serve.dialects.geostudio.models import TUNE

    found = desk.presets.get(who, preset)
    others = [p for kind in (MODEL, TUNE) for p in desk.presets.listed(who, kind) if p.id != preset]
    state = next((s for s in desk.models.listed(who) if s.card.id == found.model), None)
    alone = state is not None and state.source == "added" and state.owner == who.user.id
    if alone and all(p.model != found.model for p in others):
        assert found.model is not None
        desk.models.drop(who, found.model)
    desk.presets.drop(who, preset)


def _namesakes(models: Models, who: Caller, name: str) -> list[Model]:
    """Own ones of this name, in whatever version."""
    return [m for m in models.listed(who) if m.preset and m.preset.owner == who.user.id and m.display_name == name]


def _outdate(desk: Desk, who: Caller, old: Sequence[Model]) -> None:
    """Their name leads to another one from now on."""
    for one in old:
        if one.preset is not None and one.latest:
            desk.presets.change(who, one.preset.id, labels={**one.preset.labels, "latest": False})


def _of(models: Models, who: Caller, preset: str) -> dict[str, Any]:
    from serve.dialects.geostudio.ids import uuid_of

    return models.get(who, uuid_of(preset)).shown()


def _own(said: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in said.items() if k not in ("display_name", "sharable", "latest")}


def _shared(who: Caller, wanted: bool | None) -> bool:
    """What all users see is for administrators to decide."""
    return bool(wanted) and who.admin


def _card(models: Models, who: Caller, url: str | None) -> str | None:
    if not url:
        return None
    found = card_named(models, who, url)
    if found is None:
        raise Refusal(422, [{"msg": f"model_url leads to no model of this service: {url[:200]}; its models run here, so"
                             " name one of them, or leave it away and deploy", "loc": ["body", "model_url"],
                             "type": "model.url"}])  # fmt: skip
    return found
