"""Where the blocks of a mosaic begin: with those of its files, where a pixel does not depend on them."""

from __future__ import annotations

from pipelines.mosaic.frame import Frame, named
from pipelines.mosaic.warp import FINER, offset, ratio
from swathe.composite import Composite
from swathe.mosaic import BLOCK, Mosaic
from swathe.scene import Asset
from swathe.source import MaskRule, SourceMask


def first_cell(mosaic: Mosaic, frame: Frame) -> tuple[int, int]:
    """(row, col) on the frame, each below a block's side, of a block's first pixel.

    A file whose pixels are the frame's own, and whose blocks are those of the mosaic, is then read block for block:
    otherwise each block of the mosaic touches four of the file, and a row of them waits for two. Where GDAL warps,
    where a mask has a margin, or where a catalogue does not tell the grids of its files, it is the anchor.
    """
    if mosaic.composite is Composite.BEST or mosaic.tiles is not None or _has_margin(mosaic.mask):
        return 0, 0
    bands = [band for scene in mosaic.scenes for band in scene.bands]
    masks = [scene.mask for scene in mosaic.scenes if scene.mask is not None]
    if not all(_by_pixel(a, frame, nearest=False) for a in bands) or not all(
        _by_pixel(a, frame, nearest=True) for a in masks
    ):
        return 0, 0
    own = (offset(band.grid, frame) for band in bands if band.grid is not None)
    row, col = next((found for found in own if found is not None), (0, 0))
    return row % BLOCK, col % BLOCK


def _has_margin(mask: SourceMask | None) -> bool:
    return mask is not None and (mask.buffer_m > 0 or mask.rule is MaskRule.OMNICLOUDMASK)


def _by_pixel(asset: Asset, frame: Frame, *, nearest: bool) -> bool:
    """Whether it is copied or sampled on the frame's own CRS, for which it does not matter what else is asked for."""
    if asset.grid is None or named(asset.grid.crs) != frame.crs:
        return False
    return nearest or asset.resampling == "nearest" or ratio(asset.grid, frame) <= FINER
