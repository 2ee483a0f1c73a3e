"""What every source of pixels can do, wherever its pixels lie."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from swathe.errors import InputError
from swathe.imagery import shown
from swathe.scene import AssetGrid
from swathe.window import Window


class PixelSource(Protocol):
    """The file or tile service behind one asset. Thread-safe; kept open by its ``Opener``."""

    @property
    def grid(self) -> AssetGrid:
        """Where the pixels of level 0 lie."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the stored numbers."""
        ...

    @property
    def count(self) -> int:
        """Bands, an alpha band among them."""
        ...

    @property
    def nodata(self) -> float | None:
        """Stored number that means nothing: the asset's, else the file's; may be NaN."""
        ...

    @property
    def block(self) -> tuple[int, int]:
        """(rows, cols) of a block of level 0: reading is cheapest along it."""
        ...

    @property
    def overviews(self) -> tuple[AssetGrid, ...]:
        """Coarser levels, from fine to coarse: level n is ``overviews[n - 1]``."""
        ...

    def read(self, indexes: tuple[int, ...], window: Window, level: int = 0) -> NDArray[np.generic]:
        """Stored numbers (n, h, w) of bands counted from 1. The window lies inside the level's grid.

        Raises ReadError for what is lost (``read.lost``, ``read.gone``, ``read.corrupt``, …); never gives zeros for it.
        """
        ...

    def valid(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        """(h, w), what the file's own mask or alpha band says; None where it has none. Raises ReadError."""
        ...

    def bytes_of(self, window: Window, level: int = 0) -> int:
        """Compressed bytes of the blocks that the asset's band has under the window."""
        ...

    def prefetch(self, window: Window, level: int = 0) -> None:
        """Begin to fetch the asset's band there; does not wait, and gives up silently where it would cost too much."""
        ...


def inside(window: Window, shape: tuple[int, int], name: str) -> None:
    """Refuse a window that overhangs the grid. Raises InputError (``window.outside``)."""
    rows, cols = shape
    if window.row < 0 or window.col < 0 or window.bottom > rows or window.right > cols:
        raise InputError(
            f"{window} does not lie inside {shown(name)} ({rows} x {cols} pixels)",
            code="window.outside",
            hint="cut the window to the grid first; the matrix of a tile service does not wrap at ±180°",
        )
