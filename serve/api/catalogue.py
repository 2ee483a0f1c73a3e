"""The catalogue as the caller sees it, as a STAC API below ``/stac``: own results, and what is everybody's."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.callers import presented, recognised
from serve.api.responses import address
from serve.catalogue.app import Front, catalogue_app
from serve.store.catalogue import seen

if TYPE_CHECKING:
    from pipelines.catalogue.store import Catalogue
    from serve.api.service import Service
    from swathe.user import Caller

MOUNT = "/stac"
_OPEN = re.compile(rf"{MOUNT}/(api|api\.html|api\.html-files/[\w.-]+)")
"""What it can be asked: the same for everybody."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One request's."""

    catalogue: Catalogue
    root: str
    """Address of the service."""


_look: ContextVar[_Look] = ContextVar("look")


class _Yours:
    """Stands for the catalogue of whoever asks: the STAC API is made once, callers come and go."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_look.get().catalogue, name)


class _Guarded:
    """ASGI: nobody comes in without a key; who does brings their own view."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises AccessError, ForbiddenError, BusyError, which the application around it answers."""
        request = Request(scope)
        request.state.route = MOUNT
        if not _OPEN.fullmatch(scope["path"]) and scope["method"] != "OPTIONS":
            caller = await recognised(request, self._service, presented(request))
            mine = await to_thread.run_sync(_view, self._service, caller)
            root = address(request).removesuffix(MOUNT)
            _look.set(_Look(mine, root))
        await self.app(scope, receive, send)


def _view(service: Service, caller: Caller) -> Catalogue:
    desk = service.desk
    return seen(desk.store, desk.settings.service_dir, desk.catalogue.owner_of(caller))


def mount_catalogue(app: FastAPI, service: Service) -> None:
    """Add it to the application."""
    place = service.desk.settings.place
    told = Front(title="swathe", description="Results of this service, and imagery that was registered here.",
                 origins=())  # fmt: skip
    stac = catalogue_app(_Yours(), lambda href: published(href, place, _look.get().root), told)  # pyright: ignore[reportArgumentType]

    @app.get(MOUNT, include_in_schema=False)
    async def landing(request: Request) -> RedirectResponse:
        """Relative links need the slash."""
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{address(request)}{MOUNT}/{query}", 307)

    app.mount(MOUNT, _Guarded(stac, service))


def published(href: str, place: str, root: str) -> str:
    """Files of jobs at this API; other files of this machine by name alone: a client has no use for our paths."""
    plain = href.removeprefix("file://")
    job, _, name = plain.removeprefix(f"{place}/jobs/").partition("/")
    if plain.startswith(f"{place}/jobs/") and name:
        return f"{root}/api/jobs/{job}/files/{quote(name)}"
    if plain.startswith(f"{place}/uploads/"):
        upload, _, path = plain.removeprefix(f"{place}/uploads/").partition("/")
        name = path.rpartition("/")[2]
        return f"{root}/api/uploads/{upload}/files/{quote(name)}"
    return f"urn:swathe:file:{quote(plain.rpartition('/')[2])}" if plain.startswith("/") else href
