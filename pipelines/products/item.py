"""``item.json``: a STAC 1.1 Item that says what was made, of what, with what, and where each file is."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox

from pipelines.products.assets import ASSETS, COG, GEOPARQUET, AssetKind
from pipelines.products.ground import pixel_metres
from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec, RasterSpec
from pipelines.products.lonlat import ToLonLat, geometries, outline
from pipelines.products.parts import refusals
from swathe.masking import CODE

if TYPE_CHECKING:
    import pystac

_EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "table": "https://stac-extensions.github.io/table/v1.2.0/schema.json",
}
_DESCRIBED_BANDS = 16
"""Statistics of more bands than these (embeddings) stay in the file."""
_SHA256 = "1220"
"""Multihash: sha2-256, 32 bytes."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something a result was derived from."""

    href: str
    """Path, URL, or the URL of a STAC Item."""
    title: str = ""
    """For people."""
    media_type: str = ""
    """Where known."""
    sha256: str = ""
    """Of its content, where that was read."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model made the result."""

    id: str
    """Of the card."""
    title: str
    """One line."""
    sha256: str = ""
    """Of weights or artefact."""
    licence: str = ""
    """Of the model."""
    citation: str = ""
    """How to cite it."""
    links: Mapping[str, str] = field(default_factory=dict)
    """name -> URL: paper, model page, code."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """All that an Item tells beyond what stands in the files themselves."""

    id: str
    """Of the Item."""
    title: str
    """One line."""
    grid: GeoBox
    """Of the rasters."""
    layer: LayerSpec
    """What they hold."""
    model: ModelFacts
    """What made them."""
    created: datetime
    """When, with a time zone."""
    start: datetime | None = None
    """First acquisition; None: not known, and ``created`` stands in, as STAC wants some time."""
    end: datetime | None = None
    """Last acquisition; None: the same."""
    description: str = ""
    """A few sentences."""
    sources: tuple[Source, ...] = ()
    """Imagery."""
    software: Mapping[str, str] = field(default_factory=dict)
    """name -> version of what took part."""
    lineage: str = ""
    """How it was made, in a sentence."""
    counts: Mapping[int, int] = field(default_factory=dict)
    """Class value -> pixels."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """More properties, e.g. ``swathe:valid_fraction``."""
    awaited: tuple[str, ...] = ("report.json",)
    """Files that will stand beside the Item but are written after it: named, without checksum."""


def write_item(facts: ItemFacts, folder: Path) -> Path:
    """Describe the files that lie in ``folder``, all by relative paths, and write ``item.json`` there.

    Raises OutputError where the disk is full or locked.
    """
    target = folder / "item.json"
    fresh = folder / ".item.json.fresh"
    with refusals(folder):
        text = json.dumps(make_item(facts, folder).to_dict(include_self_link=False), indent=2, ensure_ascii=False)
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(target)
    return target


def make_item(facts: ItemFacts, folder: Path) -> pystac.Item:
    """The Item of the files in ``folder``."""
    import pystac

    geometry = footprint(facts.grid)
    item = pystac.Item(
        id=facts.id,
        geometry=geometry,
        bbox=bbox_of(geometry),
        datetime=_instant(facts),
        properties=_properties(facts),
    )
    for kind in ASSETS:
        if (folder / kind.name).exists() or kind.name in facts.awaited:
            item.add_asset(kind.key, _asset(kind, facts, folder))
    _link(item, facts)
    item.stac_extensions = _declared(item)
    return item


def footprint(grid: GeoBox) -> dict[str, Any]:
    """GeoJSON outline of a grid in longitude and latitude, cut at the antimeridian; up to a pole that is in it."""
    points, ring = outline(grid)
    placed = ToLonLat(grid)(points, ring)
    ((kind, text),) = geometries(placed, ring)
    return {"type": kind.decode(), "coordinates": json.loads(bytes(text))}


def checksum(path: Path) -> str:
    """Multihash (sha2-256) of a file, in hexadecimal."""
    with path.open("rb") as file:
        return _SHA256 + hashlib.file_digest(file, "sha256").hexdigest()


def bbox_of(geometry: dict[str, Any]) -> list[float]:
    """West, south, east, north; west is greater than east where the antimeridian is crossed (RFC 7946)."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    boxes = [(np.min(p[0], axis=0), np.max(p[0], axis=0)) for p in parts]
    west, east = min(low[0] for low, _ in boxes), max(high[0] for _, high in boxes)
    if len(boxes) > 1 and (west, east) == (-180, 180):  # cut there
        west = min(low[0] for low, high in boxes if high[0] == 180)  # noqa: PLR2004  degrees
        east = max(high[0] for low, high in boxes if low[0] == -180)  # noqa: PLR2004  degrees
    south, north = min(low[1] for low, _ in boxes), max(high[1] for _, high in boxes)
    return [float(v) for v in (west, south, east, north)]


def _instant(facts: ItemFacts) -> datetime | None:
    """The Item's one time; None where it has a first and a last one."""
    if facts.start is None:
        return facts.created
    return facts.start if facts.end in (None, facts.start) else None


def _properties(facts: ItemFacts) -> dict[str, Any]:
    model = {"id": facts.model.id, "title": facts.model.title, "sha256": facts.model.sha256}
    model |= {"license": facts.model.licence, "citation": facts.model.citation}
    found: dict[str, Any] = {"title": facts.title, "created": _utc(facts.created)}
    if facts.description:
        found["description"] = facts.description
    if facts.start is None:
        found["swathe:datetime_is"] = "time of processing; the time of acquisition is not known"
    elif facts.end not in (None, facts.start):
        found |= {"start_datetime": _utc(facts.start), "end_datetime": _utc(facts.end or facts.start)}
    found |= _projection(facts.grid)
    found |= {"processing:software": dict(facts.software), "processing:datetime": _utc(facts.created)}
    if facts.lineage:
        found["processing:lineage"] = facts.lineage
    return found | {"swathe:model": {k: v for k, v in model.items() if v}} | dict(facts.properties)


def _utc(when: datetime) -> str:
    from pystac.utils import datetime_to_str

    return datetime_to_str(when)


def _projection(grid: GeoBox) -> dict[str, Any]:
    crs = grid.crs
    epsg = None if crs is None else crs.to_epsg()
    box = grid.boundingbox
    found: dict[str, Any] = {
        "proj:code": None if epsg is None else f"EPSG:{epsg}",
        "proj:shape": [int(grid.shape[0]), int(grid.shape[1])],
        "proj:transform": [float(n) for n in grid.transform][:6],
        "proj:bbox": [float(n) for n in (box.left, box.bottom, box.right, box.top)],
    }
    if epsg is None and crs is not None:
        found["proj:wkt2"] = crs.to_wkt()
    return found


# --- assets ---------------------------------------------------------------------------------------------------------


def _asset(kind: AssetKind, facts: ItemFacts, folder: Path) -> pystac.Asset:
    import pystac

    path = folder / kind.name
    extra: dict[str, Any] = {}
    if kind.name not in facts.awaited:
        extra = {"file:size": path.stat().st_size, "file:checksum": checksum(path)}
        raster = next((r for r in facts.layer.rasters if f"{r.name}.tif" == kind.name), None)
        if raster is not None and kind.media_type == COG:
            extra |= _raster(raster, facts, path)
        elif kind.media_type == COG:
            extra |= _added(path, facts)
        elif kind.media_type == GEOPARQUET:
            extra |= _table(path)
    shown = facts.layer.kind is Kind.PICTURE and kind.name == f"{facts.layer.result.name}.tif"
    roles = [*kind.roles, *(["visual"] if shown else [])]
    return pystac.Asset(
        href=f"./{kind.name}", title=kind.title, media_type=kind.media_type, roles=roles, extra_fields=extra
    )


def _raster(raster: RasterSpec, facts: ItemFacts, path: Path) -> dict[str, Any]:
    shared: dict[str, Any] = {"data_type": raster.dtype, "nodata": _number(raster.nodata)}
    across, down = pixel_metres(facts.grid)
    shared |= {"raster:sampling": "area", "raster:spatial_resolution": round(math.sqrt(across * down), 3)}
    if raster.unit:
        shared["unit"] = raster.unit
    if raster.scale != 1:
        shared |= {"raster:scale": raster.scale, "raster:offset": 0}
    if raster is facts.layer.result and facts.layer.classes:
        shared["classification:classes"] = _classes(facts)
    return shared | {"bands": _bands(raster, path)}


def _added(path: Path, facts: ItemFacts) -> dict[str, Any]:
    """A raster that the model did not make: what it is stands in the file and in the style beside it."""
    import rasterio

    from pipelines.products.style import labels_in

    style = path.with_suffix(".qml")
    labels = labels_in(style.read_bytes()) if style.exists() else []
    with rasterio.open(path) as file:
        bands = [{"name": name or f"b{i}"} | _statistics(file.tags(i)) for i, name in enumerate(file.descriptions, 1)]
        nodata = {} if file.nodata is None else {"nodata": _number(file.nodata)}
        own = {label.value for label in facts.layer.classes}
        entries = [_class(label) | ({} if label[0] in own else {CODE: True}) for label in labels]
        named = {"classification:classes": [*entries, _no_class(file.nodata)]} if labels else {}
        grid = {} if file.shape == tuple(facts.grid.shape) else {"proj:shape": list(file.shape),
                "proj:transform": list(file.transform)[:6]}  # fmt: skip
        return {"data_type": file.dtypes[0], **nodata, **named, **grid, "bands": bands[:_DESCRIBED_BANDS]}


def _number(value: float) -> float | str:
    return "nan" if np.isnan(value) else int(value)


def _bands(raster: RasterSpec, path: Path) -> list[dict[str, Any]]:
    if raster.count > _DESCRIBED_BANDS:
        return [{"name": name} for name in raster.bands]
    import rasterio

    with rasterio.open(path) as file:
        return [{"name": n} | _statistics(file.tags(i)) for i, n in enumerate(raster.bands, start=1)]


def _statistics(tags: Mapping[str, str]) -> dict[str, Any]:
    words = {"minimum": "MINIMUM", "maximum": "MAXIMUM", "mean": "MEAN", "stddev": "STDDEV"}
    words["valid_percent"] = "VALID_PERCENT"
    found = {k: float(tags[f"STATISTICS_{v}"]) for k, v in words.items() if f"STATISTICS_{v}" in tags}
    return {"statistics": found} if found else {}


def _classes(facts: ItemFacts) -> list[dict[str, Any]]:
    """Classes; ``percentage`` is of the pixels that have one."""
    total = sum(facts.counts.values())
    found = []
    for label in facts.layer.classes:
        entry = _class((label.value, label.name, label.colour))
        if total:
            count = facts.counts.get(label.value, 0)
            entry |= {"count": count, "percentage": round(100 * count / total, 4)}
        found.append(entry)
    return [*found, _no_class(CLASS_NODATA)]


def _class(label: tuple[int, str, str]) -> dict[str, Any]:
    value, name, colour = label
    return {"value": value, "name": slug(name), "title": name, "description": name, "color_hint": colour[1:].upper()}


def _no_class(nodata: float | None) -> dict[str, Any]:
    value = CLASS_NODATA if nodata is None or np.isnan(nodata) else int(nodata)
    return {"value": value, "name": "nodata", "description": "no data", "nodata": True}


def slug(name: str) -> str:
    """A class name as the classification extension wants it: letters, digits, - and _."""
    from pipelines.products.lettering import plain

    return re.sub(r"[^0-9A-Za-z_-]+", "-", plain(name)).strip("-").lower() or "class"


def _table(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    columns = [{"name": f.name, "type": str(f.type)} for f in file.schema_arrow]
    return {
        "table:row_count": file.metadata.num_rows,
        "table:primary_geometry": "geometry",
        "table:columns": columns,
    }


# --- links ----------------------------------------------------------------------------------------------------------


def _link(item: pystac.Item, facts: ItemFacts) -> None:
    import pystac

    for source in facts.sources:
        sum_ = {"file:checksum": _SHA256 + source.sha256} if source.sha256 else None
        item.add_link(pystac.Link("derived_from", source.href, source.media_type or None, source.title or None,
                                  extra_fields=sum_))  # fmt: skip
    for name, url in facts.model.links.items():
        item.add_link(pystac.Link("model" if name == "model" else "related", url, title=f"{facts.model.title}: {name}"))


def _declared(item: pystac.Item) -> list[str]:
    """Extensions whose fields the Item really has."""
    fields = [*item.properties, *(name for asset in item.assets.values() for name in asset.extra_fields)]
    prefixes = {name.split(":", 1)[0] for name in fields if ":" in name}
    return [url for prefix, url in _EXTENSIONS.items() if prefix in prefixes]
