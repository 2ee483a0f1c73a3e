"""The OpenAPI document: what FastAPI derives from the code, with problems as they are really sent."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serve.api import examples
from serve.problems import PROBLEM

TAGS = [
    {"name": "jobs", "description": "Runs over any area: estimated, submitted, watched, fetched."},
    {"name": "predictions", "description": "One small image, answered at once."},
    {"name": "layers", "description": "Results on maps: tiles, TileJSON, WMS, WMTS."},
    {"name": "models", "description": "What can be run, and how it stands with it."},
    {"name": "uploads", "description": "Files of one's own."},
    {"name": "processors", "description": "Scripts of one's own over results."},
    {"name": "imagery", "description": "Imagery of one's own in the catalogue."},
    {"name": "links", "description": "Addresses that open one thing without a key."},
    {"name": "projects", "description": "Folders for jobs and uploads, which can be shared."},
    {"name": "keys", "description": "What opens the service for programs."},
    {"name": "users", "description": "Who uses it."},
    {"name": "audit", "description": "Who changed what."},
    {"name": "service", "description": "The service itself."},
]
ABOUT = (
    "Satellite imagery in, finished map products out. Every operation below `/api` needs a key: `Authorization: Bearer"
    " swk-…`, `X-API-Key: swk-…` or `?api_key=swk-…`. Errors are `application/problem+json` (RFC 9457) with a stable"
    " `code`, a `hint` and the `field` at fault. The catalogue of results is a STAC API at `/stac/`."
)
EXAMPLE = "x-example"
"""In the schema of an answer: the name of its example. FastAPI would leave out what is null in it."""
_OPEN = ("service",)
"""Tags of what needs no key."""
_PROBLEM: dict[str, Any] = {
    "type": "object", "title": "Problem", "description": "RFC 9457, with three fields more.",
    "required": ["type", "code", "title", "detail", "status"],
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable word for programs."},
        "detail": {"type": "string", "description": "What happened this time."},
        "hint": {"type": "string", "description": "What to do about it."},
        "field": {"type": "string", "description": "The argument or JSON field at fault."},
        "errors": {"type": "array", "items": {"type": "object", "properties": {"field": {"type": "string"},
                                                                              "detail": {"type": "string"}}}},
    },
    "examples": [examples.PROBLEM],
}  # fmt: skip


def described(app: FastAPI) -> dict[str, Any]:
    """The document; made once, like FastAPI's own."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes,
                           tags=TAGS, openapi_version="3.1.0")  # fmt: skip
        made["components"]["schemas"]["Problem"] = _PROBLEM
        for name in ("HTTPValidationError", "ValidationError"):
            made["components"]["schemas"].pop(name, None)
        for schema in made["components"]["schemas"].values():
            if name := schema.pop(EXAMPLE, None):
                schema["examples"] = [examples.ANSWERS[name]]
        for operations in made["paths"].values():
            for operation in operations.values():
                _settle(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _settle(operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    refused = {"description": "The request is refused; the problem says why.", "content": _content()}
    if operation["tags"][0] not in _OPEN:
        refused["headers"] = {
            name: {"schema": {"type": "integer"}} for name in ("RateLimit-Limit", "RateLimit-Remaining",
                                                               "RateLimit-Reset", "Retry-After")
        }  # fmt: skip
    answers["4XX"] = refused
    answers["5XX"] = {"description": "The service is at fault, or something that it needs.", "content": _content()}


def _content() -> dict[str, Any]:
    return {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
