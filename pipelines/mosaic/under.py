"""Which pixels of a file, or of a tile service, lie under an area; and whether a tile service has anything there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyproj import Transformer

from pipelines.blocks.services import TileSource
from swathe.errors import ImageryError, ReadError
from swathe.imagery import shown
from swathe.scene import AssetGrid
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener
    from pipelines.mosaic.grid import OutputGrid
    from swathe.scene import Asset

_PROBES = (2, 0, 4, 1, 3)
"""Quarters of the area's width and height at which a tile is asked for: the middle and the ends first."""


def under(box: Sequence[float], crs: str, grid: AssetGrid) -> Window | None:
    """Pixels of a file under a box of another CRS. Straight from one to the other: degrees would break at 180."""
    west, south, east, north = Transformer.from_crs(crs, grid.crs, always_xy=True).transform_bounds(
        *box, densify_pts=21
    )
    a, _, c, _, e, f = grid.transform
    cols, rows = ((west - c) / a, (east - c) / a), ((north - f) / e, (south - f) / e)
    top, left = math.floor(min(rows)), math.floor(min(cols))
    asked = Window(top, left, math.ceil(max(rows)) - top, math.ceil(max(cols)) - left)
    return asked.intersection(Window(0, 0, *grid.shape))


def refuse_missing(opener: Opener, asset: Asset, grid: OutputGrid) -> None:
    """Raises ImageryError (``tiles.none``) where a tile service has no tile at any of 25 places in the area.

    A tile that is not there is no data and no fault; but a wrong zoom or template would make a whole map of nothing.
    """
    source = opener.open(asset)
    window = under(grid.area.bounds, grid.frame.crs, source.grid)
    if not isinstance(source, TileSource) or window is None:
        return
    try:
        if any(source.has(row, col) for row, col in _places(window)):
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
