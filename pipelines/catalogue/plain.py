"""A STAC Item for an image file that has none, from its header."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.catalogue.moments import instant_text, micros
from pipelines.catalogue.places import bbox_of, boxes_of, geometry_of
from pipelines.gdal import Access
from pipelines.header import Header, read_headers
from pipelines.products.item import footprint
from swathe.errors import InputError

_MEDIA = {".jp2": "image/jp2", ".j2k": "image/jp2", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_GEOTIFF = "image/tiff; application=geotiff"
_BASE = "https://stac-extensions.github.io"
_PROJECTION, _FILE, _RASTER = f"{_BASE}/projection/v2.0.0", f"{_BASE}/file/v2.1.0", f"{_BASE}/raster/v2.0.0"


def image_items(paths: Sequence[Path], when: str | None = None, access: Access | None = None) -> list[dict[str, Any]]:
    """An Item per file, without a collection; ``when``: RFC 3339 or a date, else the time in its name, or its tags.

    Raises ImageryError and GridError for what is no usable image, InputError (``catalogue.datetime``).
    """
    headers = read_headers([str(path) for path in paths], access or Access())
    return [_item(path, header, when) for path, header in zip(paths, headers, strict=True)]


def _item(path: Path, header: Header, when: str | None) -> dict[str, Any]:
    grid = GeoBox(header.shape, Affine(*header.transform), header.crs)
    geometry = footprint(grid)
    found = boxes_of(geometry_of(geometry))
    code = header.crs if header.crs.startswith("EPSG:") else None
    bounds = grid.boundingbox
    projection: dict[str, Any] = {
        "proj:code": code,
        "proj:shape": list(header.shape),
        "proj:transform": list(header.transform),
        "proj:bbox": [bounds.left, bounds.bottom, bounds.right, bounds.top],
    }
    if code is None:
        projection["proj:wkt2"] = header.crs
    asset = _asset(path, header)
    scaled = any("raster:scale" in band for band in asset["bands"])
    declared = [_PROJECTION, _FILE, *([_RASTER] if scaled else [])]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [f"{url}/schema.json" for url in declared],
        "id": _id(path),
        "geometry": geometry,
        "bbox": list(bbox_of(found)),
        "properties": {**_time(path, when), "title": path.name, **projection},
        "links": [],
        "assets": {"image": asset},
    }


def _id(path: Path) -> str:
    """Files of one name in different folders stay apart, and the same file keeps its id."""
    return f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _asset(path: Path, header: Header) -> dict[str, Any]:
    return {
        "href": str(path),
        "type": _MEDIA.get(path.suffix.lower(), _GEOTIFF),
        "roles": ["data"],
        "file:size": path.stat().st_size,
        "bands": [_band(header, i) for i in range(len(header.dtypes))],
    }


def _band(header: Header, i: int) -> dict[str, Any]:
    found: dict[str, Any] = {"name": header.descriptions[i] or f"band {i + 1}", "data_type": header.dtypes[i]}
    nodata = header.nodata[i]
    if nodata is not None:
        found["nodata"] = _number(nodata)
    if (header.scales[i], header.offsets[i]) != (1, 0):
        found |= {"raster:scale": header.scales[i], "raster:offset": header.offsets[i]}
    return found


def _number(value: float) -> float | str:
    """JSON has no word for NaN; STAC has."""
    if math.isfinite(value):
        return int(value) if value == int(value) else value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _time(path: Path, when: str | None) -> dict[str, Any]:
    if when is not None:
        try:
            return {"datetime": instant_text(micros(when))}
        except ValueError:
            hint = "write 2024-07-25 or 2024-07-25T10:00:00Z"
            raise InputError(f"{when!r} is no time", code="catalogue.datetime", field="--datetime", hint=hint) from None
    from pipelines.search.names import time_in

    found = time_in(Path(path.name))
    if found is not None:
        return {"datetime": instant_text(micros(found.isoformat())), "swathe:datetime_is": "from the name of the file"}
    changed = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    said = "time of the file; the time of acquisition is not known"
    return {"datetime": instant_text(micros(changed.isoformat())), "swathe:datetime_is": said}
