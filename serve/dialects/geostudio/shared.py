"""What their endpoints share: the caller before the body, JSON of any content type, lists in their form."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from serve.api.callers import known, presented, recognised
from serve.api.responses import address
from serve.api.service import Here, here
from serve.api.strict import StrictRequest
from serve.dialects.geostudio.models import Models
from serve.dialects.geostudio.problems import Refusal
from swathe.errors import AccessError
from swathe.user import Caller

if TYPE_CHECKING:
    from serve.api.service import Service

Limit = Annotated[int, Query(ge=1, le=1000)]
Skip = Annotated[int, Query(ge=0, le=10**9)]
_MOUNTS = ("/studio-gateway/v2", "/studio-gateway/ws", "/v2", "/ws", "/geofm-geoserver")
"""Where this API stands; longer ones first."""
_NEITHER = "Not authenticated: send X-API-Key: pak-…, or Authorization: Bearer …"
_BAD_KEY = "Invalid API key: it is unknown, switched off or expired"
_BAD_TOKEN = "Invalid or expired access token"  # noqa: S105  a text


class Route(APIRoute):
    """For callers alone; their three texts for those who are none."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's own."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            request.state.route = self.path
            request.state.caller = await caller_of(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


async def caller_of(request: Request) -> Caller:
    """Who asks. Raises Refusal (401) in their words, BusyError."""
    text = presented(request)
    try:
        return await recognised(request, here(request), text)
    except AccessError as error:
        token = (text or "").count(".") == 2  # noqa: PLR2004  of a JWT
        said = _NEITHER if not text else _BAD_TOKEN if token else _BAD_KEY
        raise Refusal(401, said, {"WWW-Authenticate": "Bearer"}) from error


Who = Annotated[Caller, Depends(known)]


def models_of(service: Here) -> Models:
    """Their models, as the desk has them."""
    return made_models(service)


def made_models(service: Service) -> Models:
    """The same, outside of a request's parameters."""
    return Models(service.desk, service.replicas.states if service.replicas else dict)


TheirModels = Annotated[Models, Depends(models_of)]


def root_of(request: Request) -> str:
    """Address of the service, whichever way this API was come to."""
    root = address(request)
    return next((root.removesuffix(mount) for mount in _MOUNTS if root.endswith(mount)), root)
