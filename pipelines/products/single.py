"""A small result as one document: GeoTIFF, picture or summary, made in memory."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from pipelines.products.ground import pixel_metres
from pipelines.products.layer import CLASS_NODATA, SCORE_STEPS, Kind, LayerSpec
from pipelines.products.picture import coloured
from pipelines.products.quantise import Stored
from swathe.plan import Plan

_BLOCK = 256


def tiff(result: Stored, layer: LayerSpec, grid: GeoBox) -> bytes:
    """GeoTIFF of a ``result`` (bands, H, W) on its grid, with palette, class names and nodata.

    Deflated, not ZSTD as files of runs are: whatever opens TIFFs opens it.
    """
    spec = layer.result
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=grid.shape[0], width=grid.shape[1], count=spec.count, dtype=spec.dtype,
            nodata=spec.nodata, crs=None if grid.crs is None else grid.crs.to_wkt(), transform=grid.transform,
            tiled=True, blockxsize=_BLOCK, blockysize=_BLOCK, compress="DEFLATE", zlevel=1,
        ) as file:  # fmt: skip
            if layer.kind is Kind.CLASSES:  # before any pixel, or it would go into a side file
                _name_classes(file, layer)
            file.descriptions = spec.bands
            file.update_tags(TIFFTAG_IMAGEDESCRIPTION=layer.title)
            file.write(result)
        return bytes(memory.getbuffer())


def _name_classes(file: Any, layer: LayerSpec) -> None:
    file.write_colormap(1, {c.value: (*bytes.fromhex(c.colour[1:]), 255) for c in layer.classes})
    file.colorinterp = (ColorInterp.palette,)
    file.update_tags(1, **{f"CLASS_{c.value}": c.name for c in layer.classes})


def png(result: Stored, layer: LayerSpec) -> bytes:
    """The card's colours, a pixel each."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(coloured(result, layer)).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def summary(plan: Plan, stored: dict[str, Stored], layer: LayerSpec, valid: int) -> bytes:
    """JSON: grid, pixels, and what was found."""
    work, result = plan.work, stored["result"]
    across, down = pixel_metres(work.grid)
    found: dict[str, Any] = {
        "model": work.card.id,
        "task": work.card.task,
        "crs": work.imagery.crs,
        "transform": list(work.transform)[:6],
        "shape": list(work.shape),
        "pixels": {"total": plan.cost.pixels, "valid": valid},
        "area_km2": plan.cost.area_km2,
    }
    if layer.kind is Kind.CLASSES:
        found |= {"classes": _classes(result, layer, across * down / 1e6), "mean_score": _mean_score(stored)}
    elif layer.kind is Kind.VALUES:
        found |= {"values": _statistics(result[0]), "unit": layer.result.unit}
    else:
        found |= {"dimensions": layer.result.count, "mean": _means(result)}
    return json.dumps(found | {"warnings": list(plan.warnings)}).encode()


def _classes(result: Stored, layer: LayerSpec, km2: float) -> list[dict[str, Any]]:
    """Per class its pixels, their share of the valid ones, and their ground area."""
    counts = np.bincount(result[0].ravel().astype(np.uint8), minlength=256)
    valid = int(counts[:CLASS_NODATA].sum())
    return [
        {"value": c.value, "name": c.name, "colour": c.colour, "pixels": int(counts[c.value]),
         "share": round(counts[c.value] / valid, 6) if valid else 0.0, "area_km2": round(counts[c.value] * km2, 6)}
        for c in layer.classes
    ]  # fmt: skip


def _mean_score(stored: dict[str, Stored]) -> float | None:
    """Of the class that won; None where the method gives no probabilities, or nothing is valid."""
    score = stored.get("score")
    good = None if score is None else score[score != CLASS_NODATA]
    return None if good is None or not good.size else round(float(good.mean()) / SCORE_STEPS, 4)


def _statistics(values: Stored) -> dict[str, float] | None:
    good = values[np.isfinite(values)].astype(np.float64)
    if not good.size:
        return None
    return {name: float(getattr(good, name)()) for name in ("min", "max", "mean", "std")}


def _means(vectors: Stored) -> list[float] | None:
    """Of each dimension over the valid cells."""
    good = np.isfinite(vectors[0])
    return vectors[:, good].mean(axis=1, dtype=np.float64).round(6).tolist() if good.any() else None
