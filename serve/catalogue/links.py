"""Links of what the catalogue serves: absolute, as the client sees the service through whatever stands before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request

JSON, GEOJSON, SCHEMA = "application/json", "application/geo+json", "application/schema+json"
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%-]+)*")
_PART = re.compile(r"(\w+)=\"?([^\";,]+)\"?")


def address(request: Request) -> str:
    """Of the landing page, without a slash at its end.

    From ``Forwarded`` (RFC 7239), ``X-Forwarded-Proto/-Host/-Port/-Prefix``, ``Host`` and the path under which the
    application is mounted. Headers that are no host, port or path are passed over.
    """
    said = _forwarded(request.headers)
    scheme = said.get("proto", "")
    scheme = scheme if scheme in ("http", "https") else request.url.scheme
    host = said.get("host", "")
    host = host if _HOST.fullmatch(host) else request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = request.url.hostname or "localhost"
    port = said.get("port", "")
    if port.isdecimal() and not re.search(r":\d+$", host) and port != _PORTS.get(scheme):
        host = f"{host}:{port}"
    prefix = said.get("prefix", "").rstrip("/")
    root = request.scope.get("root_path", "").rstrip("/")
    return f"{scheme}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}{root}"


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The nearest client's words: the first of a list of proxies."""
    found = {
        word: headers[f"x-forwarded-{word}"].split(",")[0].strip()
        for word in ("proto", "host", "port", "prefix")
        if f"x-forwarded-{word}" in headers
    }
    first = headers.get("forwarded", "").split(",")[0]
    return found | {k.lower(): v.strip() for k, v in _PART.findall(first) if k.lower() in ("proto", "host")}


def link(rel: str, href: str, media_type: str = JSON, **more: Any) -> dict[str, Any]:
    """One of them."""
    return {"rel": rel, "type": media_type, "href": href, **more}


def collection_links(root: str, id_: str) -> list[dict[str, Any]]:
    """Those of a collection that follow from where it is served."""
    here = f"{root}/collections/{quote(id_, safe='')}"
    queryables = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
    return [
        link("self", here),
        link("root", f"{root}/"),
        link("parent", f"{root}/"),
        link("items", f"{here}/items", GEOJSON),
        link(queryables, f"{here}/queryables", SCHEMA),
    ]


def item_links(root: str, collection: str, id_: str) -> list[dict[str, Any]]:
    """Those of an item."""
    parent = f"{root}/collections/{quote(collection, safe='')}"
    return [
        link("self", f"{parent}/items/{quote(id_, safe='')}", GEOJSON),
        link("root", f"{root}/"),
        link("parent", parent),
        link("collection", parent),
    ]


def page_links(request: Request, root: str, token: str | None, body: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """self, root, and next where there is one: an address, or for POST the body to send."""
    here = root + request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    asked = [(k, v) for k, v in request.query_params.multi_items() if k != "api_key"]  # links are passed on
    query = [(k, v) for k, v in asked if k != "token"]
    found = [link("self", str(_with(here, asked)), GEOJSON), link("root", f"{root}/")]
    if token is None:
        return found
    if body is not None:
        return [*found, link("next", here, GEOJSON, method="POST", body={**body, "token": token}, merge=False)]
    return [*found, link("next", _with(here, [*query, ("token", token)]), GEOJSON, method="GET")]


def _with(href: str, query: list[tuple[str, str]]) -> str:
    return f"{href}?{urlencode(query)}" if query else href
