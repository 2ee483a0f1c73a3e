"""From a result's STAC Item to its layers: each raster that a map can show, with its style. No file is opened."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipelines.products.statistics import span_of
from swathe.card import ClassLabel
from swathe.layer import Layer, Look, Style, layer_id
from swathe.masking import CODE, CODES, CodeLabel

_COLOUR = re.compile(r"[0-9a-fA-F]{6}")
_BANDS = 16
"""Files of more bands are no maps: embeddings."""
_CODES = 255
"""Values from here on are no classes, whether or not an item marks them as codes."""
_MOST_LABELS = 255
"""Colours of a palette, beside the transparent one."""
_PICTURE = (3, 4)
"""Bands of a picture."""
_RESULT, _MASKED = "result.tif", "masked.tif"
_EQUATOR_M = 40_075_016.685578488
_TILE = 256
MOST_ZOOM = 24
"""Of web map tiles: a pixel is a centimetre."""


@dataclass(frozen=True, slots=True)
class Of:
    """What an item does not say of itself."""

    job: str
    """Id of the job."""
    owner: str
    """Id of a user."""
    model: str
    """Id of a card."""
    range: tuple[float, float] | None = None
    """Of the card's values: what a picture shows."""


def layers_of(item: Mapping[str, Any], of: Of) -> tuple[Layer, ...]:
    """All layers of a result, in the order in which its item lists the files; none for an item without a grid."""
    said = item.get("properties", {})
    if not {"proj:bbox", "proj:shape"} <= said.keys() or not (said.get("proj:code") or said.get("proj:wkt2")):
        return ()
    files = [asset for asset in item.get("assets", {}).values() if _is_raster(asset)]
    return tuple(layer for asset in files for layer in _of_file(asset, item, of))


def _is_raster(asset: Mapping[str, Any]) -> bool:
    name = _name(asset)
    return name.lower().endswith(".tif") and len(asset.get("bands", [])) <= _BANDS and _valid(name)


def _valid(name: str) -> bool:
    try:
        return bool(layer_id("j", name))
    except ValueError:
        return False


def _name(asset: Mapping[str, Any]) -> str:
    return str(asset.get("href", "")).rpartition("/")[2]


def _of_file(asset: Mapping[str, Any], item: Mapping[str, Any], of: Of) -> Iterator[Layer]:
    bands = list(asset.get("bands", [])) or [{}]
    if _is_picture(asset, bands):
        yield _layer(asset, item, of, None, Style(Look.PICTURE, smooth=True))
        return
    for number, band in enumerate(_unmasked(asset, item, bands), 1):
        yield _layer(asset, item, of, number if len(bands) > 1 else None, _style(asset, band, of))


def _unmasked(asset: Mapping[str, Any], item: Mapping[str, Any], bands: list[Any]) -> list[Any]:
    """Bands whose numbers span the colours: of a masked result those of the whole one, so that both look alike."""
    if _name(asset) != _MASKED:
        return bands
    whole = next((one for one in item.get("assets", {}).values() if _name(one) == _RESULT), {})
    found = list(whole.get("bands", []))
    return found if len(found) == len(bands) else bands


def _is_picture(asset: Mapping[str, Any], bands: list[Any]) -> bool:
    return "visual" in asset.get("roles", ()) and len(bands) in _PICTURE and asset.get("data_type", "uint8") == "uint8"


def _layer(asset: Mapping[str, Any], item: Mapping[str, Any], of: Of, band: int | None, style: Style) -> Layer:
    said, name = item["properties"], _name(asset)
    shape = (int(said["proj:shape"][0]), int(said["proj:shape"][1]))
    west, south, east, north = (float(n) for n in item["bbox"])
    least, most = _zooms((west, south, east, north), shape)
    made = Layer(
        layer_id(of.job, name, band), _title(asset, item, band), of.job, of.owner, of.model, name, band or 1,
        str(said.get("proj:code") or said["proj:wkt2"]), _four(said["proj:bbox"]), (west, south, east, north), shape,
        style, "", least, most, _when(said),
    )  # fmt: skip
    text = f"{asset.get('file:checksum', '')}{asset.get('file:size', '')}{made}"
    return replace(made, version=hashlib.sha256(text.encode()).hexdigest()[:24])


def _four(numbers: Any) -> tuple[float, float, float, float]:
    left, bottom, right, top = (float(n) for n in numbers)
    return left, bottom, right, top


def _title(asset: Mapping[str, Any], item: Mapping[str, Any], band: int | None) -> str:
    whole = str(item["properties"].get("title") or item.get("id", ""))
    part = str(asset.get("title") or _name(asset))
    if band:
        part = f"{part}: {asset['bands'][band - 1].get('name', band)}"
    return f"{whole}: {part}" if whole else part


def _when(said: Mapping[str, Any]) -> str:
    if said.get("swathe:datetime_is"):
        return ""
    if said.get("start_datetime"):
        return f"{said['start_datetime']}/{said.get('end_datetime', '..')}"
    return str(said.get("datetime") or "")


def _style(asset: Mapping[str, Any], band: Mapping[str, Any], of: Of) -> Style:
    labels = tuple(_labels(asset))[:_MOST_LABELS]
    if any(not isinstance(label, CodeLabel) for label in labels):
        return Style(Look.CLASSES, labels)
    scale = float(asset.get("raster:scale", 1.0))
    span = of.range if _name(asset) in {_RESULT, _MASKED} and of.range else _span(band, scale)
    smooth = not labels and "metadata" not in asset.get("roles", ())  # codes, numbers of scenes, counts are not mixed
    return Style(Look.VALUES, span=span, scale=scale, unit=str(asset.get("unit", "")), codes=labels, smooth=smooth)


def _labels(asset: Mapping[str, Any]) -> Iterator[ClassLabel]:
    """Classes, and codes of masks."""
    for entry in asset.get("classification:classes", ()):
        colour = str(entry.get("color_hint", ""))
        value = entry.get("value", -1)
        known = 0 <= value < _CODES or value in CODES.values() or bool(entry.get(CODE))
        if entry.get("nodata") or not _COLOUR.fullmatch(colour) or not known:
            continue
        title = entry.get("title") or entry.get("description") or entry.get("name") or value
        kind = CodeLabel if entry.get(CODE) or value >= _CODES else ClassLabel
        yield kind(value=value, name=str(title), colour=f"#{colour.lower()}")


def _span(band: Mapping[str, Any], scale: float) -> tuple[float, float]:
    """Stored numbers: 0..1 of what is scaled, else what a picture of them shows."""
    if scale != 1.0:
        return 0.0, 1.0 / scale
    found = band.get("statistics", {})
    if not {"minimum", "maximum"} <= found.keys():
        return 0.0, 1.0
    low, high = float(found["minimum"]), float(found["maximum"])
    return span_of(low, high, float(found.get("mean", low)), float(found.get("stddev", math.inf)))


def _zooms(bbox: tuple[float, float, float, float], shape: tuple[int, int]) -> tuple[int, int]:
    """The zoom at which the longer side fits a tile, and the first that is as fine as the pixels (within a tenth)."""
    west, south, east, north = bbox
    wide = (east - west) % 360 or 360.0
    shrunk = max(math.cos(math.radians(max(-85.0, min(85.0, (south + north) / 2)))), 1e-3)
    across, down = wide / 360 * _EQUATOR_M, (north - south) / 360 * _EQUATOR_M / shrunk  # of the map
    pixel = min(across / shape[1], down / shape[0])
    finest = math.ceil(math.log2(_EQUATOR_M / _TILE / pixel) - 0.1)
    coarsest = math.floor(math.log2(_EQUATOR_M / max(across, down)))
    most = max(0, min(MOST_ZOOM, finest))
    return max(0, min(most, coarsest)), most
