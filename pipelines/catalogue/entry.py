"""One item as a row: what is searched by, apart from what is only kept."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import shapely

from pipelines.catalogue.moments import times_of
from pipelines.catalogue.places import Box, bbox_of, boxes_of, geometry_of
from swathe.errors import InputError

_ID = re.compile(r"[^/\x00-\x1f\x7f]{1,512}")
INFERRED = frozenset({"self", "root", "parent", "collection", "item", "items", "child", "data"})
"""Links that follow from where a document is served, and are not kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of ``stac_items``, its boxes, and the rest of its document."""

    collection: str
    """Id of its collection."""
    id: str
    """Unique in the collection."""
    instant: int | None
    """``datetime``, microseconds since 1970 UTC."""
    start: int
    """The same, of ``start_datetime`` or the instant."""
    end: int
    """The same, of ``end_datetime`` or the instant."""
    boxes: tuple[Box, ...]
    """None, one, or two where the antimeridian cuts it."""
    geometry: bytes | None
    """WKB, valid and cut at the antimeridian."""
    properties: str
    """JSON."""
    document: str
    """JSON of everything else."""

    @property
    def columns(self) -> tuple[Any, ...]:
        """In the order of ``stac_items``, without the key."""
        moment = self.start if self.instant is None else self.instant
        box = bbox_of(self.boxes) if self.boxes else (None,) * 4
        times = (self.instant, moment, self.start, self.end)
        return (self.collection, self.id, *times, *box, self.geometry, self.properties)


def entry_of(item: dict[str, Any]) -> Entry:
    """Check a STAC Item and take it apart. Raises InputError (``catalogue.item``, ``.geometry``, ``.bbox``).

    The document is kept as it is, but for links that follow from where it is served, and for a missing ``bbox``.
    """
    if not isinstance(item, dict) or item.get("type") != "Feature":
        raise refused("this is no STAC Item: its type is not 'Feature'", "type")
    id_, collection = check_id(item.get("id"), "id"), check_id(item.get("collection"), "collection")
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise refused(f"item {id_!r} has no properties", "properties")
    instant, start, end = times_of(properties)
    kept = {k: v for k, v in item.items() if k != "properties"}
    kept["links"] = kept_links(item)
    _check_assets(item, id_)
    geometry = None
    if item.get("geometry") is not None:
        geometry = geometry_of(item["geometry"], _given_bbox(item))
        kept.setdefault("bbox", list(bbox_of(boxes_of(geometry))))
    return Entry(
        collection, id_, instant, start, end, tuple(boxes_of(geometry)) if geometry is not None else (),
        None if geometry is None else shapely.to_wkb(geometry), packed(properties, id_), packed(kept, id_),
    )  # fmt: skip


def whole(properties: str, document: str) -> dict[str, Any]:
    """The Item again."""
    return {**json.loads(document), "properties": json.loads(properties)}


def packed(value: Any, what: str) -> str:
    """Compact JSON. Raises InputError."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:  # a lone surrogate is a ValueError, too
        raise refused(f"{what!r} cannot be kept as JSON: {error}") from None
    return text


def check_id(value: Any, field: str) -> str:
    """An id that can stand in an address. Raises InputError."""
    if not isinstance(value, str) or not _ID.fullmatch(value) or value in (".", ".."):
        raise refused(f"{value!r} cannot be the {field} of an item"[:200], field)
    return value


def kept_links(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Links that say something of their own."""
    links = document.get("links") or []
    if not isinstance(links, list) or not all(isinstance(k, dict) and isinstance(k.get("href"), str) for k in links):
        raise refused("links are objects with an href", "links")
    return [link for link in links if link.get("rel") not in INFERRED]


def refused(detail: str, field: str = "") -> InputError:
    """A document that cannot be registered."""
    hint = "check it: pystac's validation, https://github.com/stac-utils/stac-validator"
    return InputError(detail, code="catalogue.item", field=field, hint=hint)


def _given_bbox(item: dict[str, Any]) -> list[float] | None:
    bbox = item.get("bbox")
    if bbox is None:
        return None
    if not isinstance(bbox, list) or len(bbox) not in (4, 6) or not all(isinstance(n, int | float) for n in bbox):
        raise refused("bbox has 4 or 6 numbers", "bbox")
    return bbox


def _check_assets(item: dict[str, Any], id_: str) -> None:
    assets = item.get("assets", {})
    if not isinstance(assets, dict) or not all(
        isinstance(a, dict) and isinstance(a.get("href"), str) for a in assets.values()
    ):
        raise refused(f"the assets of item {id_!r} are not objects with an href", "assets")
