"""One function that makes the catalogue a STAC API, to be served alone or mounted under any path."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from pipelines.catalogue.store import Catalogue
from serve.cors import CorsFastAPI
from serve.pages import explained
from serve.problems import Manners, install

if TYPE_CHECKING:
    from serve.catalogue.endpoints import Publish, Queryables


_MANNERS = Manners(400, "catalogue.request", "the service's api.html says what can be asked", description=True)


@dataclass(frozen=True, slots=True)
class Front:
    """What the service says of itself, and its bounds."""

    id: str = "swathe"
    """Of the catalogue that the landing page is."""
    title: str = "swathe"
    """One line."""
    description: str = "Results of swathe, and imagery that was registered here."
    """A few sentences."""
    body_bytes: int = 8 * 2**20
    """Of a request's body, at most."""
    origins: tuple[str, ...] = ("*",)
    """Pages of other hosts that may read it; none: whoever mounts it decides."""


def catalogue_app(catalogue: Catalogue, publish: Publish | None = None, front: Front | None = None) -> FastAPI:
    """The STAC API of ``catalogue``: read only; search with bbox, intersects, datetime, CQL2, query, sortby, fields.

    ``publish`` turns hrefs as they are kept (often paths on this machine) into those that clients get: of all assets,
    and of links to local files. None: paths become ``file://``, for clients on the same machine.
    """
    front = front or Front()
    # It says in its log that defaults are used, when it is imported, before anybody can have given others.
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)
    from stac_fastapi.api.app import StacApi
    from stac_fastapi.api.models import (
        ItemCollectionUri,
        create_get_request_model,
        create_post_request_model,
        create_request_model,
    )
    from stac_fastapi.types.config import ApiSettings

    from serve.catalogue.asking import PostSearch
    from serve.catalogue.endpoints import Endpoints, Queryables, local_as_file

    settings = ApiSettings(
        _env_file=None,  # pyright: ignore[reportCallIssue]  pydantic-settings takes it, its plugin does not know
        stac_fastapi_title=front.title,
        stac_fastapi_description=front.description,
        stac_fastapi_landing_id=front.id,
        stac_fastapi_version=version("swathe"),
    )
    extensions = _extensions(Queryables(catalogue=catalogue))
    app = CorsFastAPI(
        {"allow_origins": front.origins, "allow_methods": ["GET", "POST"], "allow_headers": ["*"]},
        title=front.title, description=front.description, version=version("swathe"), openapi_url="/api",
        docs_url=None, redoc_url=None, max_body_size=front.body_bytes,
    )  # fmt: skip
    explained(app, "/api.html", "api", front.title)
    api = StacApi(
        app=app,
        settings=settings,
        client=Endpoints(catalogue=catalogue, publish=publish or local_as_file, landing_page_id=front.id),
        extensions=extensions,
        stac_version="1.1.0",
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions, PostSearch),
        items_get_request_model=create_request_model("Items", ItemCollectionUri, extensions, request_type="GET"),  # pyright: ignore[reportArgumentType]
        middlewares=[],
    )
    install(api.app, _MANNERS)
    return api.app


def _extensions(queryables: Queryables) -> list[Any]:
    from stac_fastapi.extensions.fields import FieldsConformanceClasses, FieldsExtension
    from stac_fastapi.extensions.filter import FilterConformanceClasses, FilterExtension
    from stac_fastapi.extensions.pagination import TokenPaginationExtension
    from stac_fastapi.extensions.query import QueryConformanceClasses, QueryExtension
    from stac_fastapi.extensions.sort import SortConformanceClasses, SortExtension

    from serve.catalogue.asking import PostFilter

    class Filters(FilterExtension):
        POST = PostFilter

    cql2 = FilterConformanceClasses
    known: list[str] = [cql2.FILTER, cql2.SEARCH, cql2.ITEMS, cql2.BASIC_CQL2, cql2.CQL2_JSON, cql2.CQL2_TEXT]
    known += [cql2.ADVANCED_COMPARISON_OPERATORS, cql2.BASIC_SPATIAL_FUNCTIONS]
    sort: list[str] = [SortConformanceClasses.ITEM_SEARCH_SORT, SortConformanceClasses.FEATURES_SORT]
    # The same as version 1.0 called them: pystac-client looks for these.
    sort += [name.replace("/v1.1.0/", "/v1.0.0/") for name in sort]
    return [
        Filters(client=queryables, conformance_classes=known),
        SortExtension(conformance_classes=sort),
        FieldsExtension(conformance_classes=[FieldsConformanceClasses.SEARCH, FieldsConformanceClasses.ITEMS]),
        QueryExtension(conformance_classes=[QueryConformanceClasses.SEARCH, QueryConformanceClasses.ITEMS]),
        TokenPaginationExtension(),
    ]
