"""A picture of an image, as people look at satellite scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swathe.bands import TRUE_COLOUR

SHORTWAVE = ("swir22", "nir08", "red")
"""Burned ground brown to magenta, vegetation green, water black."""


def quicklook(image: Path, picture: Path, bands: tuple[str, str, str] = TRUE_COLOUR, width: int = 1600) -> Path:
    """Draw three bands, by description, as a picture (PNG or JPEG, by its suffix) of at most that width.

    The exposure is fixed, so that pictures of two dates compare: half grey at a reflectance of 0.12 (0.2 beyond the
    visible). No data is black. Returns the picture's path.
    """
    import rasterio
    from PIL import Image
    from rasterio.enums import Resampling

    with rasterio.open(image) as source:
        scale = min(1.0, width / source.width)
        shape = (3, max(1, round(source.height * scale)), max(1, round(source.width * scale)))
        index = [source.descriptions.index(b) + 1 for b in bands]
        stored = source.read(index, out_shape=shape, masked=True, resampling=Resampling.average)
        light = stored.filled(0) * np.float32(source.scales[index[0] - 1])
    Image.fromarray(_developed(light, 0.12 if bands == TRUE_COLOUR else 0.20)).save(picture, optimize=True, quality=88)
    return picture


def _developed(light: NDArray[np.floating], grey: float) -> NDArray[np.uint8]:
    """(3, rows, cols) reflectance to (rows, cols, 3) bytes along a film's curve: clouds keep their shapes."""
    curve = 1 - np.exp(-np.log(2) / grey * np.maximum(light, 0))
    return np.rint(255 * np.moveaxis(np.clip(1.04 * curve, 0, 1), 0, -1)).astype(np.uint8)
