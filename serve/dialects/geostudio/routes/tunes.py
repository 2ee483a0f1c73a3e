"""Tunes: networks that were trained elsewhere, brought here, tried out, and fetched again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from serve.api.service import Here
from serve.dialects.geostudio.ids import tune_id
from serve.dialects.geostudio.models import SANDBOX, TUNE, about
from serve.dialects.geostudio.problems import invalid
from serve.dialects.geostudio.records import listing
from serve.dialects.geostudio.routes.inference import submitted
from serve.dialects.geostudio.routes.models import forget
from serve.dialects.geostudio.schema import InferenceCreate, TryOut, TuneUpdate, TuneUpload
from serve.dialects.geostudio.shared import Limit, Route, Skip, TheirModels, Who, root_of

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from serve.dialects.geostudio.models import Model
    from swathe.user import Caller

router = APIRouter(tags=["tunes"], route_class=Route)
TuneId = Annotated[str, Path(max_length=100)]
_SPECS = ("model_input_data_spec", "data_connector_config", "geoserver_push")
_STATES = {"DEPLOY_FAILED": "Failed", "UNAVAILABLE": "Failed"}


@router.post("/upload-completed-tunes", status_code=201)
async def upload(service: Here, who: Who, asked: TuneUpload) -> dict[str, Any]:
    """A config and a checkpoint of TerraTorch; the weights are fetched when the network is made ready."""
    return await service.slowly(_uploaded, who, service.desk, asked)


@router.get("/tunes")
def listed(
    models: TheirModels, who: Who, name: Annotated[str, Query(max_length=100)] = "",
    status: Annotated[str, Query(max_length=40)] = "", limit: Limit = 25, skip: Skip = 0,
) -> dict[str, Any]:  # fmt: skip
    """Own ones, newest first."""
    found = [_shown(tune) for tune in models.tunes(who)]
    found = [one for one in found if name in one["name"] and status in ("", one["status"])]
    return listing(found[skip : skip + limit], len(found))


@router.get("/tunes-and-models")
def together(models: TheirModels, who: Who, limit: Limit = 25, skip: Skip = 0) -> dict[str, Any]:
    """All that an inference can be made with: tunes, then models."""
    found = [*map(_shown, models.tunes(who)), *(model.shown() for model in models.listed(who))]
    return listing(found[skip : skip + limit], len(found))


@router.get("/tunes/{id}")
def get(models: TheirModels, who: Who, id: TuneId) -> dict[str, Any]:  # noqa: A002
    """One, with what it is used with."""
    tune = models.tune(who, id)
    options = {name: tune.fields.get(name) for name in (*_SPECS, "post_processing")}
    own = {k: v for k, v in (tune.fields.get("train_options") or {}).items() if v is not None}
    return {**_shown(tune), "metrics": [], "logs_presigned_url": None, "train_options": {**options, **own}}


@router.patch("/tunes/{id}")
def update(service: Here, models: TheirModels, who: Who, id: TuneId, asked: TuneUpdate) -> dict[str, Any]:  # noqa: A002
    """What was sent is changed; null, and train_options without entries, leave what there is."""
    tune = models.tune(who, id)
    assert tune.preset is not None
    said = {k: v for k, v in asked.model_dump(mode="json", exclude_unset=True).items() if v is not None}
    labels = {**tune.preset.labels, "fields": {**tune.fields, **{k: v for k, v in said.items() if k != "name"}}}
    changes = {"name": said["name"]} if "name" in said else {}
    service.desk.presets.change(who, tune.preset.id, labels=labels, **changes)
    return {"message": f"Tune {id} updated"}


@router.delete("/tunes/{id}", status_code=204, response_class=Response)
def drop(service: Here, models: TheirModels, who: Who, id: TuneId) -> Response:  # noqa: A002
    """With its network."""
    tune = models.tune(who, id)
    assert tune.preset is not None
    forget(service.desk, who, tune.preset.id)
    return Response(status_code=204)


@router.post("/tunes/{id}/try-out")
async def try_out(request: Request, service: Here, models: TheirModels, who: Who, id: TuneId, asked: TryOut) -> Any:  # noqa: A002
    """An inference with it. What is missing is taken from the tune; the tune itself stays as it is."""
    tune = await to_thread.run_sync(models.tune, who, id)
    given = {"description": "try-out"} | asked.model_dump(exclude_unset=True)
    given |= {"model_display_name": SANDBOX, "fine_tuning_id": id}
    for name in _SPECS:
        given[name] = given.get(name) or _option(tune, name) or []
    if not given.get("post_processing") and _option(tune, "post_processing"):
        given["post_processing"] = _option(tune, "post_processing")
    try:
        wish = InferenceCreate.model_validate(given)
    except ValidationError as error:  # of what an older service kept with the tune
        raise invalid(error) from None
    return await submitted(request, service, models, who, wish)


@router.get("/tunes/{id}/download")
def download(request: Request, service: Here, models: TheirModels, who: Who, id: TuneId) -> dict[str, Any]:  # noqa: A002
    """Where its config and checkpoint lie: links of this service to what was uploaded, else the addresses given."""
    tune = models.tune(who, id)
    urls = {key: str(tune.fields.get(name, "")) for key, name in
            (("config_url", "tune_config_url"), ("checkpoint_url", "tune_checkpoint_url"))}  # fmt: skip
    root = root_of(request)
    fresh = {key: root + made.path if (made := service.desk.links.renewed(who, url)) else url
             for key, url in urls.items()}  # fmt: skip
    return {"id": tune.id, "name": tune.display_name, "description": tune.fields.get("description"), **fresh}


@router.get("/tunes/{id}/metrics")
def metrics(models: TheirModels, who: Who, id: TuneId) -> dict[str, Any]:  # noqa: A002
    """None: it was not trained here."""
    tune = models.tune(who, id)
    return {"id": tune.id, "status": _shown(tune)["status"], "runs": [], "details": "it was trained elsewhere"}


# --- pieces ----------------------------------------------------------------------------------------------------------


def _uploaded(who: Caller, desk: Desk, asked: TuneUpload) -> dict[str, Any]:
    fields = asked.model_dump(mode="json", exclude={"name"})
    made = desk.presets.add(who, TUNE, asked.name, None, {"fields": fields, "created_by": who.user.email})
    id_ = tune_id(made.id)
    try:
        known = about(asked.name, _card_id(asked.name, made.id), asked.description, fields)
        state = desk.adoption.adopt(who, known, asked.tune_config_url, asked.tune_checkpoint_url)
    except Exception:
        desk.presets.drop(who, made.id)
        raise
    desk.presets.change(who, made.id, model=state.card.id)
    return {"message": f"Tune {asked.name} was taken in", "tune_id": id_}


def _card_id(name: str, preset: str) -> str:
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "tune"
    return f"{plain[:40]}-{preset[-8:]}"


def _option(tune: Model, name: str) -> Any:
    options = tune.fields.get("train_options") or {}
    return options.get(name) or tune.fields.get(name)


def _shown(tune: Model) -> dict[str, Any]:
    return {
        "id": tune.id, "name": tune.display_name, "description": tune.fields.get("description"),
        "status": _STATES.get(tune.status, "Finished"), "active": True, "shared": False,
        "created_by": tune.created_by, "created_at": tune.created, "updated_at": tune.updated,
    }  # fmt: skip
