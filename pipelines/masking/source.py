"""What can tell a mask, for any window of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from swathe.masking import Mask
from swathe.window import Window

Bools = NDArray[np.bool_]


class MaskSource(Protocol):
    """One source of one or more masks."""

    @property
    def gaps(self) -> bool:
        """Whether it tells why a pixel has no value (a cloud hid it); else it speaks of pixels with one only."""
        ...

    def at(self, window: Window) -> Mapping[Mask, Bools]:
        """(h, w) of each of its masks, True where it holds; buffered. Raises ReadError."""
        ...

    def told(self, mask: Mask) -> dict[str, Any]:
        """What it is, for the report."""
        ...


def around(window: Window, rows: int, cols: int) -> Window:
    """A window with a margin."""
    return Window(window.row - rows, window.col - cols, window.height + 2 * rows, window.width + 2 * cols)


def grown(found: Bools, radius: float) -> Bools:
    """(h, w) True within so many pixels of what is True, from centre to centre."""
    if radius <= 0 or not found.any():
        return found
    return np.asarray(distance_transform_edt(~found)) <= radius
