"""Event streams (SSE) and STAC documents of jobs, as they go over the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import JobAnswer
from serve.api.responses import unchanged
from serve.store.pulse import Pulse
from serve.tiles.addresses import WEB_MAP_LINKS
from swathe.state import Event


async def messages(first: JobAnswer, source: AsyncIterator[Event | Pulse | None]) -> AsyncIterator[bytes]:
    """The job as it stands, then what comes. Only events have ids: to them a listener can come back."""
    job = first.model_dump(mode="json")
    yield _message("job", {"seq": first.last_seq, "at": first.updated, "kind": "job", "facts": {}, "job": job})
    async for news in source:
        if news is None:
            yield KEEPALIVE_COMMENT
        elif isinstance(news, Event):
            facts = {"seq": news.seq, "at": news.at, "kind": news.kind, "facts": dict(news.facts)}
            yield _message(news.kind, facts, str(news.seq))
        else:
            yield _message("progress", {"seq": news.seq, "kind": "progress", "facts": _far(news)})


def _far(pulse: Pulse) -> dict[str, Any]:
    made = pulse.progress
    return {"state": pulse.state, "share": made.share, "pixels": made.pixels, "of_pixels": made.of_pixels,
            "chunks": made.chunks, "of_chunks": made.of_chunks, "failed_chunks": made.failed_chunks}  # fmt: skip


def _message(kind: str, data: dict[str, Any], seq: str | None = None) -> bytes:
    return format_sse_event(data_str=json.dumps(data, separators=(",", ":")), event=kind, id=seq)


def at_home(item: dict[str, Any], root: str, job: str, maps: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """An item as the client can follow it: files at this API, collection and itself in the catalogue.

    ``maps``: links to its layers.
    """
    files = f"{root}/api/jobs/{job}/files"
    parent = f"{root}/stac/collections/{quote(str(item.get('collection', '')), safe='')}"
    links = [
        {"rel": "self", "href": f"{parent}/items/{quote(str(item['id']), safe='')}", "type": "application/geo+json"},
        {"rel": "root", "href": f"{root}/stac/", "type": "application/json"},
        {"rel": "parent", "href": parent, "type": "application/json"},
        {"rel": "collection", "href": parent, "type": "application/json"},
    ]
    known = {found["rel"] for found in links}
    kept = [found for found in item.get("links", []) if found.get("rel") not in known and "://" in found["href"]]
    assets = {
        name: {**asset, "href": _absolute(asset["href"], files)} for name, asset in item.get("assets", {}).items()
    }
    found = {**item, "links": [*links, *kept, *maps], "assets": assets}
    return found | ({"stac_extensions": [*item.get("stac_extensions", []), WEB_MAP_LINKS]} if maps else {})


def _absolute(href: str, files: str) -> str:
    return href if "://" in href else f"{files}/{quote(href.removeprefix('./'))}"


def document(request: Request, found: dict[str, Any], media_type: str) -> Response:
    """JSON that is no model of ours, with an ETag."""
    body = json.dumps(found).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if unchanged(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type)
