"""Small GeoTIFFs whose pixels say where they are."""

from __future__ import annotations

import struct
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


def write_claim(path: Path, bands: int, side: int, width: int | None = None) -> Path:
    """A file of some kB that claims square tiles of many bands, interleaved by pixel; none can be decoded."""
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=side, width=width or side, dtype="uint8", crs="EPSG:32632",
        transform=from_origin(500_000, 5_000_000, 10, 10), tiled=True, blockxsize=side, blockysize=side,
        interleave="pixel", compress="deflate", SPARSE_OK=True,
    ):  # fmt: skip
        pass
    content = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, _, count, value = struct.unpack_from("<HHII", content, at)
        if tag in (324, 325):  # where the tiles lie, and how long they are
            said = len(content) if tag == 324 else 64
            struct.pack_into("<H", content, at + 2, 4)
            struct.pack_into(f"<{count}I", content, at + 8 if count == 1 else value, *[said] * count)
    path.write_bytes(content + b"no deflate" * 20)
    return path
