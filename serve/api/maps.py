"""Layers as WMS and WMTS: parameters in, pictures and XML out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from serve.api import examples
from serve.api.callers import Who
from serve.api.layers import KEPT, addresses_of, legend_of, tagged, tile_of
from serve.api.service import Here
from serve.api.strict import TileRoute
from serve.problems import PROBLEM, problem_of
from serve.tiles.wishes import Refused, Wish
from swathe.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from serve.tiles.maps import MapWish
    from swathe.layer import Layer
    from swathe.user import Caller

router = APIRouter(prefix="/api", tags=["layers"], route_class=TileRoute)
Job = Annotated[str | None, Query(max_length=64, description="Only layers of this job.")]
Operation = Annotated[str | None, Query(alias="REQUEST", max_length=40, description="GetCapabilities, GetMap, …")]
_NEWEST = 50
"""Jobs whose layers are told of where no job is named."""
_XML = {"schema": {"type": "string"}, "example": examples.XML}
_TEXT = {"schema": {"type": "string"}, "example": "water"}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/xml": _XML, "application/vnd.ogc.wms_xml": _XML, "application/vnd.ogc.se_xml": _XML,
                      "image/png": {}, "image/webp": {"example": ""}, "image/jpeg": {"example": ""},
                      "text/plain": _TEXT, "text/html": {}, "application/json": {"example": examples.POINTS}},
          "description": "A map, a document, or, as is usual with this standard, the report of a mistake."},
    304: {"description": "The client has it already."},
}  # fmt: skip
_MATRIX: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/xml": _XML, "image/png": {}, "image/webp": {"example": ""}},
          "description": "A tile or the description of the service."},
    304: {"description": "The client has it already."},
    400: {"content": {"text/xml": _XML, PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
          "description": "What is wrong with the request."},
}  # fmt: skip


@router.get("/layers/wms", operation_id="ask_wms", response_class=Response, responses=_ANSWERS)
async def wms(request: Request, service: Here, who: Who, job: Job = None, operation: Operation = None) -> Response:  # noqa: ARG001  for the document
    """Web Map Service 1.1.1 and 1.3.0. Names of parameters know no case; ``job`` and ``api_key`` stay in its links."""
    return await service.drawn(_wms, who, request, service.desk, job or "")


@router.get("/layers/wmts", operation_id="ask_wmts", response_class=Response, responses=_MATRIX)
async def wmts(request: Request, service: Here, who: Who, job: Job = None, operation: Operation = None) -> Response:  # noqa: ARG001  for the document
    """Web Map Tile Service 1.0.0, by parameters."""
    return await service.drawn(_wmts, who, request, service.desk, job or "")


@router.get("/layers/wmts/1.0.0/WMTSCapabilities.xml", operation_id="get_wmts_capabilities", response_class=Response,
            responses={200: {"content": {"text/xml": _XML}, "description": "What there is."}})  # fmt: skip
async def described(request: Request, service: Here, who: Who, job: Job = None) -> Response:
    """The same service, RESTful: its tiles are those of XYZ."""
    return await service.drawn(_tiles_told, who, request, service.desk, job or "")


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request to the WMS."""

    caller: Caller
    request: Request
    desk: Desk
    wish: Wish
    version: str
    job: str


# --- WMS --------------------------------------------------------------------------------------------------------------


def _wms(caller: Caller, request: Request, desk: Desk, job: str) -> Response:
    from serve.tiles.maps import version_of
    from serve.tiles.markup import service_exception
    from serve.tiles.wms import TROUBLES

    wish = Wish(request.query_params.multi_items())
    version = version_of(wish)
    try:
        return _operation(wish)(_Ask(caller, request, desk, wish, version, job))
    except (InputError, NotFoundError) as error:
        refused = Refused("LayerNotDefined" if isinstance(error, NotFoundError) else "", error.detail)
        if problem_of(error).status in {401, 403, 429}:
            raise
    except Refused as error:
        refused = error
    return Response(service_exception(refused, version), 200, {"Cache-Control": "no-store"}, TROUBLES[version])


def _operation(wish: Wish) -> Callable[[_Ask], Response]:
    known = {"getcapabilities": _told, "capabilities": _told, "getmap": _map, "map": _map,
             "getfeatureinfo": _under, "getlegendgraphic": _legend}  # fmt: skip
    name = wish.text("REQUEST")
    if name.lower() not in known:
        raise Refused("OperationNotSupported", f"REQUEST may be GetCapabilities, GetMap, GetFeatureInfo or "
                      f"GetLegendGraphic, not {name[:40]!r}", "REQUEST")  # fmt: skip
    return known[name.lower()]


def _told(ask: _Ask) -> Response:
    from serve.tiles.wms import TYPES, capabilities

    addresses = addresses_of(ask.request)
    text = capabilities(_shown(ask.caller, ask.desk, ask.job), addresses, addresses.wms(ask.job), ask.version)
    return Response(text, 200, {"Cache-Control": "private, no-cache"}, TYPES[ask.version])


def _map(ask: _Ask) -> Response:
    from serve.tiles.maps import crs_of, expect_shown, map_wish

    asked = map_wish(ask.wish, ask.version)
    layers = [ask.desk.layers.get(ask.caller, name) for name in asked.layers]
    for layer in layers:
        expect_shown(layer, crs_of(ask.wish, ask.version), ask.version)
    tag = hashlib.sha256(f"{[layer.version for layer in layers]}{asked}".encode()).hexdigest()[:32]
    return tagged(ask.request, tag, asked.form, lambda: _painted(ask.desk, layers, asked))


def _painted(desk: Desk, layers: list[Layer], asked: MapWish) -> bytes:
    from pipelines.layers.draw import empty
    from pipelines.layers.encode import encoded, stacked

    drawn = [found for layer in layers if (found := desk.layers.draw(layer, asked.frame)) is not None]
    return encoded(stacked(drawn or [empty(asked.frame)]), asked.form, asked.ground)


def _under(ask: _Ask) -> Response:
    from serve.tiles.maps import MOST_LAYERS, SHOWN, crs_of, expect_shown, frame_of, point_of

    form = ask.wish.text("INFO_FORMAT", SHOWN[0]).partition(";")[0].strip().lower()
    if form not in SHOWN:
        raise Refused("InvalidFormat", f"INFO_FORMAT may be {', '.join(SHOWN)}", "INFO_FORMAT")
    frame = frame_of(ask.wish, ask.version)
    point = point_of(ask.wish, ask.version, frame)
    layers = [ask.desk.layers.get(ask.caller, name) for name in ask.wish.listed("QUERY_LAYERS")[:MOST_LAYERS]]
    for layer in layers:
        expect_shown(layer, crs_of(ask.wish, ask.version), ask.version)
    found = [(layer, ask.desk.layers.read(layer, frame.crs, point)) for layer in layers]
    rows = [{"layer": layer.id, "title": layer.title, "value": read.value, "name": read.name, "unit": layer.style.unit}
            for layer, read in found]  # fmt: skip
    return Response(_spelled(rows, form), 200, {"Cache-Control": KEPT}, form)


def _spelled(rows: list[dict[str, Any]], form: str) -> str:
    if form == "application/json":
        return json.dumps({"layers": rows})
    lines = [(str(row["title"]), _said(row)) for row in rows]
    if form == "text/plain":
        return "".join(f"{title}: {text}\n" for title, text in lines)
    cells = "".join(f"<tr><th>{escape(title)}</th><td>{escape(text)}</td></tr>" for title, text in lines)
    return f"<!doctype html><meta charset=utf-8><table>{cells}</table>"


def _said(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "no data"
    number = f"{row['value']:g}"
    return f"{row['name']} ({number})" if row["name"] else f"{number} {row['unit']}".strip()


def _legend(ask: _Ask) -> Response:
    if ask.wish.text("FORMAT", "image/png").lower() != "image/png":
        raise Refused("InvalidFormat", "legends are image/png", "FORMAT")
    return legend_of(ask.caller, ask.request, ask.desk, ask.wish.text("LAYER"))


def _shown(caller: Caller, desk: Desk, job: str) -> list[Layer]:
    """Of a job, or the newest."""
    found = desk.layers.of_job(caller, job) if job else desk.layers.listed(caller, _NEWEST).items
    return list(found)


# --- WMTS -------------------------------------------------------------------------------------------------------------


def _wmts(caller: Caller, request: Request, desk: Desk, job: str) -> Response:
    from serve.tiles.markup import exception_report

    wish = Wish(request.query_params.multi_items())
    try:
        name = wish.text("REQUEST")
        if name.lower() == "getcapabilities":
            return _tiles_told(caller, request, desk, job)
        if name.lower() != "gettile":
            raise Refused("OperationNotSupported", "REQUEST may be GetCapabilities or GetTile", "REQUEST")  # noqa: TRY301
        return _tile(caller, request, desk, wish)
    except NotFoundError as error:
        code = "TileOutOfRange" if error.problem.code == "tile.unknown" else "InvalidParameterValue"
        refused = Refused(code, error.detail, "TILEROW" if code == "TileOutOfRange" else "LAYER")
    except Refused as error:
        refused = error
    return Response(exception_report(refused), 400, {"Cache-Control": "no-store"}, "text/xml")


def _tiles_told(caller: Caller, request: Request, desk: Desk, job: str) -> Response:
    from serve.tiles.wmts import capabilities

    text = capabilities(_shown(caller, desk, job), addresses_of(request), job)
    return Response(text, 200, {"Cache-Control": "private, no-cache"}, "text/xml")


def _tile(caller: Caller, request: Request, desk: Desk, wish: Wish) -> Response:
    from serve.tiles.wmts import FORMS, SET

    if wish.text("TILEMATRIXSET", SET) != SET:
        raise Refused("InvalidParameterValue", f"TILEMATRIXSET may be {SET}", "TILEMATRIXSET")
    if wish.text("STYLE", "default") != "default":
        raise Refused("InvalidParameterValue", "STYLE may be default", "STYLE")
    ending = FORMS.get(wish.text("FORMAT", "image/png").lower())
    if ending is None:
        raise Refused("InvalidParameterValue", f"FORMAT may be {', '.join(FORMS)}", "FORMAT")
    most = (1 << 24) - 1
    place = (wish.whole("TILEMATRIX", 0, 24), wish.whole("TILECOL", 0, most), wish.whole("TILEROW", 0, most))
    return tile_of(caller, request, desk, wish.text("LAYER"), place, ending)
