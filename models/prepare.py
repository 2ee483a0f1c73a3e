"""From stored numbers to what a network was trained on, in one multiplication and one addition per pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from swathe.card import BandStatistics
from swathe.raster import Stack


def gain_and_bias(stack: Stack, eats: BandStatistics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(C,) and (C,): ``model = stored * gain + bias``, the sensor's and the card's scaling folded into one."""
    count = len(eats.bands)
    mean = np.asarray(eats.mean or (0.0,) * count, dtype=np.float64)
    std = np.asarray(eats.std or (1.0,) * count, dtype=np.float64)
    gain = stack.scale * eats.scale / std
    bias = (stack.offset * eats.scale - mean) / std
    return gain.astype(np.float32), bias.astype(np.float32)


def to_model_units(stack: Stack, eats: BandStatistics) -> NDArray[np.float32]:
    """(T, C, H, W) float32 in model units; invalid pixels are 0, which is the mean after normalisation.

    In place after one conversion: this runs once per pixel of every strip.
    """
    gain, bias = gain_and_bias(stack, eats)
    with np.errstate(invalid="ignore"):
        units = stack.data.astype(np.float32)
        units *= gain[None, :, None, None]
        units += bias[None, :, None, None]
    if not stack.mask.all():
        np.copyto(units, np.float32(0), where=~stack.mask[:, None])
    return units
