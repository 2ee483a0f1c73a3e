"""Answers on their way out: JSON with an ETag, pages with links, addresses as the client needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from serve.catalogue.links import address

if TYPE_CHECKING:
    from serve.store.pages import Page

__all__ = ["Cursor", "Limit", "address", "link", "page_links", "sent", "unchanged"]

_NOT_MODIFIED = 304
_SECRET = frozenset({"api_key", "cursor"})
"""Of a query, not for links."""
Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of one page.")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="Where the page begins: from the link next of the one before.")
]


def sent(
    request: Request, answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None,
    media_type: str = "application/json", *, sparse: bool = False,
) -> Response:  # fmt: skip
    """Send an answer as JSON. Read again unchanged, it is answered with 304 and no body.

    ``sparse``: what is null is left out.
    """
    body = answer.model_dump_json(by_alias=True, exclude_none=sparse).encode()
    if request.method not in {"GET", "HEAD"}:
        return Response(body, status, dict(headers or {}), media_type)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    told = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, X-API-Key, Accept"} | dict(
        headers or {}
    )
    if unchanged(request, tag):
        return Response(status_code=_NOT_MODIFIED, headers=told)
    return Response(body, status, told, media_type)


def unchanged(request: Request, tag: str) -> bool:
    """Whether the client has this already (``If-None-Match``); never where there is no tag to go by."""
    if not tag:
        return False
    known = [text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")]
    return tag in known or "*" in known


def link(rel: str, href: str) -> dict[str, str]:
    """One entry of a list of links."""
    return {"rel": rel, "href": href, "type": "application/json"}


def page_links(request: Request, page: Page[Any]) -> list[dict[str, str]]:
    """The link to what follows, with all that was asked; none on the last page. Keys do not travel in it."""
    if page.cursor is None:
        return []
    asked = [(k, v) for k, v in request.query_params.multi_items() if k not in _SECRET]
    here = address(request) + request.url.path
    return [link("next", f"{here}?{urlencode([*asked, ('cursor', page.cursor)])}")]
