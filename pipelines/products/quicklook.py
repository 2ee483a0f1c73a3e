"""``quicklook.tif``: the imagery in colours, small, to lay under a result. To look at, not to compute with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from pipelines.products.parts import refusals

_OPTIONS = {"COMPRESS": "ZSTD", "LEVEL": 6, "PREDICTOR": "YES", "BLOCKSIZE": 512, "OVERVIEW_RESAMPLING": "AVERAGE",
            "OVERVIEW_COMPRESS": "ZSTD", "STATISTICS": "NO"}  # fmt: skip


def write_quicklook(colours: NDArray[np.uint8], transform: Affine, crs: CRS, target: Path) -> Path:
    """A Cloud-Optimized GeoTIFF of (h, w, 3) red, green and blue, in which 0 is nodata.

    The same colours give the same bytes; the file appears whole or not at all. Raises OutputError where the disk is
    full or locked.
    """
    height, width, bands = colours.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint8", "nodata": 0,
               "crs": crs.to_wkt(), "transform": transform, "photometric": "RGB"}  # fmt: skip
    fresh = target.with_name(f".{target.name}.fresh")
    with refusals(target.parent), rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            file.write(colours.transpose(2, 0, 1))
        try:
            rasterio.shutil.copy(memory.name, fresh, driver="COG", **_OPTIONS)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    return target
