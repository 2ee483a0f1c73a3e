"""Radar power, linear or in decibels: numbers of one become numbers of the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from swathe.raster import Stack
from swathe.unit import Conversion


def converted(
    physical: NDArray[np.floating], mask: NDArray[np.bool_], conversion: Conversion
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(C, h, w) float32 in the new unit, 0 where it is not valid; and (h, w) where all bands have a finite number.

    dB = 10 log10(power); computed in float64. What is not above 0 has no decibels: it is no measurement but the border
    of a scene, or noise that was taken off.
    """
    x = physical.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = 10.0 * np.log10(x) if conversion is Conversion.TO_DB else np.power(10.0, x / 10.0)
        out = found.astype(np.float32)
    valid = mask & np.isfinite(out).all(axis=0)
    out[:, ~valid] = 0
    return out, valid


def convert(stack: Stack, conversion: Conversion) -> Stack:
    """A stack in the other unit, float32, with scale 1 and offset 0."""
    scale, offset = (v[:, None, None] for v in (stack.scale, stack.offset))
    dates = [
        converted(data.astype(np.float64) * scale + offset, mask, conversion)
        for data, mask in zip(stack.data, stack.mask, strict=True)
    ]
    bands = len(stack.scale)
    data, mask = np.stack([data for data, _ in dates]), np.stack([mask for _, mask in dates])
    return Stack(data, mask, np.ones(bands), np.zeros(bands))
