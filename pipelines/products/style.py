"""Class names and colours for those who open the files: GDAL's side file, QGIS's style.

A TIFF holds a palette but no names. GDAL, and with it QGIS, takes them from ``result.tif.aux.xml``; QGIS would still
list all 256 entries of the palette, so ``result.qml``, which it loads by itself, lists those that there are.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec
from pipelines.products.picture import ramp

_COLUMNS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8), ("Alpha", 0, 9))
"""Name, GDAL's number of the type (0 whole, 2 text) and of the usage (5 value, 2 name, 6..9 colours)."""
_STOPS = 9


def side_file(layer: LayerSpec) -> bytes:
    """``result.tif.aux.xml``: category names (read by GDAL and QGIS) and an attribute table (read by ArcGIS too)."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = {c.value: c.name for c in layer.classes}
    if max(names) <= CLASS_NODATA:  # a list from 0 on, in which codes of masks would leave hundreds of gaps
        categories = ET.SubElement(band, "CategoryNames")
        for value in range(max(names) + 1):
            ET.SubElement(categories, "Category").text = names.get(value, "")
    _table(band, layer)
    return _text(root)


def qgis_style(layer: LayerSpec, span: tuple[float, float]) -> bytes:
    """``result.qml``. span: of values, the numbers at the ends of the colour ramp."""
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    shared = {"band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    pipe = ET.SubElement(root, "pipe")
    if layer.kind is Kind.CLASSES:
        renderer = ET.SubElement(pipe, "rasterrenderer", shared | {"type": "paletted"})
        palette = ET.SubElement(renderer, "colorPalette")
        for c in layer.classes:
            entry = {"value": str(c.value), "color": c.colour, "label": c.name, "alpha": "255"}
            ET.SubElement(palette, "paletteEntry", entry)
    else:
        ends = {"classificationMin": repr(span[0]), "classificationMax": repr(span[1])}
        renderer = ET.SubElement(pipe, "rasterrenderer", shared | ends | {"type": "singlebandpseudocolor"})
        _shader(ET.SubElement(renderer, "rastershader"), span, layer)
    return _text(root)


def labels_in(style: bytes) -> list[tuple[int, str, str]]:
    """Value, name and colour of the classes that such a style names, and of codes of masks among numbers."""
    root = ET.fromstring(style)  # noqa: S314  we wrote it
    found = [(float(e.get("value", "nan")), e.get("label", ""), e.get("color", "")) for e in root.iter("paletteEntry")]
    stops = [(float(e.get("value", "nan")), e.get("label", ""), e.get("color", "")) for e in root.iter("item")]
    found += [stop for stop in stops if stop[1] != _stop(stop[0])]
    return [(int(value), name, colour) for value, name, colour in found if value.is_integer()]


def _stop(value: float) -> str:
    """What a stop of a ramp is called."""
    return f"{value:.4g}"


def _shader(parent: ET.Element, span: tuple[float, float], layer: LayerSpec) -> None:
    ends = {"minimumValue": repr(span[0]), "maximumValue": repr(span[1])}
    way = {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0", "labelPrecision": "4"}
    shader = ET.SubElement(parent, "colorrampshader", ends | way)
    for i, (red, green, blue) in enumerate(ramp(_STOPS).tolist()):
        value = span[0] + (span[1] - span[0]) * i / (_STOPS - 1)
        item = {"value": repr(value), "color": f"#{red:02x}{green:02x}{blue:02x}", "label": _stop(value)}
        ET.SubElement(shader, "item", item | {"alpha": "255"})
    for code in layer.classes:  # of a layer of numbers: masks
        item = {"value": repr(float(code.value)), "color": code.colour, "label": code.name}
        ET.SubElement(shader, "item", item | {"alpha": "255"})


def _table(band: ET.Element, layer: LayerSpec) -> None:
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        ET.SubElement(column, "Name").text = name
        ET.SubElement(column, "Type").text = str(kind)
        ET.SubElement(column, "Usage").text = str(usage)
    for index, label in enumerate(sorted(layer.classes, key=lambda c: c.value)):
        row = ET.SubElement(table, "Row", index=str(index))
        for cell in (label.value, label.name, *bytes.fromhex(label.colour[1:]), 255):
            ET.SubElement(row, "F").text = str(cell)


def _text(root: ET.Element) -> bytes:
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8") + b"\n"
