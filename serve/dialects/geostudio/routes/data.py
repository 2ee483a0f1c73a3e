"""Sources of imagery, which scenes they have, and links to share files by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.requests import Request

from serve.api.service import Here
from serve.dialects.geostudio.ids import uuid_of_name
from serve.dialects.geostudio.problems import Refusal, msg
from serve.dialects.geostudio.schema import DataAdvisor
from serve.dialects.geostudio.shared import Limit, Route, Skip, Who, root_of
from serve.dialects.geostudio.wishes import CONNECTORS, source_of
from swathe.aoi import AOI

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from swathe.source import SourceCard
    from swathe.user import Caller

router = APIRouter(tags=["data"], route_class=Route)
Connector = Annotated[str, Path(max_length=100)]
_NAME = re.compile(r"[a-zA-Z0-9-_]+\.[a-z]+")
_SHORTEST, _LONGEST = 6, 60
_RGB = {"red": "R", "green": "G", "blue": "B"}
_KINDS = {"stac": "stac", "static": "catalogue", "folder": "folder", "tiles": "tiles"}
_NEAR = 2
_LAST = date.max - timedelta(days=1)
"""The last day that has an end."""


@router.get("/data-sources")
def sources(
    service: Here, who: Who, connector: str | None = None, collection: str | None = None, limit: Limit = 25,
    skip: Skip = 0,
) -> dict[str, Any]:  # fmt: skip
    """All sources here; a connector is the kind of a source, a collection its name."""
    found = [_shown(card) for card in service.desk.sources.listed(who)]
    if connector and connector not in CONNECTORS:
        found = [one for one in found if one["connector"] == connector]
    if collection:
        found = [one for one in found if collection in (one["collection_name"], one["data_collection"])]
    return {"results": found[skip : skip + limit]}


@router.get("/data-advice/{connector}")
def collections(service: Here, who: Who, connector: Connector) -> dict[str, Any]:
    """Names of its collections."""
    cards = _of_connector(service.desk, who, connector)
    return {"results": [card.id for card in cards]}


@router.post("/data-advice/{connector}")
async def advice(service: Here, who: Who, connector: Connector, asked: DataAdvisor) -> dict[str, Any]:
    """Which scenes there are, per place; where there are none, which dates are nearest."""
    await to_thread.run_sync(_of_connector, service.desk, who, connector)
    return {"results": await service.slowly(_advised, who, service.desk, asked)}


@router.get("/file-share")
def share(
    request: Request, service: Here, who: Who, object_name: Annotated[str, Query(max_length=300)]
) -> dict[str, Any]:  # fmt: skip
    """Where a file is sent (PUT, answered with 200), and where it is read then; neither needs a key."""
    if not (_SHORTEST <= len(object_name) <= _LONGEST and _NAME.fullmatch(object_name)):
        said = f"object_name has {_SHORTEST} to {_LONGEST} letters, digits, - and _, one dot, an ending in lower case"
        raise Refusal(422, [{"msg": said, "loc": ["query", "object_name"], "type": "value_error"}])
    made = service.desk.uploads.begin(who, object_name)
    root, links = root_of(request), service.desk.links
    up, down = (links.make(who, "upload", made.id, method=method) for method in ("PUT", "GET"))
    return {"upload_url": root + up.path, "download_url": root + down.path,
            "message": f"Send {object_name} to upload_url with PUT; both links are good for 8 hours."}  # fmt: skip


# --- pieces ----------------------------------------------------------------------------------------------------------


def _of_connector(desk: Desk, who: Caller, connector: str) -> list[SourceCard]:
    cards = desk.sources.listed(who)
    found = cards if connector in CONNECTORS else [c for c in cards if connector in (_KINDS[c.kind], c.id)]
    if not found:
        known = sorted({_KINDS[card.kind] for card in cards})
        raise msg(400, f"connector {connector[:60]} is not known; known are {', '.join(known)}")
    return found


def _shown(card: SourceCard) -> dict[str, Any]:
    bands = [
        {"band_name": name, "description": f"asset {band.asset}",
         "resolution": f"{card.gsd_m:g}m" if card.gsd_m else "",
         **({"RGB_band": _RGB[name]} if name in _RGB else {})} for name, band in card.bands.items()
    ]  # fmt: skip
    mask = {"band": card.mask.asset, "encoding": card.mask.rule.value} if card.mask else None
    return {
        "id": uuid_of_name(card.id), "connector": _KINDS[card.kind], "collection_name": card.id,
        "data_collection": card.collection, "bands": bands, "resolution_m": card.gsd_m,
        "rgb_bands": [n for n in _RGB if n in card.bands],
        "modality_tag": card.id, "cloud_masking": mask, "search": {"cloud_property": card.cloud_property},
        "query_template": "", "request_input_data": {}, "title": card.title, "licence": card.licence,
    }  # fmt: skip


def _advised(who: Caller, desk: Desk, asked: DataAdvisor) -> list[dict[str, Any]]:
    found = []
    for name in asked.collections:
        source = source_of(desk, who, name)
        found += [{**_scenes(desk, who, source, area, asked), "collection": name} for area in _areas(asked)]
    return found


def _scenes(desk: Desk, who: Caller, source: str, area: AOI, asked: DataAdvisor) -> dict[str, Any]:
    spans = [_wider(text, asked.pre_days, asked.post_days) for text in asked.dates]
    most = asked.maxcc if asked.maxcc < 100 else None  # noqa: PLR2004  percent
    found = desk.sources.scenes(who, source, area, spans, most)
    bbox = list(area.bounds)
    if not found.scenes:
        near = "; ".join(f"{one.when[:10]}" for one in found.nearest[:_NEAR]) or "none is known"
        return {"bbox": bbox, "unique_dates": [], "message": f"no data; nearest dates: {near}"}
    scenes = [
        {"id": scene.id, "properties": {"datetime": scene.when, "eo:cloud_cover": scene.cloud}}
        for scene in found.scenes
    ]
    return {"bbox": bbox, "unique_dates": sorted({scene.when[:10] for scene in found.scenes}), "available_data": scenes}


def _wider(text: str, before: int, after: int) -> str:
    """A span around a date or a span, as far as there is a calendar."""
    first, _, last = text.strip().partition("_")
    start, end = date.fromisoformat(first), date.fromisoformat(last or first)
    before, after = min(before, (start - date.min).days), min(after, (_LAST - end).days)
    return f"{start - timedelta(days=before)}_{end + timedelta(days=after)}"


def _areas(asked: DataAdvisor) -> Iterator[AOI]:
    for box in asked.bbox:
        yield AOI.parse(",".join(f"{v!r}" for v in box))
    if asked.area_polygon:
        said = asked.area_polygon
        yield AOI.parse(said if isinstance(said, str) else json.dumps(said))
