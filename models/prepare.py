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
    """(T, C, H, W) float32 in model units; invalid pixels are 0, which is the mean after normalisation."""
    units = np.empty(stack.data.shape, np.float32)
    fill_units(units, stack.data, stack.mask, gain_and_bias(stack, eats))
    return units


def fill_units(
    units: NDArray[np.float32],
    stored: NDArray[np.generic],
    valid: NDArray[np.bool_],
    scaling: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Write stored numbers into ``units`` as model units, 0 where they are not valid.

    units, stored: (T, C, h, w). valid: (T, h, w). scaling: of ``gain_and_bias``. Band by band, so that what is
    written lies in the cache for the next step: this runs once per pixel of every tile.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        for into, bands in zip(units, stored, strict=True):
            for out, band, gain, bias in zip(into, bands, *scaling, strict=True):
                np.copyto(out, band, casting="unsafe")
                np.multiply(out, gain, out=out)
                np.add(out, bias, out=out)
    if not valid.all():
        np.copyto(units, np.float32(0), where=~valid[:, None])
