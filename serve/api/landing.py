"""The front page: links for programs, the same for people, and the page that explains every operation."""

from __future__ import annotations

from html import escape
from importlib.metadata import version

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from serve.api.answers import LandingAnswer, Link
from serve.api.openapi import described
from serve.api.responses import address, sent

router = APIRouter(tags=["service"])
_PLACES = (
    ("self", "/", "application/json"), ("service-desc", "/openapi.json", "application/json"),
    ("service-doc", "/docs", "text/html"), ("jobs", "/api/jobs", "application/json"),
    ("layers", "/api/layers", "application/json"),
    ("models", "/api/models", "application/json"), ("uploads", "/api/uploads", "application/json"),
    ("projects", "/api/projects", "application/json"), ("me", "/api/me", "application/json"),
    ("catalogue", "/stac/", "application/json"), ("health", "/health/readyz", "application/json"),
    ("metrics", "/metrics", "text/plain"),
)  # fmt: skip
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>swathe</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em}}li{{margin:.2em 0}}</style>
<h1>swathe</h1><p>Satellite imagery in, finished map products out. Version {version}.</p>
<ul>{links}</ul></html>
"""


@router.get("/", operation_id="get_landing", response_model=LandingAnswer,
            responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}})  # fmt: skip
async def landing(request: Request) -> Response:
    """Where everything is; as a page for browsers."""
    root = address(request)
    links = [Link(rel=rel, href=root + path, type=kind) for rel, path, kind in _PLACES]
    if "text/html" in request.headers.get("accept", ""):
        items = "".join(f'<li><a href="{escape(link.href)}">{escape(link.rel)}</a></li>' for link in links)
        return HTMLResponse(_PAGE.format(version=escape(version("swathe")), links=items))
    return sent(request, LandingAnswer(title="swathe", version=version("swathe"), links=links))


@router.get("/openapi.json", include_in_schema=False)
async def schema(request: Request) -> Response:
    """This API, as OpenAPI 3.1."""
    return JSONResponse({**described(request.app), "servers": [{"url": address(request)}]})
