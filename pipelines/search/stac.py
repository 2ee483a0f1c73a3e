"""Search of a STAC API with pystac-client, through the one door to the network."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import shapely
from pystac.link import Link
from pystac_client import Client
from pystac_client.conformance import ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning

from pipelines.search.query import Documents, Query
from swathe.aoi import AOI
from swathe.errors import ImageryError, InputError, ReadError, SwatheError
from swathe.imagery import shown
from swathe.source import SourceCard

Json = dict[str, Any]
PAGE = 100
"""Items asked for at once; every public API grants as many."""
_CORNERS = 400
"""An area of more corners is sent as a simpler one around it; what it lets in is sorted out here."""
_SPAN = 1e-3
"""Degrees by which the simpler one may differ."""


class _Door(StacApiIO):
    """pystac-client's reading, done by our own door: addresses checked, retried, counted, credentials added."""

    def __init__(self, documents: Documents, card: SourceCard) -> None:
        super().__init__(max_retries=None)
        self.documents, self.card = documents, card

    def read_json(self, source: Any, *_args: Any, **kwargs: Any) -> Json:
        """A document, or the answer of a search."""
        if isinstance(source, Link):
            return self._follow(source.to_dict(), kwargs.get("parameters") or {})
        return self._ask(str(source), kwargs.get("method"), kwargs.get("parameters"))

    def request(
        self, href: str, method: str | None = None, headers: Mapping[str, str] | None = None, parameters: Any = None
    ) -> str:
        """The same as text, for the paths of pystac-client that want it."""
        _ = headers
        return json.dumps(self._ask(href, method, parameters))

    def _follow(self, link: Json, parameters: Json) -> Json:
        """A ``next`` link: of a POST it carries the body, which may have to be merged with the one before."""
        if str(link.get("method", "GET")).upper() != "POST":
            return self._ask(link["href"], "GET", None)
        body = {**parameters, **(link.get("body") or {})} if link.get("merge") else link.get("body") or {}
        return self._ask(link["href"], "POST", body)

    def _ask(self, href: str, method: str | None, parameters: Any) -> Json:
        if (method or "GET").upper() == "POST":
            answer = self.documents.json(href, self.card.search_auth, method="POST", body=parameters)
        else:
            flat = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (parameters or {}).items()}
            full = f"{href}{'&' if '?' in href else '?'}{urlencode(flat)}" if flat else href
            answer = self.documents.json(full, self.card.search_auth)
        if not isinstance(answer, dict):
            raise _malformed(href, "no JSON object came back")
        if not isinstance(answer.get("features", []), list):
            raise _malformed(href, "its features are no list")
        return answer


def items_of(card: SourceCard, query: Query, documents: Documents) -> Iterator[Json]:
    """Items of a search, page after page, each id once.

    Raises InputError (``search.collection``, ``search.too_many``), ReadError (network, ``search.malformed``).
    """
    client = _client(card, documents)
    seen: set[str] = set()
    for shape in shapes(query.aoi):
        for interval in query.intervals:
            for item in _search(client, card, query, {"intersects": shape, "datetime": interval.stac()}):
                name = str(item.get("id")) if isinstance(item, Mapping) else repr(item)
                if name not in seen:
                    seen.add(name)
                    yield item
                if len(seen) > query.limit:
                    raise _too_many(query)
    if not seen:
        _check_collection(client, card, documents)


def _client(card: SourceCard, documents: Documents) -> Client:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)
        try:
            client = Client.open(card.url, stac_io=_Door(documents, card))
        except SwatheError:
            raise
        except Exception as error:  # noqa: BLE001  pystac raises what it likes at a document that is no catalogue
            raise _not_stac(card.url, " ".join(str(error).split())[:200]) from None
    if client.get_single_link("search") is None:
        raise _not_stac(card.url, "it has no link to a search")
    if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
        client.add_conforms_to(ConformanceClasses.ITEM_SEARCH.name)
    return client


def _search(client: Client, card: SourceCard, query: Query, where: Json) -> Iterator[Json]:
    method = method_of(link.extra_fields.get("method") for link in client.get_links("search"))
    clouds = _cloud(client, card, query) if method == "POST" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)  # of a method that the API supports and does not tell
        search = client.search(method=method, collections=[card.collection], limit=PAGE, **where, **clouds)
    asked: set[str] = set()
    try:
        for page in search.pages_as_dicts():
            items = page["features"]
            mark = json.dumps([i.get("id") if isinstance(i, dict) else str(i) for i in items])
            if mark in asked:
                raise _malformed(card.url, "it gives the same page again and again")
            asked.add(mark)
            yield from items
    except (APIError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise _malformed(card.url, " ".join(str(error).split())[:200]) from error


def method_of(said: Iterable[Any]) -> str:
    """POST, which has room for any area, unless an API says in all of its links to a search that it takes GET alone."""
    return "POST" if {"POST", None} & set(said) else "GET"


def _cloud(client: Client, card: SourceCard, query: Query) -> Json:
    """The limit on clouds in the words that this API says it knows; it is checked here again in any case.

    None where the limit is meant of the area: the API knows whole scenes.
    """
    if query.max_cloud is None or query.measured or not card.cloud_property:
        return {}
    if client.conforms_to(ConformanceClasses.QUERY):
        return {"query": {card.cloud_property: {"lte": query.max_cloud}}}
    if client.conforms_to(ConformanceClasses.FILTER) and _speaks_cql2(client):
        left = {"property": card.cloud_property}
        return {"filter": {"op": "<=", "args": [left, query.max_cloud]}, "filter_lang": "cql2-json"}
    return {}


def _speaks_cql2(client: Client) -> bool:
    return any("cql2-json" in str(uri) for uri in client.get_conforms_to())


def shapes(aoi: AOI) -> list[Json]:
    """What is sent as ``intersects``: each side of the antimeridian by itself, with corners in bounds."""
    parts = [aoi.geometry]
    if aoi.crosses:
        halves = shapely.get_parts(aoi.geometry)
        parts = [shapely.union_all([p for p in halves if (p.bounds[0] >= 0) is east]) for east in (True, False)]
    return [json.loads(shapely.to_geojson(_simpler(part))) for part in parts]


def _simpler(shape: Any) -> Any:
    """Around a shape of many corners: grown by what simplifying may cut off."""
    if shapely.count_coordinates(shape) <= _CORNERS:
        return shape
    found = shapely.buffer(shape, _SPAN, quad_segs=1).simplify(_SPAN)
    if shapely.count_coordinates(found) > _CORNERS:
        found = shapely.convex_hull(shape)
    if shapely.count_coordinates(found) > _CORNERS:
        found = shapely.box(*shape.bounds)
    return shapely.intersection(found, shapely.box(-180, -90, 180, 90))


# --- a collection that is not there ----------------------------------------------------------------------------------


def _check_collection(client: Client, card: SourceCard, documents: Documents) -> None:
    """Say so where nothing was found because there is no such collection."""
    try:
        documents.json(f"{card.url.rstrip('/')}/collections/{card.collection}", card.search_auth)
    except ReadError as error:
        if error.refined != "read.gone":
            raise
    else:
        return
    ids = collections_of(client)
    near = difflib.get_close_matches(card.collection, ids, n=5, cutoff=0.4)
    near = near or [name for name in ids if card.collection[:4].lower() in name.lower()][:5] or ids[:10]
    raise InputError(
        f"{shown(card.url)} has no collection {card.collection!r}",
        code="search.collection",
        hint=f"did you mean {', '.join(near)}?" if near else "it has no collections at all",
        field="--collection",
    )


def collections_of(client: Client) -> list[str]:
    """Ids of all collections of an API."""
    link = client.get_single_link("data")
    if link is None:
        return []
    return sorted(
        str(one.get("id"))
        for page in client._stac_io.get_pages(str(link.absolute_href))  # noqa: SLF001  # pyright: ignore[reportOptionalMemberAccess]
        for one in page.get("collections") or []
        if isinstance(one, dict)
    )


def _not_stac(url: str, why: str) -> ImageryError:
    return ImageryError(
        f"{shown(url)} is no STAC API: {why}",
        code="search.not_stac",
        hint="give the address of the API's landing page",
        field="--source",
    )


def _too_many(query: Query) -> InputError:
    return InputError(
        f"more than {query.limit} scenes match",
        code="search.too_many",
        hint="narrow the dates or the area" if query.measured else "narrow the dates, the area or --max-cloud",
        field="--dates",
    )


def _malformed(url: str, why: str) -> ReadError:
    return ReadError(
        f"the answer of {shown(url)} cannot be used: {why}",
        code="search.malformed",
        hint="try again later; if it stays so, the service is not what its source card takes it for",
        field="--source",
    )
