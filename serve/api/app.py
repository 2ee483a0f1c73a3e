"""One function that makes our HTTP API over a desk; no Ray inside."""

from __future__ import annotations

import secrets
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve.api import (
    health,
    imagery,
    jobs,
    landing,
    layers,
    links,
    maps,
    models,
    openapi,
    people,
    predict,
    processors,
    projects,
    uploads,
)
from serve.api.catalogue import mount_catalogue
from serve.api.dialects import mount_dialects
from serve.api.doorway import Doorway
from serve.api.front import BODY_BYTES, Front
from serve.api.health import Health
from serve.api.meters import Metered, Meters
from serve.api.service import Service
from serve.cors import CorsFastAPI
from serve.pages import explained
from serve.problems import install

if TYPE_CHECKING:
    from serve.api.replicas import Replicas
    from serve.desk.desk import Desk

_ROUTERS = (
    landing, health, jobs, predict, maps, layers, models, uploads, processors, imagery, projects, links, people,
)  # fmt: skip
_SENT = ["ETag", "Location", "Preference-Applied", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
         "Retry-After", "Swathe-Seconds", "Swathe-Pixels", "Idempotent-Replayed", "Content-Range"]  # fmt: skip
_TAKEN = ["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Prefer", "If-None-Match", "Last-Event-ID",
          "Range", "If-Range"]  # fmt: skip
_GONE = 499


def api(desk: Desk, replicas: Replicas | None = None, front: Front | None = None) -> FastAPI:
    """Make the whole application. ``replicas``: warm models; None: predictions at once are refused."""
    front = front or Front.of(desk.settings)
    name = secrets.token_hex(4) if front.processes > 1 else ""
    meters = Meters(desk.store, replicas.states if replicas else dict, desk.models.shared, name)
    app = CorsFastAPI(
        {"allow_origins": front.cors_origins, "allow_methods": ["*"], "allow_headers": _TAKEN, "expose_headers": _SENT},
        title="swathe", version=version("swathe"), description=openapi.ABOUT, openapi_url=None, docs_url=None,
        redoc_url=None, dependencies=[Depends(_named)], redirect_slashes=False,
        middleware=_middleware(front, meters),
    )  # fmt: skip
    app.state.service = Service(desk, replicas, front, meters)
    app.state.health = Health()
    for module in _ROUTERS:
        app.include_router(module.router)
    app.include_router(links.asking)
    app.include_router(layers.tiles)
    explained(app, "/docs", "openapi.json", "swathe API")
    mount_catalogue(app, app.state.service)
    mount_dialects(app, app.state.service)
    install(app)
    app.add_exception_handler(ClientDisconnect, _gone)
    return app


def _named(request: Request) -> None:
    """The route's name for metrics: its template, without ids."""
    request.state.route = request.scope["route"].path


def _middleware(front: Front, meters: Meters) -> list[Any]:
    sized = Middleware(RequestBodyLimitMiddleware, max_body_size=BODY_BYTES)
    return [Middleware(Doorway, front), sized, Middleware(Metered, meters)]


async def _gone(_: Request, __: Exception) -> Response:
    """Nobody hears this."""
    return Response(status_code=_GONE)
