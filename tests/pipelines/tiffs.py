"""Small GeoTIFFs whose pixels say where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin


def pixels(bands: int, rows: int, cols: int, dtype: str = "int16") -> np.ndarray:
    """(bands, rows, cols): no two neighbours alike, none 0."""
    b, r, c = np.ogrid[:bands, :rows, :cols]
    return (1 + (b * 7919 + r * 211 + c * 13) % 29_000).astype(dtype)


def write_tif(path: Path, data: np.ndarray, **options: Any) -> Path:
    """Write (bands, rows, cols); UTM 32N, 10 m, unless told otherwise."""
    tags = {k: options.pop(k) for k in ("descriptions", "scales", "offsets", "colorinterp") if k in options}
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": data.shape[0],
        "height": data.shape[1],
        "width": data.shape[2],
        "dtype": data.dtype,
        "crs": "EPSG:32632",
        "transform": from_origin(500_000, 5_000_000, 10, 10),
        **options,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
        for name, value in tags.items():
            setattr(file, name, value)
    return path
