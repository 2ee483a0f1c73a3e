"""One small image, answered at once by a warm model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from serve.api import examples
from serve.api.callers import Who
from serve.api.front import IMAGE_BYTES
from serve.api.meters import OWN
from serve.api.replicas import PredictOrder
from serve.api.service import Here, Service
from serve.api.strict import parsed
from serve.desk.asking import Asking
from swathe.errors import ConflictError, InputError, SwatheError
from swathe.recipe import Radiometry

if TYPE_CHECKING:
    from pipelines.online import Form
    from serve.desk.predict import Order
    from swathe.user import Caller

router = APIRouter(prefix="/api", tags=["predictions"])
_OF_IMAGE = ("model", "sensor", "bands", "scale", "offset", "nodata")
"""Parameters that say how an image in the body is to be read."""
_ASKING = {name: value for name, value in examples.ASKING.items() if name != "title"}
_BODY = {"requestBody": {"required": True, "content": {
    "image/tiff": {"schema": {"type": "string", "format": "binary"}},
    "image/jp2": {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {"$ref": "#/components/schemas/Asking"}, "example": _ASKING},
}}}  # fmt: skip
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"description": "The result, on the grid of the image.", "content": {
    "image/tiff": {"schema": {"type": "string", "format": "binary"}},
    "image/png": {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {"type": "object"}, "example": examples.SUMMARY},
}, "headers": {"Swathe-Seconds": {"schema": {"type": "string"}, "description": "That the answer took."},
               "Swathe-Pixels": {"schema": {"type": "string"}, "description": "Of the result."}}}}  # fmt: skip


@router.post("/predict", operation_id="predict", response_class=Response, openapi_extra=_BODY,
             responses=_ANSWERS, max_body_size=IMAGE_BYTES)  # fmt: skip
async def predict(  # noqa: PLR0913, PLR0917  what a request has
    request: Request, service: Here, who: Who,
    model: Annotated[str | None, Query(max_length=80, description="Id of a model, where the body is an image.")] = None,
    sensor: Annotated[str | None, Query(max_length=200, description="Id of a sensor profile.")] = None,
    bands: Annotated[str | None, Query(max_length=2000, description="Instead of a sensor: common names, with commas.")]
    = None,
    scale: Annotated[float | None, Query(allow_inf_nan=False, description="physical = stored * scale + offset")] = None,
    offset: Annotated[float | None, Query(allow_inf_nan=False, description="See scale.")] = None,
    nodata: Annotated[float | None, Query(description="Stored number that means nothing.")] = None,
) -> Response:  # fmt: skip
    """One image of at most 4 Mpx, while the client waits: a GeoTIFF or JPEG 2000 in the body, or a job's JSON.

    Of a job's JSON, model, inputs, aoi, sensor and radiometry are heeded; what else it asks for is refused
    (``predict.field``), because only a job does it.

    What the model would take longer for than ten seconds, by its estimate, belongs into a job: 422 names both numbers.
    (An operator may have set other bounds.)

    ``Accept`` decides the answer: ``image/tiff`` (the default), ``image/png``, or ``application/json`` for a summary.
    """
    await service.rates.take(request, "predict", who.user.id)
    form, body = _form(request.headers.get("accept", "")), await request.body()
    if not body:
        raise InputError("there is no image in the body", code="request.empty", field="body")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        _expect_alone(request)
        asking = _asking(body)
        order = await service.slowly(service.desk.predictions.of_asking, who, asking)
        return await _answered(service, order, None, form)
    radiometry = Radiometry(tuple(b.strip() for b in (bands or "").split(",") if b.strip()), scale, offset, nodata)
    order = await _of_image(service, who, model, (sensor, radiometry))
    return await _answered(service, order, body, form)


def _expect_alone(request: Request) -> None:
    """Parameters of the address are about an image in the body; a wish says these things itself."""
    beside = [name for name in _OF_IMAGE if name in request.query_params]
    if beside:
        raise InputError(f"{', '.join(beside)} in the address is for an image in the body, and this body is JSON",
                         code="predict.field", field=beside[0], hint="say it in the JSON")  # fmt: skip


async def _of_image(
    service: Service, who: Caller, model: str | None, how: tuple[str | None, Radiometry]
) -> Order:  # fmt: skip
    if not model:
        raise InputError("which model?", code="request.invalid", field="model", hint="add ?model=ID to the address")
    return await to_thread.run_sync(service.desk.predictions.of_image, who, model, *how)


def _asking(body: bytes) -> Asking:
    try:
        return Asking.model_validate(parsed(body))
    except json.JSONDecodeError as error:
        raise InputError(f"no JSON: {error.msg}", code="request.invalid", field="body") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{where or 'body'}: {fault['msg']}"[:400], code="request.invalid", field=where) from None


async def _answered(service: Service, order: Order, image: bytes | None, form: Form) -> Response:
    if service.replicas is None:
        raise ConflictError("no models are kept warm here", code="predict.off", hint="submit it as a job")
    question = PredictOrder(order.recipe, image, form, order.max_pixels, order.max_seconds)
    meters, label = service.meters, order.recipe.model if order.model_shared else OWN
    at_work = meters.predicting.labels(label)
    try:
        with at_work.track_inprogress(), meters.predictions.labels(label).time():
            found = await service.replicas.predict(order.recipe.model, question)
    except SwatheError as error:
        meters.refused.labels(label, error.problem.code).inc()
        with order.worded():
            raise
    stages = ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in found.seconds.items())
    headers = {"Swathe-Seconds": f"{found.seconds.get('total', 0.0):.4f}", "Swathe-Pixels": str(found.pixels),
               "Server-Timing": stages, "Cache-Control": "no-store"}  # fmt: skip
    return Response(found.body, 200, headers, str(found.form))


def _form(accept: str) -> Form:
    """The first of ours that the client takes; GeoTIFF where it takes anything. By weight, then by order."""
    from pipelines.online import Form

    weighed = sorted(((_weight(part), part.partition(";")[0].strip().lower()) for part in accept.split(",")),
                     key=lambda pair: -pair[0])  # fmt: skip
    for weight, kind in weighed:
        if weight > 0 and kind in set(Form):
            return Form(kind)
    if not accept.strip() or any(kind in {"*/*", "image/*"} for _, kind in weighed):
        return Form.TIFF
    raise InputError(f"none of {accept[:100]!r} can be given", code="predict.accept", field="Accept",
                     hint=f"ask for one of {', '.join(Form)}")  # fmt: skip


def _weight(part: str) -> float:
    try:
        return float(part.partition("q=")[2] or 1)
    except ValueError:
        return 0.0
