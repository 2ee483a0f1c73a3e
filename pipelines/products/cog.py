"""One Cloud-Optimized GeoTIFF out of the part files of all chunks."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox

from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.overviews import blocks, halve_file, levels
from pipelines.products.parts import block_ends, refusals
from pipelines.products.statistics import Statistics
from pipelines.products.style import qgis_style, side_file
from swathe.errors import OutputError
from swathe.window import Window

Placed = tuple[Path, Window]
"""A part file, and the pixels of the output grid that it holds."""
_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}


@dataclass(frozen=True, slots=True)
class Effort:
    """What writing may take."""

    threads: int = 2
    """For compression."""
    cache_mb: int = 128
    """GDAL's block cache."""
    level: int = 1
    """Of ZSTD, 1..22. Six makes class rasters a sixth smaller and takes twice the time; scores gain nothing."""


def assemble(
    parts: Sequence[Placed], grid: GeoBox, layer: LayerSpec, raster: RasterSpec, target: Path, effort: Effort = Effort()
) -> Path:
    """Write ``target``, and beside ``result.tif`` its class names and style for GDAL and QGIS (``style.py``).

    Pixels of chunks without a part are nodata. The same parts give the same bytes. The file appears whole or not at
    all. Memory: GDAL's cache and one block of overviews, whatever the size of the grid.
    Raises OutputError: the disk is full or locked, or a part is missing or damaged.
    """
    with _scratch(target) as folder, _gdal(effort), _damage(parts), refusals(target.parent):
        mosaic = folder / "mosaic.vrt"
        _write(mosaic, _mosaic(parts, grid, layer, raster))
        statistics = Statistics(raster)
        smaller = _overviews(mosaic, grid, raster, folder, statistics)
        _write(mosaic, _finished(mosaic, smaller, statistics))
        whole = folder / "whole.tif"
        rasterio.shutil.copy(mosaic, whole, driver="COG", **_options(raster, effort))
        _check(whole)
        _beside(target, layer, raster, statistics)
        whole.replace(target)
    return target


def _options(raster: RasterSpec, effort: Effort) -> dict[str, object]:
    return {
        "COMPRESS": "ZSTD",
        "LEVEL": effort.level,
        # Neighbouring classes differ by nothing or by anything; scores and values differ by little.
        "PREDICTOR": "YES" if raster.resampling is Resampling.AVERAGE else "NO",
        "BLOCKSIZE": raster.block,
        "BIGTIFF": "IF_SAFER",
        "OVERVIEWS": "FORCE_USE_EXISTING",
        "OVERVIEW_COMPRESS": "ZSTD",
        "STATISTICS": "AUTO",  # keeps ours: GDAL's own would be estimates
        "NUM_THREADS": effort.threads,
    }


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, on the same disk; whatever an interrupted run left there is removed."""
    folder = target.with_name(f".{target.name}.scratch")
    shutil.rmtree(folder, ignore_errors=True)
    with refusals(target.parent):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _gdal(effort: Effort) -> rasterio.Env:
    # rasterio takes the cache in bytes. Beside a part or a mosaic there is nothing to be looked for. A virtual raster
    # keeps up to 450 of its parts open, a megabyte each.
    return rasterio.Env(
        GDAL_CACHEMAX=effort.cache_mb << 20,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_PAM_ENABLED="NO",
        GDAL_MAX_DATASET_POOL_SIZE=16,
        VRT_NUM_THREADS=1,
    )


@contextmanager
def _damage(parts: Sequence[Placed]) -> Iterator[None]:
    """Say which part is damaged, where that is why writing failed."""
    missing = next((path for path, _ in parts if not path.is_file()), None)
    if missing is not None:
        raise _lost(missing.name)
    try:
        yield
    except OutputError as error:
        named = next((path for path, _ in parts if path.name in error.detail), None)
        if named is not None:
            raise _lost(named.name) from error
        raise


def _lost(name: str) -> OutputError:
    return OutputError(
        f"the part file {name} is missing or damaged",
        hint="delete it and run the same command again: its chunk is then done anew",
        code="output.part",
    )


def _overviews(mosaic: Path, grid: GeoBox, raster: RasterSpec, folder: Path, statistics: Statistics) -> list[Path]:
    """Overview files, the largest first; the statistics are those of the mosaic itself."""
    count = levels(grid.shape[0], grid.shape[1], raster.block)
    files = [mosaic, *(folder / f"overview{level + 1}.tif" for level in range(count))]
    for source, target in itertools.pairwise(files):
        halve_file(source, target, raster, statistics.add if source is mosaic else None)
    if not count:
        with rasterio.open(mosaic) as file:
            for _, block in blocks(file, raster):
                statistics.add(block)
    return files[1:]


def _check(path: Path) -> None:
    """GDAL does not tell when closing a file fails."""
    with rasterio.open(path) as file:
        size = path.stat().st_size
        if any(end is None or end > size for end in block_ends(file)):
            raise OSError(errno.ENOSPC, "the file was cut short", path.name)


def _write(path: Path, root: ET.Element) -> None:
    path.write_bytes(ET.tostring(root))


def _mosaic(parts: Sequence[Placed], grid: GeoBox, layer: LayerSpec, raster: RasterSpec) -> ET.Element:
    """A GDAL virtual raster over all parts, with what the final file should say of itself."""
    root = ET.Element("VRTDataset", rasterXSize=str(grid.shape[1]), rasterYSize=str(grid.shape[0]))
    if grid.crs is not None:
        ET.SubElement(root, "SRS").text = grid.crs.to_wkt()
    affine = grid.transform
    numbers = (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e)
    ET.SubElement(root, "GeoTransform").text = ", ".join(repr(float(n)) for n in numbers)
    _items(root, {"AREA_OR_POINT": "Area", "TIFFTAG_IMAGEDESCRIPTION": layer.title})
    for index, name in enumerate(raster.bands, start=1):
        band = ET.SubElement(root, "VRTRasterBand", dataType=_TYPES[raster.dtype], band=str(index))
        _describe(band, name, layer, raster)
        for path, window in parts:
            _source(band, path, window, raster, index)
    return root


def _finished(mosaic: Path, smaller: Sequence[Path], statistics: Statistics) -> ET.Element:
    """The same with overviews and statistics."""
    root = ET.fromstring(mosaic.read_bytes())  # noqa: S314  we have written it ourselves
    for index, band in enumerate(root.iter("VRTRasterBand")):
        _items(band, statistics.items(index))
        for path in smaller:
            overview = ET.SubElement(band, "Overview")
            ET.SubElement(overview, "SourceFilename", relativeToVRT="0").text = str(path.absolute())
            ET.SubElement(overview, "SourceBand").text = str(index + 1)
    return root


def _describe(band: ET.Element, name: str, layer: LayerSpec, raster: RasterSpec) -> None:
    classes = layer.classes if raster.name == layer.result.name else ()
    ET.SubElement(band, "Description").text = name
    if classes:  # class names inside the file too: the side file may get lost
        _items(band, {f"CLASS_{c.value}": c.name for c in classes})
    ET.SubElement(band, "NoDataValue").text = repr(raster.nodata)
    if raster.unit:
        ET.SubElement(band, "UnitType").text = raster.unit
    if raster.scale != 1:
        ET.SubElement(band, "Offset").text = "0"
        ET.SubElement(band, "Scale").text = repr(raster.scale)
    coloured = bool(classes) and raster.dtype == "uint8"  # a TIFF has no palette for other numbers
    drawn = layer.kind is Kind.PICTURE and raster.name == layer.result.name
    ET.SubElement(band, "ColorInterp").text = "Palette" if coloured else name.title() if drawn else "Gray"
    if coloured:
        _palette(band, layer)


def _palette(band: ET.Element, layer: LayerSpec) -> None:
    colours = {c.value: bytes.fromhex(c.colour[1:]) for c in layer.classes}
    table = ET.SubElement(band, "ColorTable")
    for value in range(256):
        red, green, blue = colours.get(value, b"\0\0\0")
        alpha = 0 if value == CLASS_NODATA else 255
        ET.SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=str(alpha))


def _source(band: ET.Element, path: Path, window: Window, raster: RasterSpec, index: int) -> None:
    place = {"xOff": str(window.col), "yOff": str(window.row)}
    source = ET.SubElement(band, "SimpleSource")
    ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = str(path.absolute())
    ET.SubElement(source, "SourceBand").text = str(index)
    facts = {"DataType": _TYPES[raster.dtype]}
    facts |= {"RasterXSize": str(window.width), "RasterYSize": str(window.height)}
    facts |= {"BlockXSize": str(raster.block), "BlockYSize": str(raster.block)}
    ET.SubElement(source, "SourceProperties", facts)
    extent = {"xSize": str(window.width), "ySize": str(window.height)}
    ET.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0"} | extent)
    ET.SubElement(source, "DstRect", place | extent)


def _items(parent: ET.Element, items: dict[str, str]) -> None:
    metadata = parent.find("Metadata")
    if metadata is None:
        metadata = ET.SubElement(parent, "Metadata")
    for key, value in items.items():
        ET.SubElement(metadata, "MDI", key=key).text = value


def _beside(target: Path, layer: LayerSpec, raster: RasterSpec, statistics: Statistics) -> None:
    """Names and colours, where GDAL and QGIS look for them; what an earlier result left there is removed."""
    files: dict[Path, bytes | None] = {
        target.with_name(f"{target.name}.aux.xml"): None,
        target.with_suffix(".qml"): None,
    }
    if raster.name == layer.result.name and layer.kind in (Kind.CLASSES, Kind.VALUES):
        names, style = files
        files[names] = side_file(layer) if layer.kind is Kind.CLASSES else None
        files[style] = qgis_style(layer, layer.range or statistics.span(0))
    for path, content in files.items():
        if content is None:
            path.unlink(missing_ok=True)
            continue
        fresh = path.with_name(f".{path.name}.fresh")
        fresh.write_bytes(content)
        fresh.replace(path)
