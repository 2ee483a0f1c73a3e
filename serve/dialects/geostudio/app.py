"""This API as an application, mounted at ``/v2`` and ``/studio-gateway``; both forms of slashes are the same."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI

from serve.desk.links import Kind
from serve.dialects.geostudio import problems
from serve.dialects.geostudio.outputs import LOG, OUTPUT, Outputs
from serve.dialects.geostudio.routes import (
    data,
    events,
    inference,
    keys,
    maps,
    models,
    processors,
    tasks,
    training,
    tunes,
)
from serve.dialects.geostudio.sockets import sockets
from serve.pages import explained

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from serve.api.service import Service

_ROUTERS = (keys, models, inference, tasks, events, processors, data, tunes, training)
_ABOUT = (
    "The Geospatial Studio's v2 API, answered by swathe. Every operation needs a key (`X-API-Key: pak-…`, or"
    ' `Authorization: Bearer …`). Errors are `{"detail": …}`. docs/geostudio.md says what is different here.'
)
GATEWAY = "/studio-gateway"
_MANY = re.compile("/{2,}")


def mount(app: FastAPI, service: Service) -> None:
    """Add it to the application."""
    outputs = Outputs(service.desk)
    service.desk.links.offer(OUTPUT, Kind(outputs.archive_name, outputs.archive))
    service.desk.links.offer(LOG, Kind(outputs.log_name, outputs.log))
    made, listening = studio(service), sockets(service)
    for root in ("", GATEWAY):
        app.mount(f"{root}/v2", Slashes(made))
        app.mount(f"{root}/ws", listening)
    app.mount(maps.MOUNT, Slashes(mapped(service)))


def studio(service: Service) -> FastAPI:
    """All of ``/v2``."""
    made = FastAPI(
        title="Geospatial Studio v2, by swathe", version=version("swathe"), description=_ABOUT, docs_url=None,
        redoc_url=None, redirect_slashes=False, strict_content_type=False,
    )  # fmt: skip
    made.state.service = service
    for module in _ROUTERS:
        made.include_router(module.router)
    explained(made, "/docs", "openapi.json", "Geospatial Studio v2, by swathe")
    problems.install(made)
    return made


def mapped(service: Service) -> FastAPI:
    """What stands where their map server would."""
    made = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    made.state.service = service
    made.include_router(maps.for_all)
    made.include_router(maps.router)
    problems.install(made)
    return made


class Slashes:
    """ASGI: a slash at the end of an address, or one too many in it (their guide: ``/v2//inference``), says nothing."""

    def __init__(self, app: ASGIApp) -> None:
        """Around an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the application raises."""
        path, root = scope.get("path", ""), scope.get("root_path", "")
        plain = _MANY.sub("/", path)
        plain = plain if plain == root + "/" else plain.rstrip("/")
        if plain != path:
            scope = {**scope, "path": plain, "raw_path": plain.encode("utf-8", "surrogatepass")}
        await self._app(scope, receive, send)
