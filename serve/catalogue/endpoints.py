"""The endpoints of the STAC API over a catalogue: stac-fastapi makes the routes, these give the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import attr
from pydantic import BaseModel
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.types.core import BaseCoreClient
from starlette.requests import Request
from starlette.responses import JSONResponse

from pipelines.catalogue.fields import pick
from pipelines.catalogue.store import Catalogue
from serve.catalogue.asking import Asked, from_get, from_post
from serve.catalogue.links import GEOJSON, JSON, SCHEMA, address, collection_links, item_links, link, page_links

Publish = Callable[[str], str]
"""From an href as it is kept to the one that clients get."""
_QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"


@attr.s(kw_only=True)
class Endpoints(BaseCoreClient):
    """Search, collections and items. Everything runs in threads: SQLite waits for disks, not for events."""

    catalogue: Catalogue = attr.ib()
    publish: Publish = attr.ib()

    def landing_page(self, **given: Any) -> Any:
        """GET /."""
        root = address(given["request"])
        children = [
            link("child", f"{root}/collections/{quote(id_, safe='')}", title=title)
            for id_, title in self.catalogue.titles().items()
        ]
        links = [
            link("self", f"{root}/"),
            link("root", f"{root}/"),
            link("data", f"{root}/collections", title="Collections"),
            link("conformance", f"{root}/conformance"),
            link("search", f"{root}/search", GEOJSON, method="GET", title="Search"),
            link("search", f"{root}/search", GEOJSON, method="POST", title="Search"),
            link(_QUERYABLES, f"{root}/queryables", SCHEMA, title="What a filter can ask for"),
            link("service-desc", f"{root}/api", "application/vnd.oai.openapi+json;version=3.0"),
            link("service-doc", f"{root}/api.html", "text/html"),
        ]
        return _sent(
            {
                "type": "Catalog",
                "stac_version": self.stac_version,
                "id": self.landing_page_id,
                "title": self.title,
                "description": self.description,
                "conformsTo": self.conformance_classes(),
                "links": [*links, *children],
            }
        )

    def all_collections(self, **given: Any) -> Any:
        """GET /collections."""
        root = address(given["request"])
        found = [self._collection(root, c) for c in self.catalogue.collections()]
        links = [link("self", f"{root}/collections"), link("root", f"{root}/"), link("parent", f"{root}/")]
        counts = {"numberMatched": len(found), "numberReturned": len(found)}
        return _sent({"collections": found, "links": links, **counts})

    def conformance(self, **_: Any) -> Any:
        """GET /conformance."""
        return _sent({"conformsTo": self.conformance_classes()})

    def get_collection(self, collection_id: str, **given: Any) -> Any:
        """GET /collections/ID."""
        return _sent(self._collection(address(given["request"]), self.catalogue.collection(collection_id)))

    def get_item(self, item_id: str, collection_id: str, **given: Any) -> Any:
        """GET /collections/ID/items/ID."""
        return _sent(self._item(address(given["request"]), self.catalogue.item(collection_id, item_id)), GEOJSON)

    def item_collection(self, collection_id: str, **given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  all come by name
        """GET /collections/ID/items."""
        self.catalogue.check_collection(collection_id)
        request = given.pop("request")
        return self._page(request, from_get({**given, "collections": [collection_id]}), None)

    def get_search(self, **given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  the same
        """GET /search."""
        return self._page(given.pop("request"), from_get(given), None)

    def post_search(self, search_request: BaseModel, **given: Any) -> Any:
        """POST /search."""
        body = search_request.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
        return self._page(given["request"], from_post(search_request), body)

    def _page(self, request: Request, asked: Asked, body: Mapping[str, Any] | None) -> Any:
        root = address(request)
        page = self.catalogue.search(asked.search)
        found = [pick(self._item(root, item), asked.include, asked.exclude) for item in page.items]
        answer = {
            "type": "FeatureCollection",
            "features": found,
            "links": page_links(request, root, page.token, body),
            "numberMatched": page.matched,
            "numberReturned": len(found),
        }
        return _sent(answer, GEOJSON)

    def _item(self, root: str, item: dict[str, Any]) -> dict[str, Any]:
        links = [*item_links(root, item["collection"], item["id"]), *self._own(root, item)]
        return {**item, "links": links, "assets": self._assets(item)}

    def _collection(self, root: str, collection: dict[str, Any]) -> dict[str, Any]:
        links = [*collection_links(root, collection["id"]), *self._own(root, collection)]
        found = {**collection, "links": links}
        return {**found, "assets": self._assets(collection)} if "assets" in collection else found

    def _own(self, root: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Links that a document brought along; those to other documents of this catalogue become absolute."""
        return [{**link, "href": self._href(root, link["href"])} for link in document.get("links", [])]

    def _href(self, root: str, href: str) -> str:
        if href.startswith("collections/"):
            return f"{root}/{href}"
        return self.publish(href) if href.startswith("/") else href

    def _assets(self, holder: dict[str, Any]) -> dict[str, Any]:
        return {k: {**a, "href": self.publish(a["href"])} for k, a in holder.get("assets", {}).items()}


@attr.s(kw_only=True)
class Queryables(BaseFiltersClient):
    """What a filter can ask for, taken from the items that there are."""

    catalogue: Catalogue = attr.ib()

    def get_queryables(self, collection_id: str | None = None, **given: Any) -> Any:
        """GET /queryables, GET /collections/ID/queryables."""
        request: Request = given["request"]
        if collection_id is not None:
            self.catalogue.check_collection(collection_id)
        part = f"/collections/{quote(collection_id, safe='')}" if collection_id else ""
        core = {name: {"type": "string"} for name in ("id", "collection")}
        core["geometry"] = {"$ref": "https://geojson.org/schema/Geometry.json"}
        core["datetime"] = {"type": "string", "format": "date-time"}
        named = {
            name: ({"type": kind} if kind else {})
            for name, kind in self.catalogue.names(collection_id).items()
            if name not in core
        }
        answer = {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "$id": f"{address(request)}{part}/queryables",
            "type": "object",
            "title": "Queryables",
            "properties": {**core, **named},
            "additionalProperties": True,
        }
        return _sent(answer, SCHEMA)


def local_as_file(href: str) -> str:
    """A path on this machine as an address, since clients take it for one on this server otherwise.

    Not percent-encoded, which rasterio would not undo.
    """
    return f"file://{href}" if href.startswith("/") else href


def _sent(content: Any, media_type: str = JSON) -> JSONResponse:
    """Made here, because FastAPI would first look at every value of every item."""
    return JSONResponse(content, media_type=media_type)
