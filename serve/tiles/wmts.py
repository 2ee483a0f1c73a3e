"""What a WMTS says of itself: one tile matrix set, that of web maps, and per layer the tiles that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pipelines.layers.frame import web_tiles
from serve.tiles.markup import XLINK, add, document
from serve.tiles.wms import ABSTRACT, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.tiles.addresses import Addresses
    from swathe.layer import Layer

SET = "WebMercatorQuad"
FORMS = {"image/png": "png", "image/webp": "webp"}
"""Media types of tiles, and the endings of their addresses."""
_OWS = "http://www.opengis.net/ows/1.1"
_MOST = 85.05
"""Degrees north and south, where web maps end."""
_NAMES = ("{TileMatrix}", "{TileCol}", "{TileRow}")
REST = "/1.0.0/WMTSCapabilities.xml"


def capabilities(layers: Sequence[Layer], addresses: Addresses, job: str) -> bytes:
    """GetCapabilities; ``job``: whose layers these are, if only its."""
    root = ET.Element("Capabilities", {"version": "1.0.0", "xmlns": "http://www.opengis.net/wmts/1.0",
                                       "xmlns:ows": _OWS})  # fmt: skip
    service = add(root, "ows:ServiceIdentification")
    add(service, "ows:Title", "swathe")
    add(service, "ows:Abstract", ABSTRACT)
    add(service, "ows:ServiceType", "OGC WMTS")
    add(service, "ows:ServiceTypeVersion", "1.0.0")
    operations = add(root, "ows:OperationsMetadata")
    for name in ("GetCapabilities", "GetTile"):
        _operation(operations, name, addresses.wmts(job))
    contents = add(root, "Contents")
    for layer in layers:
        _layer(contents, layer, addresses)
    _tiles(contents)
    _link(root, "ServiceMetadataURL", addresses.wmts(job, REST).rstrip("?&"))
    return document(root)


def _operation(operations: ET.Element, name: str, href: str) -> None:
    http = add(add(add(operations, "ows:Operation", name=name), "ows:DCP"), "ows:HTTP")
    get = _link(http, "ows:Get", href)
    allowed = add(add(get, "ows:Constraint", name="GetEncoding"), "ows:AllowedValues")
    add(allowed, "ows:Value", "KVP")


def _layer(contents: ET.Element, layer: Layer, addresses: Addresses) -> None:
    west, south, east, north = spread(layer)
    one = add(contents, "Layer")
    add(one, "ows:Title", layer.title)
    box = add(one, "ows:WGS84BoundingBox")
    add(box, "ows:LowerCorner", f"{west!r} {south!r}")
    add(box, "ows:UpperCorner", f"{east!r} {north!r}")
    add(one, "ows:Identifier", layer.id)
    style = add(one, "Style", isDefault="true")
    add(style, "ows:Identifier", "default")
    if href := addresses.legend(layer):
        _link(style, "LegendURL", href).set("format", "image/png")
    for form in FORMS:
        add(one, "Format", form)
    linked = add(one, "TileMatrixSetLink")
    add(linked, "TileMatrixSet", SET)
    _limits(add(linked, "TileMatrixSetLimits"), layer)
    for form, ending in FORMS.items():
        add(one, "ResourceURL", format=form, resourceType="tile", template=addresses.tiles(layer, ending, _NAMES))


def _limits(limits: ET.Element, layer: Layer) -> None:
    """Tiles in which the layer may lie, as far as they are finer than its pixels; clients enlarge those."""
    west, south, east, north = spread(layer)
    for zoom in range(layer.maxzoom + 1):
        first, last = web_tiles().tile(west, min(north, _MOST), zoom), web_tiles().tile(east, max(south, -_MOST), zoom)
        one, most = add(limits, "TileMatrixLimits"), (1 << zoom) - 1
        add(one, "TileMatrix", str(zoom))
        for name, value in (("MinTileRow", first.y), ("MaxTileRow", last.y), ("MinTileCol", first.x),
                            ("MaxTileCol", last.x)):  # fmt: skip
            add(one, name, str(max(0, min(most, value))))


def _tiles(contents: ET.Element) -> None:
    tiles = add(contents, "TileMatrixSet")
    add(tiles, "ows:Identifier", SET)
    add(tiles, "ows:SupportedCRS", "urn:ogc:def:crs:EPSG::3857")
    add(tiles, "WellKnownScaleSet", "urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible")
    for matrix in web_tiles().tileMatrices:
        one = add(tiles, "TileMatrix")
        add(one, "ows:Identifier", matrix.id)
        add(one, "ScaleDenominator", repr(matrix.scaleDenominator))
        add(one, "TopLeftCorner", " ".join(repr(float(n)) for n in matrix.pointOfOrigin))
        for name in ("TileWidth", "TileHeight", "MatrixWidth", "MatrixHeight"):
            add(one, name, str(getattr(matrix, name[0].lower() + name[1:])))


def _link(parent: ET.Element, name: str, href: str) -> ET.Element:
    return ET.SubElement(parent, name, {f"{{{XLINK}}}href": href})
