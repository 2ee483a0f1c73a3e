"""What a WMS says of itself, in the forms of 1.1.1 and 1.3.0."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from PIL import Image

from pipelines.layers.encode import Form
from pipelines.layers.frame import carried
from pipelines.layers.legend import legend
from serve.tiles.maps import EVERYWHERE, MOST_LAYERS, MOST_SIDE, NEW, OLD, SHOWN, northing_first, offered_for
from serve.tiles.markup import XLINK, add, document, online

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.tiles.addresses import Addresses
    from swathe.layer import Layer

TYPES = {OLD: "application/vnd.ogc.wms_xml", NEW: "text/xml"}
"""Of this document."""
TROUBLES = {OLD: "application/vnd.ogc.se_xml", NEW: "text/xml"}
"""Of reports of what went wrong."""
ABSTRACT = "Maps that models made of satellite imagery."
_DTD = '<!DOCTYPE WMT_MS_Capabilities SYSTEM "http://schemas.opengis.net/wms/1.1.1/WMS_MS_Capabilities.dtd">\n'
_WORLD = {"EPSG:3857": 20_037_508.342789244, "EPSG:4326": 180.0}


def capabilities(layers: Sequence[Layer], addresses: Addresses, here: str, version: str) -> bytes:
    """GetCapabilities. ``here``: of this service, ready for parameters."""
    if version == NEW:
        root = ET.Element("WMS_Capabilities", {"version": NEW, "xmlns": "http://www.opengis.net/wms"})
    else:
        root = ET.Element("WMT_MS_Capabilities", {"version": OLD})
    _service(root, here, version)
    able = add(root, "Capability")
    _requests(able, here, version)
    add(add(able, "Exception"), "Format", "XML" if version == NEW else TROUBLES[OLD])
    top = add(able, "Layer")
    add(top, "Title", "swathe")
    for crs in EVERYWHERE:
        _system(top, crs, version)
    for layer in layers:
        _layer(top, layer, addresses, version)
    return document(root, "" if version == NEW else _DTD)


def _service(root: ET.Element, here: str, version: str) -> None:
    service = add(root, "Service")
    add(service, "Name", "WMS" if version == NEW else "OGC:WMS")
    add(service, "Title", "swathe")
    add(service, "Abstract", ABSTRACT)
    online(service, here)
    add(service, "Fees", "none")
    add(service, "AccessConstraints", "a key of the service")
    if version == NEW:
        add(service, "LayerLimit", str(MOST_LAYERS))
        add(service, "MaxWidth", str(MOST_SIDE))
        add(service, "MaxHeight", str(MOST_SIDE))


def _requests(able: ET.Element, here: str, version: str) -> None:
    known = {"GetCapabilities": (TYPES[version],), "GetMap": tuple(Form), "GetFeatureInfo": SHOWN}
    if version == OLD:  # in 1.3.0 it belongs to another standard's namespace; styles name their legends anyway
        known["GetLegendGraphic"] = (Form.PNG,)
    requests = add(able, "Request")
    for name, forms in known.items():
        one = add(requests, name)
        for form in forms:
            add(one, "Format", form)
        online(add(add(add(one, "DCPType"), "HTTP"), "Get"), here)


def _system(parent: ET.Element, crs: str, version: str) -> None:
    if version == NEW or crs != "CRS:84":
        add(parent, "CRS" if version == NEW else "SRS", crs)


def _layer(top: ET.Element, layer: Layer, addresses: Addresses, version: str) -> None:
    one = add(top, "Layer", queryable="1", opaque="0")
    add(one, "Name", layer.id)
    add(one, "Title", layer.title)
    add(one, "Abstract", f"{layer.model}{', ' + layer.datetime if layer.datetime else ''}")
    for crs in offered_for(layer):
        _system(one, crs, version)
    _around(one, layer, version)
    style = add(one, "Style")
    add(style, "Name", "default")
    add(style, "Title", layer.title)
    if href := addresses.legend(layer):
        width, height = Image.open(io.BytesIO(legend(layer.style))).size
        shown = add(style, "LegendURL", width=str(width), height=str(height))
        add(shown, "Format", Form.PNG)
        online(shown, href)


def _around(one: ET.Element, layer: Layer, version: str) -> None:
    west, south, east, north = spread(layer)
    if version == NEW:
        box = add(one, "EX_GeographicBoundingBox")
        for name, value in (("westBoundLongitude", west), ("eastBoundLongitude", east),
                            ("southBoundLatitude", south), ("northBoundLatitude", north)):  # fmt: skip
            add(box, name, repr(value))
    else:
        add(one, "LatLonBoundingBox", **_corners((west, south, east, north), swapped=False))
    for crs in offered_for(layer):
        if version == NEW or crs != "CRS:84":
            swapped = version == NEW and northing_first(crs)
            system = {("CRS" if version == NEW else "SRS"): crs}
            add(one, "BoundingBox", **system, **_corners(bounds_in(layer, crs), swapped=swapped))


def spread(layer: Layer) -> tuple[float, float, float, float]:
    """west, south, east, north, west never beyond east: all longitudes of what lies over the antimeridian."""
    west, south, east, north = layer.bbox
    return (west, south, east, north) if west < east else (-180.0, south, 180.0, north)


def bounds_in(layer: Layer, crs: str) -> tuple[float, float, float, float]:
    """left, bottom, right, top, within the world."""
    if crs in {"CRS:84", "EPSG:4326"}:
        return spread(layer)
    left, bottom, right, top = carried(layer.bounds, layer.crs, crs)
    most = _WORLD.get(crs, 1e9)
    if crs in _WORLD and layer.bbox[0] > layer.bbox[2]:  # at both ends, though on its own grid it may run on past one
        left, right = -most, most
    return max(left, -most), max(bottom, -most), min(right, most), min(top, most)


def _corners(box: tuple[float, float, float, float], *, swapped: bool) -> dict[str, str]:
    left, bottom, right, top = (box[1], box[0], box[3], box[2]) if swapped else box
    return {"minx": repr(left), "miny": repr(bottom), "maxx": repr(right), "maxy": repr(top)}


__all__ = ["TROUBLES", "TYPES", "XLINK", "bounds_in", "capabilities", "spread"]
