"""A STAC Item for an image file that has none, from its header."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.catalogue.moments import instant_text, micros
from pipelines.catalogue.places import bbox_of, boxes_of, geometry_of
from pipelines.imagery.gdal import Access
from pipelines.imagery.header import Header, read_headers
from pipelines.products.item import footprint
from pipelines.remote.byte_cache import unsigned
from swathe.errors import InputError
from swathe.imagery import is_remote, shown

if TYPE_CHECKING:
    from pipelines.imagery.remote_files import RemoteFiles

_MEDIA = {".jp2": "image/jp2", ".j2k": "image/jp2", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_GEOTIFF = "image/tiff; application=geotiff"
_BASE = "https://stac-extensions.github.io"
_PROJECTION, _FILE, _RASTER = f"{_BASE}/projection/v2.0.0", f"{_BASE}/file/v2.1.0", f"{_BASE}/raster/v2.0.0"


def image_items(
    hrefs: Sequence[str], when: str | None = None, access: Access | None = None, remote: RemoteFiles | None = None
) -> list[dict[str, Any]]:
    """An Item per file, without a collection; ``when``: RFC 3339 or a date, else the time in its name, or the file's.

    ``hrefs``: absolute paths, and addresses that are looked at through ``remote``. Raises ImageryError and GridError
    for what is no usable image, ReadError, InputError (``catalogue.datetime``).
    """
    headers = read_headers(hrefs, access or Access(), remote)
    return [_item(href, header, when) for href, header in zip(hrefs, headers, strict=True)]


def _item(href: str, header: Header, when: str | None) -> dict[str, Any]:
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
    asset = _asset(href, header)
    scaled = any("raster:scale" in band for band in asset["bands"])
    declared = [_PROJECTION, _FILE, *([_RASTER] if scaled else [])]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [f"{url}/schema.json" for url in declared],
        "id": _id(href),
        "geometry": geometry,
        "bbox": list(bbox_of(found)),
        "properties": {**_time(href, when), "title": _name(href).name, **projection},
        "links": [],
        "assets": {"image": asset},
    }


def _name(href: str) -> PurePosixPath:
    """Path of a file, or its path on the server."""
    return PurePosixPath(shown(href).partition("://")[2] if is_remote(href) else href)


def _id(href: str) -> str:
    """Files of one name in different folders stay apart, and the same file keeps its id."""
    return f"{_name(href).stem}-{hashlib.sha256(unsigned(href).encode()).hexdigest()[:8]}"


def _asset(href: str, header: Header) -> dict[str, Any]:
    """A signature is left out: it is a secret, and soon over."""
    size = header.stamp.partition(" ")[0]
    return {
        "href": unsigned(href),
        "type": _MEDIA.get(_name(href).suffix.lower(), _GEOTIFF),
        "roles": ["data"],
        **({"file:size": int(size)} if size.isdigit() else {}),
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


def _time(href: str, when: str | None) -> dict[str, Any]:
    hint = "write 2024-07-25 or 2024-07-25T10:00:00Z"
    if when is not None:
        try:
            return {"datetime": instant_text(micros(when))}
        except ValueError:
            raise InputError(f"{when!r} is no time", code="catalogue.datetime", field="--datetime", hint=hint) from None
    from pipelines.search.names import time_in

    name = _name(href).name
    found = time_in(Path(name))
    if found is not None:
        return {"datetime": instant_text(micros(found.isoformat())), "swathe:datetime_is": "from the name of the file"}
    if is_remote(href):
        raise InputError(
            f"nothing tells when {name} was taken", code="catalogue.datetime", field="--datetime", hint=hint
        )
    changed = datetime.fromtimestamp(int(Path(href).stat().st_mtime), UTC)
    said = "time of the file; the time of acquisition is not known"
    return {"datetime": instant_text(micros(changed.isoformat())), "swathe:datetime_is": said}
