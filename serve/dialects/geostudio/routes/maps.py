"""Where their clients look for a map server: the same names of layers, answered by our own maps."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from serve.api.service import Here
from serve.dialects.geostudio.layers import layer_of_name
from serve.dialects.geostudio.problems import Refusal, msg
from serve.dialects.geostudio.routes.inference import seen
from serve.dialects.geostudio.shared import Route, Who, root_of

router = APIRouter(tags=["maps"], route_class=Route)
for_all = APIRouter(tags=["maps"])
"""What needs no key: it tells nothing of anybody."""
MOUNT = "/geofm-geoserver"
_NAME = re.compile(r"(?:[\w.-]+:)?([0-9a-f-]{36})(?:-task_\d+)?-.+")
_LAYERS = frozenset({"layers", "query_layers", "layer"})
_NO_TIMES = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<DomainValues xmlns="http://demo.geo-solutions.it/share/wmts-multidim/wmts_multi_dimensional.xsd"'
    ' xmlns:ows="http://www.opengis.net/ows/1.1"><ows:Identifier>time</ows:Identifier><Size>0</Size></DomainValues>\n'
)
"""As the extension of their map server says it. An empty Domain is left out: their client would read its text."""


@router.get("/geoserver/{workspace}/wms", response_class=RedirectResponse)
def wms(request: Request, service: Here, who: Who, workspace: Annotated[str, Path(max_length=100)]) -> RedirectResponse:  # noqa: ARG001  all have one
    """To our own WMS, under the names that it knows."""
    asked = [(name, _translated(service, who, text) if name.lower() in _LAYERS else text)
             for name, text in request.query_params.multi_items()]  # fmt: skip
    return RedirectResponse(f"{root_of(request)}/api/layers/wms?{urlencode(asked)}", 307)


@for_all.get("/geoserver/gwc/service/wmts", response_class=Response)
def wmts(request: Request) -> Response:
    """That a layer has no times to choose from, of whatever layer.

    Their widget asks this of each without a key, before it draws any. Raises Refusal (501) for other requests.
    """
    request.state.route = request.scope["route"].path
    asked = next((text for name, text in request.query_params.multi_items() if name.lower() == "request"), "")
    if asked.lower() != "getdomainvalues":
        raise msg(501, "of WMTS, GetDomainValues alone is answered here; maps are at the WMS, and at /api/layers/wmts")
    return Response(_NO_TIMES, media_type="text/xml")


def _translated(service: Here, who: Who, text: str) -> str:
    return ",".join(_layer(service, who, name) for name in text.split(","))


def _layer(service: Here, who: Who, name: str) -> str:
    """Raises Refusal (404)."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return name
    found = layer_of_name(service.desk, seen(service.desk, who, match[1]), name.strip())
    if found is None:
        raise Refusal(404, f"Layer {name[:120]} not found")
    return found
