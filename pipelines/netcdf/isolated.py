"""From a NetCDF file to GeoTIFFs: it is opened in the sandbox alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.imagery.archive import LIMITS, Limits
from pipelines.imagery.peek import begins_as_netcdf
from pipelines.netcdf.convert import Most
from pipelines.sandbox.bounds import MIB, Bounds
from pipelines.sandbox.conversion import (
    BOUNDS,
    LONGEST_NAME,
    SIDE,
    Conversion,
    Errors,
    Job,
    Nonsense,
    converted,
    plain,
    program_of,
    safe,
)
from pipelines.search.names import time_in
from swathe.errors import GridError, ImageryError, LimitError

ENDINGS = frozenset({".nc", ".nc4", ".cdf", ".netcdf"})
"""What such files are called; they are known by their first bytes."""
IMAGES, BANDS = 500, 64
"""What one file may become: images, and bands of each."""
_WHEN = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_CUT = "cut it into parts: ncks -d time,0,9 IN.nc OUT.nc, or cdo"
_CONVERT = "convert it to GeoTIFF first: gdal_translate NETCDF:IN.nc:VARIABLE OUT.tif"
_WARP = "warp it onto a regular grid first: gdalwarp -t_srs EPSG:4326 NETCDF:IN.nc:VARIABLE OUT.tif"
_FAULTS: dict[str, tuple[Errors, str]] = {
    "unreadable": (ImageryError, "the file is damaged or incomplete; check it with ncdump"),
    "format": (ImageryError, "write it anew as netCDF-4: nccopy -k nc4 IN.nc OUT.nc"),
    "external": (ImageryError, "put all numbers into the one file: nccopy IN.nc OUT.nc"),
    "variables": (ImageryError, "give variables with coordinates that say units, standard_name or axis (CF)"),
    "type": (ImageryError, "write it as int32 or float64"),
    "curvilinear": (GridError, _WARP),
    "spacing": (GridError, _WARP),
    "no_crs": (GridError, "add a grid mapping (CF), e.g. with rioxarray: write_crs"),
    "crs": (GridError, _WARP),
    "images": (LimitError, _CUT),
    "bands": (LimitError, "choose fewer of them: ncks -d level,0,9 IN.nc OUT.nc"),
    "size": (LimitError, _CUT),
    "memory": (LimitError, _CUT),
    "time": (LimitError, _CUT),
    "output": (LimitError, _CUT),
}


@dataclass(frozen=True, slots=True)
class Image:
    """A GeoTIFF made from a NetCDF file."""

    path: Path
    """Where it lies."""
    variable: str
    """What the file calls it."""
    when: str
    """RFC 3339 in UTC; empty: the file does not say it."""


def images_of(
    path: Path, folder: Path, *, bounds: Bounds = BOUNDS, limits: Limits = LIMITS,
    check: Callable[[], None] = lambda: None,
) -> list[Image]:  # fmt: skip
    """Each variable at each moment as a GeoTIFF in ``folder``, a new one that appears when all are there.

    Their names hold variable and date. Numbers are stored as they were, with nodata, scale and offset in tags.
    ``check`` raises where it is to stop.

    Raises ImageryError (``netcdf.isolation``, ``.unreadable``, ``.variables``, …), GridError (``netcdf.spacing``, …),
    LimitError (``netcdf.size``, ``.images``, ``.time``, …), OSError; then nothing is left behind.
    """
    _expect_usual(path, bounds)
    most = Most(IMAGES, BANDS, min(SIDE, limits.side), min(bounds.output_mb, limits.total_mb))
    found = converted(Job(NETCDF, path, "file.nc", folder, most, bounds, limits, check))
    return [Image(image, variable, when) for image, (variable, when) in found]


def _expect_usual(path: Path, bounds: Bounds) -> None:
    if not begins_as_netcdf(path):
        raise NETCDF.problem("unreadable", f"{path.name} is no NetCDF")
    most = bounds.memory_mb * MIB // 2  # a classic file is mapped into memory
    if path.stat().st_size > most:
        raise NETCDF.problem(
            "size", f"{path.name} has more than {most / MIB:,.0f} MB, which is the most that is taken of NetCDF"
        )


def _read(said: Mapping[str, Any], stem: str) -> tuple[str, tuple[str, str]]:
    """Name of an image, its variable and its moment."""
    variable, when, step = (said.get(key) for key in ("variable", "when", "step"))
    if not isinstance(variable, str) or not isinstance(step, int):
        raise Nonsense
    when = when if isinstance(when, str) and _WHEN.fullmatch(when) else ""
    # Names are what images are dated by: of two dates in one, the file's own would be taken for that of the moment.
    begin = "" if when and time_in(Path(stem)) else f"{safe(stem)}_"
    return f"{begin}{safe(variable)}{_ending(when, step)}", (plain(variable, LONGEST_NAME), when)


def _ending(when: str, step: int) -> str:
    """Its moment in a name, as far as it has one: a day, or a day and a time."""
    if not when:
        return f"_{step:04d}" if step else ""
    return f"_{when[:10]}" if when.endswith("T00:00:00Z") else f"_{when[:-1].replace(':', '')}"


NETCDF = Conversion(
    code="netcdf", format="NetCDF", package="netcdf",
    modules=("__init__", "axes", "convert", "grid", "moments", "numbers", "variables"),
    run=program_of("netcdf"), images=IMAGES, read=_read, faults=_FAULTS, otherwise=_CONVERT,
)  # fmt: skip
