"""Places by the names of their tiles: ``z/x/y`` of the web map, squares of MGRS; and everything that is an area."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import shapely
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from pipelines.imagery.area import read_area
from swathe.aoi import AOI
from swathe.errors import AreaError

_XYZ = re.compile(r"(\d{1,2})/(\d{1,9})/(\d{1,9})")
_MGRS = re.compile(r"T?(\d{1,2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V](?:\d\d){0,5})", re.IGNORECASE)
_DEEPEST = 24
_STEPS = 33
_HUNDRED_KM = 100_000


def read_place(text: str) -> AOI:
    """``12/2200/1343`` or ``33UXP``, several with commas; else as ``read_area``: bounds, GeoJSON, WKT, a file.

    An MGRS name is the square of that grid (100 km, or smaller with digits), cut at the borders of its UTM zone, not
    the slightly larger tile that Sentinel-2 products have. Raises AreaError (``area.tile`` beside read_area's).
    """
    return named_place(text) or read_area(text)


def named_place(text: str) -> AOI | None:
    """The same for names of tiles alone; None for everything else. Raises AreaError (``area.tile``)."""
    parts = [part.strip() for part in text.split(",")]
    if parts and all(_XYZ.fullmatch(part) for part in parts):
        return AOI.of(shapely.union_all([_tile(part) for part in parts]))
    if parts and all(_MGRS.fullmatch(part) for part in parts):
        return AOI.of(shapely.union_all([_square(part) for part in parts]))
    return None


def _tile(text: str) -> BaseGeometry:
    """Of the web map's pyramid (OSM, Google; y counts from the north), by morecantile."""
    import morecantile

    z, x, y = (int(group) for group in _XYZ.fullmatch(text).groups())  # pyright: ignore[reportOptionalMemberAccess]
    if z > _DEEPEST or x >= 1 << z or y >= 1 << z:
        raise _error(f"there is no tile {text}", "it is z/x/y: at zoom z, x and y run from 0 to 2^z - 1")
    return shapely.box(*morecantile.tms.get("WebMercatorQuad").bounds(morecantile.Tile(x, y, z)))


def _square(text: str) -> BaseGeometry:
    """A square of MGRS as a polygon in longitude and latitude, its edges bent as they are on the ground."""
    import mgrs

    name = text.upper().lstrip("T")
    digits = len(re.sub(r"^\d{1,2}[A-Z]{3}", "", name)) // 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it warns of squares that begin in another latitude band
            zone, hemisphere, *middle = mgrs.MGRS().MGRSToUTM(name)
    except (mgrs.core.MGRSError, RuntimeError):
        raise _error(f"there is no MGRS square {text}", "write it like 33UXP") from None
    side = _HUNDRED_KM / 10**digits
    east, north = (math.floor(v / side) * side for v in middle)  # mgrs 1.6 gives the middle, 1.5 the corner
    steps = np.linspace(0, side, _STEPS)
    x = np.concatenate([steps, np.full(_STEPS, side), steps[::-1], np.zeros(_STEPS)]) + east
    y = np.concatenate([np.zeros(_STEPS), steps, np.full(_STEPS, side), steps[::-1]]) + north
    lon, lat = Transformer.from_crs(_epsg(zone, hemisphere), "OGC:CRS84", always_xy=True).transform(x, y)
    west = -180 + 6 * (zone - 1)
    lon = west + 3 + (np.asarray(lon) - west - 3 + 180) % 360 - 180
    found = shapely.intersection(shapely.Polygon(np.column_stack([lon, lat])), _zone(name, zone))
    if found.is_empty or not math.isfinite(found.area) or found.area == 0:
        raise _error(f"the MGRS square {text} lies outside its zone", "check its letters")
    return found


def _epsg(zone: int, hemisphere: str) -> str:
    return f"EPSG:{(32600 if hemisphere == 'N' else 32700) + zone}"


def _zone(name: str, zone: int) -> BaseGeometry:
    """The zone's strip; Norway and Svalbard, where zones are bent, are left as wide as their squares are."""
    west = -180.0 + 6 * (zone - 1)
    bent = name.lstrip("0123456789")[0] in "VX"
    return shapely.box(west - 6, -90, west + 12, 90) if bent else shapely.box(west, -90, west + 6, 90)


def _error(detail: str, hint: str) -> AreaError:
    return AreaError(detail, code="area.tile", hint=hint, field="--aoi")
