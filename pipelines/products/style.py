"""Class names and colours for those who open the files: GDAL's side file, QGIS's style."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from pipelines.products.layer import LayerSpec

_COLUMNS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8), ("Alpha", 0, 9))
"""Name, GDAL's number of the type (0 whole, 2 text) and of the usage (5 value, 2 name, 6..9 colours)."""


def side_file(layer: LayerSpec) -> bytes:
    """``result.tif.aux.xml``: category names (read by GDAL and QGIS) and an attribute table (read by ArcGIS too)."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = {c.value: c.name for c in layer.classes}
    categories = ET.SubElement(band, "CategoryNames")
    for value in range(max(names) + 1):
        ET.SubElement(categories, "Category").text = names.get(value, "")
    _table(band, layer)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8") + b"\n"


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
