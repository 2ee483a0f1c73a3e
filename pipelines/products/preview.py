"""``preview.png``: the result at a glance, with title, legend and scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipelines.products.ground import pixel_metres
from pipelines.products.layer import Kind, LayerSpec
from pipelines.products.page import Caption, Entry, page
from pipelines.products.parts import refusals
from pipelines.products.picture import Picture, covered, picture
from swathe.card import ClassLabel


@dataclass(frozen=True, slots=True)
class Wording:
    """What a preview says."""

    title: str
    """One line."""
    subtitle: str = ""
    """Model, date, place."""
    footer: str = ""
    """Credits."""
    notes: Mapping[int, str] = field(default_factory=dict)
    """Class value -> text behind its name in the legend, e.g. its share."""


@dataclass(frozen=True, slots=True)
class Masked:
    """What is laid over a result: codes of what is masked."""

    cog: Path
    """``masked.tif``, on the grid of the result."""
    codes: tuple[ClassLabel, ...]
    """Each with its name and colour."""


def write_preview(  # noqa: PLR0913  a result, what it is, what is said of it
    cog: Path,
    layer: LayerSpec,
    grid: GeoBox,
    target: Path,
    wording: Wording,
    *,
    background: NDArray[np.uint8] | None = None,
    masked: Masked | None = None,
    side: int = 1024,
) -> Path:
    """Draw ``result.tif`` from its overviews.

    background: (h, w, 3) red, green and blue of the same extent, any size, shown under the classes; the class that is
    background is then not drawn. masked: drawn over the result. side: of the map, in pixels. Raises OutputError where
    the disk is full or locked.
    """
    across, down = pixel_metres(grid)
    overlay = background is not None and layer.kind is Kind.CLASSES
    shown = picture(cog, layer, side, across / down, overlay=overlay)
    if masked is not None:
        shown = covered(shown, masked.cog, layer, masked.codes)
    under = None if background is None else Image.fromarray(background)
    classes = (*(layer.drawn if overlay else layer.classes), *(masked.codes if masked else ()))
    image = page(shown, _caption(shown, layer, grid, wording, classes), under)
    fresh = target.with_name(f".{target.name}.fresh")
    with refusals(target.parent):
        image.save(fresh, "PNG", pnginfo=_information(wording))
        fresh.replace(target)
    return target


def _caption(
    shown: Picture, layer: LayerSpec, grid: GeoBox, wording: Wording, classes: tuple[ClassLabel, ...]
) -> Caption:  # fmt: skip
    band = layer.result.bands[0] if layer.kind is Kind.VALUES else ""
    unit = f"{band} ({layer.result.unit})" if layer.result.unit else band
    subtitle = wording.subtitle
    if layer.kind is Kind.EMBEDDING:
        unit = "first three principal components as red, green and blue"
        subtitle = f"{subtitle} - {unit}" if subtitle else unit
    return Caption(
        wording.title,
        subtitle,
        wording.footer,
        tuple(Entry(c.colour, c.name, wording.notes.get(c.value, "")) for c in classes),
        unit,
        pixel_metres(grid)[1] * grid.shape[0] / shown.rgba.shape[0],
        nodata=not shown.valid.all(),
    )


def _information(wording: Wording) -> PngInfo:
    information = PngInfo()
    information.add_itxt("Title", wording.title)
    information.add_itxt("Software", "swathe")
    return information
