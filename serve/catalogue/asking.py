"""What clients send, as a ``Search`` of the catalogue; everything about its values is checked there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator
from stac_fastapi.extensions.filter.request import FilterExtensionPostRequest
from stac_fastapi.types.search import BaseSearchPostRequest

from pipelines.catalogue.search import Search
from swathe.errors import InputError

_CRS84 = ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "https://www.opengis.net/def/crs/OGC/1.3/CRS84")


class PostSearch(BaseSearchPostRequest):
    """The body of a search; that bbox and intersects exclude each other is checked with everything else."""

    @model_validator(mode="before")
    @classmethod
    def validate_spatial(cls, values: Any) -> Any:
        """In place of the library's, which breaks on a body that is no object."""
        return values


class PostFilter(FilterExtensionPostRequest):
    """A filter in a body, JSON or text: pystac-client sends what its user gave."""

    filter_expr: dict[str, Any] | str | None = Field(None, alias="filter")  # pyright: ignore[reportIncompatibleVariableOverride]
    filter_lang: Literal["cql2-json", "cql2-text"] | None = Field(None, alias="filter-lang")  # pyright: ignore[reportIncompatibleVariableOverride]


@dataclass(frozen=True, slots=True)
class Asked:
    """A search, and which parts of the items are wanted."""

    search: Search
    """What to find."""
    include: tuple[str, ...] = ()
    """None: everything."""
    exclude: tuple[str, ...] = ()
    """Wins over ``include``."""


def from_get(given: Mapping[str, Any]) -> Asked:
    """From the query of an address. Raises InputError."""
    _check_crs(given.get("filter_crs"))
    fields = [_signed(f) for f in given.get("fields") or []]
    return Asked(
        _search(
            given,
            intersects=_json(given.get("intersects"), "intersects"),
            filter=_filter(given),
            query=_json(given.get("query"), "query") or {},
            sortby=tuple(_signed(f) for f in given.get("sortby") or []),
        ),
        tuple(name for name, minus in fields if not minus),
        tuple(name for name, minus in fields if minus),
    )


def from_post(model: BaseModel) -> Asked:
    """From a body. Raises InputError."""
    given = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    _check_crs(given.get("filter-crs"))
    fields = given.get("fields") or {}
    sort = [(str(k["field"]), k["direction"] == "desc") for k in given.get("sortby") or []]
    search = _search(
        given,
        intersects=given.get("intersects"),
        filter=given.get("filter"),
        query=given.get("query") or {},
        sortby=tuple(sort),
    )
    return Asked(search, tuple(fields.get("include") or ()), tuple(fields.get("exclude") or ()))


def _search(given: Mapping[str, Any], **settled: Any) -> Search:
    return Search(
        collections=_ids(given.get("collections")),
        ids=_ids(given.get("ids")),
        bbox=given.get("bbox"),
        datetime=given.get("datetime"),
        limit=given.get("limit") or 10,
        token=given.get("token"),
        **settled,
    )


def _ids(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """An empty list asks for nothing in particular, as with other servers."""
    return tuple(given) or None if given is not None else None


def _signed(name: str) -> tuple[str, bool]:
    """(name, whether it has a minus). A plus that was not escaped arrives as a space."""
    return name.lstrip("+- "), name.startswith("-")


def _filter(given: Mapping[str, Any]) -> Any:
    text = given.get("filter_expr")
    return _json(text, "filter") if text and given.get("filter_lang") == "cql2-json" else text


def _json(text: str | None, field: str) -> Any:
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{field} is no JSON: {error}", code=f"catalogue.{field}", field=field) from None
    if not isinstance(found, dict):
        raise InputError(f"{field} is no JSON object", code=f"catalogue.{field}", field=field)
    return found.get("geometry") if field == "intersects" and found.get("type") == "Feature" else found


def _check_crs(name: str | None) -> None:
    if name and name not in _CRS84:
        raise InputError(
            "filters are in longitude and latitude",
            code="catalogue.filter",
            field="filter-crs",
            hint=f"use {_CRS84[0]}",
        )
