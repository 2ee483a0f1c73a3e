"""Pixels with their meaning: what goes into a model and what comes out. Mask ``True`` means valid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Imagery as read: numbers of the file, and how they become physical units."""

    data: NDArray[np.generic]
    """(T, C, H, W) stored numbers, in the file's own type."""
    mask: NDArray[np.bool_]
    """(T, H, W) True where every band of that date is valid."""
    scale: NDArray[np.float64]
    """(C,) physical = stored * scale + offset."""
    offset: NDArray[np.float64]
    """(C,) see ``scale``. Reflectance is 0..1, SAR is dB or linear power as the sensor profile says."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        t, c, h, w = self.data.shape
        if self.mask.shape != (t, h, w):
            msg = f"mask {self.mask.shape} does not fit data {self.data.shape}"
            raise ValueError(msg)
        if self.scale.shape != (c,) or self.offset.shape != (c,):
            msg = f"scale {self.scale.shape} and offset {self.offset.shape} do not fit {c} bands"
            raise ValueError(msg)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W) True where every date is valid."""
        return np.logical_and.reduce(self.mask, axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A finished block of output at a place of the output grid."""

    row: int
    """First row, in pixels of the output grid."""
    col: int
    """First column, in pixels of the output grid."""
    data: NDArray[np.float32]
    """(K, H, W) probabilities of classes, values of a regression, or an embedding."""
    mask: NDArray[np.bool_]
    """(H, W) True where there is a result."""
