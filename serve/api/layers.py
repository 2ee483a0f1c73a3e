"""Layers over HTTP: lists, descriptions, tiles, TileJSON, legends, what is at a point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from serve.api import examples
from serve.api.answers import Link
from serve.api.callers import Who
from serve.api.layer_answers import LayerAnswer, LayersAnswer, PointAnswer, TileJson
from serve.api.responses import Cursor, address, page_links, sent, unchanged
from serve.api.service import Here
from serve.api.strict import StrictRoute, TileRoute
from serve.tiles.addresses import Addresses

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from swathe.user import Caller

router = APIRouter(prefix="/api", tags=["layers"], route_class=StrictRoute)
tiles = APIRouter(prefix="/api", tags=["layers"], route_class=TileRoute)
LayerId = Annotated[str, Path(max_length=140, description="Id of a layer.")]
Ending = Literal["png", "webp"]
KEPT = "private, max-age=3600"
"""Results do not change, but a job may be resumed or removed."""
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "The picture."},
    304: {"description": "The client has it already."},
}
_TILE: dict[int | str, dict[str, Any]] = {
    **PICTURE, 200: {"content": {"image/png": {}, "image/webp": {"example": ""}},
                     "description": "The tile; where the layer has nothing, a transparent one."},
}  # fmt: skip


@router.get("/layers", operation_id="list_layers", response_model=LayersAnswer)
async def listed(
    request: Request, service: Here, who: Who,
    job: Annotated[str | None, Query(max_length=64, description="Id of a job: its layers, all of them.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs of one page.")] = 20, cursor: Cursor = None,
) -> Response:  # fmt: skip
    """Rasters of results as map layers, of one job or of all that the caller sees, the newest job first."""
    addresses, layers = addresses_of(request), service.desk.layers
    if job is not None:
        found = await service.slowly(layers.of_job, who, job)
        return sent(request, LayersAnswer(layers=[LayerAnswer.of(one, addresses) for one in found], links=[]))
    page = await service.slowly(layers.listed, who, limit, cursor)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, LayersAnswer(layers=[LayerAnswer.of(one, addresses) for one in page.items], links=links))


@router.get("/layers/{id}", operation_id="get_layer", response_model=LayerAnswer)
async def get(request: Request, service: Here, who: Who, id: LayerId) -> Response:  # noqa: A002
    """One layer: where it lies, its colours, and its addresses as XYZ, TileJSON, WMS and WMTS."""
    layer = await service.drawn(service.desk.layers.get, who, id)
    return sent(request, LayerAnswer.of(layer, addresses_of(request)))


@router.get("/layers/{id}/tilejson.json", operation_id="get_tilejson", response_model=TileJson,
            response_model_exclude_none=True)  # fmt: skip
async def tilejson(
    request: Request, service: Here, who: Who, id: LayerId,  # noqa: A002
    format: Annotated[Ending, Query(description="Of the tiles.")] = "png",  # noqa: A002
) -> Response:  # fmt: skip
    """TileJSON 3.0.0: what web maps want to know."""
    layer = await service.drawn(service.desk.layers.get, who, id)
    return sent(request, TileJson.of(layer, addresses_of(request), format), sparse=True)


@router.get("/layers/{id}/point", operation_id="read_layer", response_model=PointAnswer,
            responses={200: {"content": {"application/json": {"example": examples.POINT}}}})  # fmt: skip
async def point(
    request: Request, service: Here, who: Who, id: LayerId,  # noqa: A002
    lon: Annotated[float, Query(ge=-180, le=180, allow_inf_nan=False, description="Degrees east.")],
    lat: Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False, description="Degrees north.")],
) -> Response:  # fmt: skip
    """The number under a point, and the name of its class; null where there is none."""

    def work(caller: Caller) -> PointAnswer:
        layer = service.desk.layers.get(caller, id)
        found = service.desk.layers.read(layer, "EPSG:4326", (lon, lat))
        return PointAnswer(layer=id, lon=lon, lat=lat, value=found.value, name=found.name, unit=layer.style.unit)

    return sent(request, await service.drawn(work, who))


@router.get("/layers/{id}/legend.png", operation_id="get_legend", response_class=Response, responses=PICTURE)
async def legend(request: Request, service: Here, who: Who, id: LayerId) -> Response:  # noqa: A002
    """The colours of a layer and what they stand for."""
    return await service.drawn(legend_of, who, request, service.desk, id)


@tiles.get("/layers/{id}/tiles/{z}/{x}/{y}.{format}", operation_id="get_tile", response_class=Response,
           responses=_TILE)  # fmt: skip
async def tile(  # noqa: PLR0913, PLR0917  what an address has
    request: Request, service: Here, who: Who, id: LayerId,  # noqa: A002
    z: Annotated[int, Path(ge=0, le=24, description="Zoom level.")],
    x: Annotated[int, Path(ge=0, lt=1 << 24, description="Column, from the west.")],
    y: Annotated[int, Path(ge=0, lt=1 << 24, description="Row, from the north.")],
    format: Annotated[Ending, Path(description="png or webp.")],  # noqa: A002
) -> Response:  # fmt: skip
    """A tile of 256 x 256 pixels of web maps (XYZ, WebMercatorQuad)."""
    return await service.drawn(tile_of, who, request, service.desk, id, (z, x, y), format)


# --- pieces -----------------------------------------------------------------------------------------------------------


def addresses_of(request: Request) -> Addresses:
    """With the key that came in the query, which then is part of what the client knows."""
    return Addresses(address(request), request.query_params.get("api_key", ""))


def tile_of(
    caller: Caller, request: Request, desk: Desk, id_: str, place: tuple[int, int, int], ending: str
) -> Response:
    """The answer, drawn in this thread. Raises NotFoundError (``layer.unknown``, ``tile.unknown``)."""
    from pipelines.layers.encode import Form, blank, encoded
    from pipelines.layers.frame import tile

    layer, frame, form = desk.layers.get(caller, id_), tile(*place), Form(f"image/{ending}")
    tag = f"{layer.version}-{place[0]}-{place[1]}-{place[2]}-{ending}"

    def made() -> bytes:
        drawn = desk.layers.draw(layer, frame)
        return blank(frame.width, frame.height, form) if drawn is None else encoded(drawn, form)

    return tagged(request, tag, form, made)


def legend_of(caller: Caller, request: Request, desk: Desk, id_: str) -> Response:
    """The answer. Raises NotFoundError (``layer.unknown``)."""
    from pipelines.layers.legend import legend

    layer = desk.layers.get(caller, id_)
    return tagged(request, f"{layer.version}-legend", "image/png", lambda: legend(layer.style))


def tagged(request: Request, tag: str, media_type: str, made: Any) -> Response:
    """Bytes that do not change under a tag; made only where the client does not have them."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": KEPT, "Vary": "Authorization, X-API-Key"}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(made(), 200, headers, media_type)
