"""Results as jobs leave them, made by the products' own code: pixels that are known, with their item."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.masking.masked import masked_layer
from pipelines.products.cog import assemble
from pipelines.products.item import ItemFacts, ModelFacts, write_item
from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec, RasterSpec, Resampling
from swathe.card import ClassLabel
from swathe.masking import NODATA, Mask
from swathe.window import Window

CLASSES = (
    ClassLabel(value=0, name="land", colour="#d8c090", background=True),
    ClassLabel(value=1, name="forêt & <marsh>", colour="#2060c0"),
    ClassLabel(value=7, name="built", colour="#ff0001"),
)
GRID = GeoBox((700, 900), Affine(10, 0, 5e5, 0, -10, 5_600_000), "EPSG:32633")
RESULT = RasterSpec("result", "uint8", CLASS_NODATA, ("class",), Resampling.MODE)
SCORE = RasterSpec("score", "uint8", CLASS_NODATA, ("score",), Resampling.AVERAGE, 1 / 254)
SEEN = RasterSpec("observations", "uint16", 0, ("scene", "clear"), Resampling.NEAREST)
MAP = LayerSpec(Kind.CLASSES, "Flood map", CLASSES, RESULT, SCORE, observations=SEEN)
HEIGHT = LayerSpec(
    Kind.VALUES, "Height", (), RasterSpec("result", "float32", np.nan, ("height",), Resampling.AVERAGE, unit="m")
)


@dataclass(frozen=True)
class Made:
    """Files by name, and the pixels in them."""

    files: dict[str, bytes]
    pixels: dict[str, np.ndarray]


def classes_of(shape):
    """Patches of three classes, and a corner of nothing."""
    rng = np.random.default_rng(3)
    values = np.array([0, 1, 7], np.uint8)[rng.integers(0, 3, (shape[0] // 20 + 1, shape[1] // 20 + 1))]
    found = np.kron(values, np.ones((20, 20), np.uint8))[: shape[0], : shape[1]]
    found[:90, :120] = CLASS_NODATA
    return found


def heights_of(shape):
    """A slope of metres, and a corner of nothing."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    found = (rows + 2 * cols).astype(np.float32)
    found[:90, :120] = np.nan
    return found


def masked(folder, layer, image, grid):
    """``masked.tif``: a corner of nothing, a block of water, one of clouds; its pixels."""
    spec = masked_layer(layer, (Mask.WATER, Mask.CLOUDS))
    valid = image != layer.result.nodata if image.dtype.kind != "f" else np.isfinite(image)
    found = np.where(valid, image, NODATA).astype(spec.result.dtype)
    found[:, 200:330, 100:300], found[:, 400:520, 500:800] = 997, 999
    _assembled(folder, found, spec, spec.result, grid)
    return found


def _assembled(folder, image, layer, raster, grid):
    height, width = image.shape[1:]
    profile = {"driver": "GTiff", "height": height, "width": width, "count": raster.count, "dtype": raster.dtype}
    with rasterio.open(folder / "part", "w", transform=grid.transform, **profile) as file:
        file.write(image)
    assemble([(folder / "part", Window(0, 0, height, width))], grid, layer, raster, folder / f"{raster.name}.tif")
    (folder / "part").unlink()


def made(folder, layer=MAP, grid=GRID, *, masks=False):
    """All files of a result; ``masks``: also a masked one."""
    shape, pixels = tuple(int(n) for n in grid.shape), {}
    for raster in layer.rasters:
        if raster.dtype == "float32":
            image = heights_of(shape)[None]
        elif raster.name == "result":
            image = classes_of(shape)[None]
        else:
            image = np.full((raster.count, *shape), 127, raster.dtype)
            image[:, :90, :120] = raster.nodata
        pixels[f"{raster.name}.tif"] = image
        _assembled(folder, image, layer, raster, grid)
    if masks:
        pixels["masked.tif"] = masked(folder, layer, pixels["result.tif"], grid)
    when = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
    write_item(ItemFacts("one", layer.title, grid, layer, ModelFacts("m", "M"), when, when), folder)
    return Made({path.name: path.read_bytes() for path in sorted(folder.iterdir())}, pixels)
