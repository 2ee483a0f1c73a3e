"""Which pixels of a file, or of a tile service, lie under an area; and whether a tile service has anything there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.blocks.services import TileSource
from pipelines.mosaic.frame import named, transformer, turns, unrolled
from swathe.errors import ImageryError, ReadError
from swathe.imagery import shown
from swathe.scene import AssetGrid
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener
    from pipelines.mosaic.grid import OutputGrid
    from swathe.scene import Asset

_POINTS = 21
"""Along each side of a box that is bent into another CRS."""
_PROBES = (2, 0, 4, 1, 3)
"""Quarters of the area's width and height at which a tile is asked for: the middle and the ends first."""


def under(box: Sequence[float], crs: str, grid: AssetGrid) -> tuple[Window, ...]:
    """Pixels of a file under a box of another CRS: two windows where the file is cut at a meridian in between."""
    west, south, east, north = box
    x, y = np.meshgrid(np.linspace(west, east, _POINTS), np.linspace(south, north, _POINTS))
    x, y = transformer(named(crs), named(grid.crs)).transform(x.ravel(), y.ravel())
    x, y = unrolled(np.asarray(x), np.asarray(y), named(grid.crs))
    if not len(x):
        return ()
    a, _, c, _, e, f = grid.transform
    rows = (y - f) / e
    top, whole = math.floor(rows.min()), Window(0, 0, *grid.shape)
    windows = []
    for turn in turns(named(grid.crs)):
        cols = (x - c - turn) / a
        left = math.floor(cols.min())
        asked = Window(top, left, math.ceil(rows.max()) - top, math.ceil(cols.max()) - left)
        windows.append(asked.intersection(whole))
    return tuple(dict.fromkeys(window for window in windows if window is not None))  # around a pole all are the same


def refuse_missing(opener: Opener, asset: Asset, grid: OutputGrid) -> None:
    """Raises ImageryError (``tiles.none``) where a tile service has no tile at any of 25 places in the area.

    A tile that is not there is no data and no fault; but a wrong zoom or template would make a whole map of nothing.
    """
    source = opener.open(asset)
    windows = under(grid.area.bounds, grid.frame.crs, source.grid)
    if not isinstance(source, TileSource) or not windows:
        return
    try:
        if any(source.has(row, col) for window in windows for row, col in _places(window)):
            return
    except ReadError:  # a tile that cannot be had is told by the run
        return
    raise ImageryError(
        f"{shown(asset.href)} has no tile in the area",
        code="tiles.none",
        hint="check zoom and scheme of the source's card, its address, and that the service covers the area",
        field="--source",
    )


def _places(window: Window) -> list[tuple[int, int]]:
    """Pixels, spread evenly; those of the middle and the corners come first."""
    spread = [(r, c) for r in _PROBES for c in _PROBES]
    spread.sort(key=lambda at: at not in ((2, 2), (0, 0), (0, 4), (4, 0), (4, 4)))
    return [(window.row + r * (window.height - 1) // 4, window.col + c * (window.width - 1) // 4) for r, c in spread]
