"""Layers as sources of masks: rasters of numbers, polygons, and masks in files of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from odc.geo.geobox import GeoBox

from pipelines.masking.nearest import read_at
from pipelines.masking.source import Bools, around, grown
from pipelines.masking.vector import drawn, polygons_of
from pipelines.mosaic import masks
from pipelines.mosaic.warp import View
from swathe.errors import ImageryError
from swathe.imagery import shown
from swathe.masking import Mask, MaskFile, MaskLayer
from swathe.scene import Asset
from swathe.source import MaskRule
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener

WORDS: dict[Mask, tuple[str, ...]] = {
    Mask.CLOUDS: ("cloud", "shadow", "cirrus"),
    Mask.SNOW: ("snow",),
    Mask.WATER: ("water",),
}
"""What the masks of scenes call it."""


class RasterLayer:
    """Numbers of which some are masked."""

    gaps = False

    def __init__(self, card: MaskLayer, opener: Opener, grid: GeoBox, buffer_px: int) -> None:
        """Open nothing yet."""
        self._card, self._opener, self._grid, self._buffer = card, opener, grid, buffer_px

    def at(self, window: Window) -> Mapping[Mask, Bools]:
        """See :class:`MaskSource`."""
        outer = around(window, self._buffer, self._buffer)
        found, known = np.zeros((outer.height, outer.width), bool), np.zeros((outer.height, outer.width), bool)
        for href in self._card.files:
            view = view_of(self._opener, Asset("layer", href, self._card.band))
            data, valid = read_at(view, self._grid, outer)
            found |= self._masked(data[0]) & valid & ~known
            known |= valid
            if known.all():
                break
        inner = grown(found, self._buffer)[window.within(outer)]
        return dict.fromkeys(self._card.masks, inner)

    def _masked(self, numbers: np.ndarray) -> Bools:
        card = self._card
        listed = np.isin(numbers, card.values)
        if card.at_least is None and card.at_most is None:
            return listed
        low = -np.inf if card.at_least is None else card.at_least
        high = np.inf if card.at_most is None else card.at_most
        return listed | ((numbers >= low) & (numbers <= high))

    def told(self, mask: Mask) -> dict[str, Any]:
        """See :class:`MaskSource`."""
        _ = mask
        limits = self._card.model_dump(mode="json", include={"values", "at_least", "at_most"}, exclude_none=True)
        return self._card.told() | {k: v for k, v in limits.items() if v != []}


class VectorLayer:
    """Polygons, inside or outside of which is masked."""

    gaps = False

    def __init__(self, card: MaskLayer, grid: GeoBox, buffer_px: int) -> None:
        """Open nothing yet."""
        self._card, self._grid, self._buffer = card, grid, buffer_px
        self._polygons = [polygons_of(Path(file)) for file in card.files]

    def at(self, window: Window) -> Mapping[Mask, Bools]:
        """See :class:`MaskSource`."""
        outer = around(window, self._buffer, self._buffer)
        found = np.zeros((outer.height, outer.width), bool)
        for polygons in self._polygons:
            found |= drawn(polygons, self._grid, outer)
        if self._card.outside:
            found = ~found
        return dict.fromkeys(self._card.masks, grown(found, self._buffer)[window.within(outer)])

    def told(self, mask: Mask) -> dict[str, Any]:
        """See :class:`MaskSource`."""
        _ = mask
        return self._card.told()


class MaskFiles:
    """Masks of one's own, in files: of given imagery, which brings none. Any of them hides a pixel."""

    gaps = True

    def __init__(
        self, files: Sequence[MaskFile], opener: Opener, grid: GeoBox, wanted: Sequence[Mask], buffer_px: int
    ) -> None:
        """``wanted``: what they are asked for."""
        self._files, self._opener, self._grid = tuple(files), opener, grid
        self._wanted, self._buffer = tuple(wanted), buffer_px

    def at(self, window: Window) -> Mapping[Mask, Bools]:
        """See :class:`MaskSource`."""
        outer = around(window, self._buffer, self._buffer)
        found = {mask: np.zeros((outer.height, outer.width), bool) for mask in self._wanted}
        for file in self._files:
            view = view_of(self._opener, Asset(file.rule.value, file.href))
            data, valid = read_at(view, self._grid, outer)
            for mask in self._wanted:
                if tells(file.rule, mask):
                    found[mask] |= masks.says(data[0], file.rule, WORDS[mask]) & valid
        return {mask: grown(said, self._buffer)[window.within(outer)] for mask, said in found.items()}

    def told(self, mask: Mask) -> dict[str, Any]:
        """See :class:`MaskSource`."""
        mine = [file for file in self._files if tells(file.rule, mask)]
        return {
            "kind": "files",
            "files": [shown(file.href) for file in mine],
            "rule": sorted({file.rule.value for file in mine}),
            "words": list(WORDS[mask]),
        }


def tells(rule: MaskRule, mask: Mask) -> bool:
    """Whether masks of this rule can say it."""
    return any(masks.knows(rule, word) for word in WORDS.get(mask, ()))


def view_of(opener: Opener, asset: Asset) -> View:
    """One band of a file, its numbers as they are. Raises ReadError, ImageryError."""
    source = opener.open(asset)
    if source.grid.transform[1] or source.grid.transform[3]:
        raise ImageryError(
            f"{shown(asset.href)} is rotated", code="layer.rotated", hint="warp it to a north-up grid first"
        )
    return View(source, (asset.index,), "nearest", asset.nodata if asset.nodata is not None else source.nodata)
