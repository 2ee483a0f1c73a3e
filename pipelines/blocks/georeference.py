"""Where the pixels of an open file lie, in words that everybody here understands; or why that is not known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyproj import CRS as PROJ
from pyproj.exceptions import CRSError as PROJError
from rasterio.errors import CRSError

from swathe.errors import GridError
from swathe.imagery import shown
from swathe.scene import Affine6, AssetGrid

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_NORTH_UP = "make it north-up: gdalwarp IN.tif OUT.tif"
_SLACK_PX = 0.5
"""A catalogue may be this far off, in pixels, before it is taken to speak of another file: it may give centres, or
round."""
_NO_GRID = ("no_crs", "local_crs", "gcps")
"""Troubles of files that say nothing of a grid on Earth, so that their catalogue may."""
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""What GDAL gives as the transform of a file that has none."""


@dataclass(frozen=True, slots=True)
class Georeference:
    """What a file says."""

    crs: str
    """``EPSG:n`` where that says it exactly, else WKT; empty: it does not say."""
    transform: Affine6
    """As stored; the identity where there is none."""
    trouble: str = ""
    """Code of what is wrong, e.g. ``gcps``; empty: nothing."""
    detail: str = ""
    """What is wrong, to be read after the name of the file."""
    hint: str = ""
    """What to do."""


_SAY_IT = "say it: gdal_translate -a_srs EPSG:… -a_ullr ULX ULY LRX LRY IN.tif OUT.tif"
UNPLACED = Georeference("", (1, 0, 0, 0, 1, 0), "no_crs", "does not say where it lies (no transform)", _SAY_IT)
"""A file without a word about its place."""


def georeference(file: DatasetReader) -> Georeference:
    """Of an open dataset; raises nothing."""
    a, b, c, d, e, f = (float(x) for x in list(file.transform)[:6])
    crs = _crs(file)
    trouble = _trouble(file, crs, (a, b, c, d, e, f))
    return Georeference(crs, (a, b, c, d, e, f), *trouble)


def _crs(file: DatasetReader) -> str:
    if file.crs is None:
        return ""
    try:
        epsg = file.crs.to_epsg()
        if epsg is not None and type(file.crs).from_epsg(epsg) == file.crs:
            return f"EPSG:{epsg}"
        return file.crs.to_wkt()
    except CRSError:
        return ""


def _trouble(file: DatasetReader, crs: str, transform: Affine6) -> tuple[str, str, str]:
    """Code, detail and hint of what is wrong; empty where nothing is."""
    a, b, _, d, e, _ = transform
    if not crs and file.gcps[0]:
        what = f"is placed by {len(file.gcps[0])} ground control points, not by a grid"
        return "gcps", what, "warp it onto one: gdalwarp -tps -t_srs EPSG:4326 IN.tif OUT.tif"
    slack = 1e-9 * max(abs(a), abs(e))
    if abs(b) > slack or abs(d) > slack:
        return "rotated", f"is rotated or sheared (by {math.degrees(math.atan2(d, a)):.3g}°)", _NORTH_UP
    if not crs or not all(map(math.isfinite, transform)):
        return "no_crs", "does not say where it lies (no CRS)", _SAY_IT
    if not (file.crs.is_projected or file.crs.is_geographic):
        hint = "say the true one: gdal_translate -a_srs EPSG:… IN.tif OUT.tif"
        return "local_crs", "has a local CRS without a place on Earth", hint
    return _mirrored(a, e)


def _mirrored(a: float, e: float) -> tuple[str, str, str]:
    if a > 0 > e:
        return "", "", ""
    if a > 0 and e > 0:
        return "south_up", "is stored south-up (first row in the south)", _NORTH_UP
    return "mirrored", f"is stored mirrored (pixel size {a:g}, {e:g})", _NORTH_UP


def settle(href: str, shape: tuple[int, int], found: Georeference, told: AssetGrid | None) -> AssetGrid:
    """The grid to use: the file's own; the catalogue's only where the file has none.

    Raises GridError where neither is there, where the file's own cannot be used, or where they contradict each other.
    """
    placed = not found.trouble or (found.trouble not in _NO_GRID and found.transform != _IDENTITY)
    if found.trouble and (told is None or placed):
        raise GridError(f"{shown(href)} {found.detail}", code=f"grid.{found.trouble}", hint=found.hint)
    if told is None:
        return AssetGrid(found.crs, found.transform, shape)
    if tuple(told.shape) != shape:
        raise _contradiction(href, f"has {shape[0]} x {shape[1]} pixels, its catalogue says {tuple(told.shape)}")
    if not placed:
        return told
    if _far(told, found, shape):
        raise _contradiction(href, "lies elsewhere than its catalogue says (proj:transform, proj:code)")
    # The same CRS by either name: the catalogue's is the one that the output grid was laid out by.
    return AssetGrid(told.crs, found.transform, shape)


def _far(told: AssetGrid, found: Georeference, shape: tuple[int, int]) -> bool:
    if told.crs != found.crs and not _same(told.crs, found.crs):
        return True
    rows, cols = shape
    corners = [(0, 0), (cols, rows)]
    (ta, tb, tc, td, te, tf), (a, _, c, _, e, f) = told.transform, found.transform
    return any(
        abs(ta * x + tb * y + tc - (a * x + c)) > _SLACK_PX * abs(a) * 1.01
        or abs(td * x + te * y + tf - (e * y + f)) > _SLACK_PX * abs(e) * 1.01
        for x, y in corners
    )


def _same(one: str, other: str) -> bool:
    try:
        return PROJ.from_user_input(one).equals(PROJ.from_user_input(other), ignore_axis_order=True)
    except PROJError:
        return False


def _contradiction(href: str, what: str) -> GridError:
    return GridError(
        f"{shown(href)} {what}", code="grid.mismatch", hint="the catalogue is wrong: leave the scene out, or correct it"
    )


def coarser(grid: AssetGrid, shape: tuple[int, int]) -> AssetGrid:
    """The same ground in another number of pixels."""
    a, b, c, d, e, f = grid.transform
    down, across = grid.shape[0] / shape[0], grid.shape[1] / shape[1]
    return AssetGrid(grid.crs, (a * across, b * down, c, d * across, e * down, f), shape)
