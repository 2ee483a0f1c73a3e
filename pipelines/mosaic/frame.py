"""The endless pixel grid of a CRS at one resolution, counted from an anchor: what every area's grid is a window of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError

from swathe.errors import GridError
from swathe.mosaic import BLOCK, Mosaic
from swathe.scene import Affine6
from swathe.window import Window

DEGREE_M = 111_319.490793
"""Metres of a degree along the equator of WGS84."""
_DIGITS = 6
"""A phase is kept to so many decimals of a pixel: what a corner in floating point still tells for certain."""
_NEARLY = 0.01
"""Pixels whose ground size differs by less from their nominal one (UTM: 0.1 %) are taken at their word."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An endless grid, north-up, with square pixels; rows count southwards."""

    crs: str
    """``EPSG:n``, or WKT."""
    res: float
    """Side of a pixel in units of the CRS."""
    phase: tuple[float, float] = (0.0, 0.0)
    """(x, y) of the anchor, in pixels from the origin of the CRS, 0..1."""

    @classmethod
    def of(cls, mosaic: Mosaic) -> Self:
        """The frame that a mosaic's grid is a window of; the same for any area, to the last bit."""
        return cls.through(mosaic.crs, mosaic.transform)

    @classmethod
    def through(cls, crs: str, transform: Affine6) -> Self:
        """The frame that any north-up grid of square pixels is a window of."""
        res = transform[0]
        return cls(named(crs), res, (part_of_pixel(transform[2] / res), part_of_pixel(transform[5] / res)))

    def transform(self, window: Window) -> Affine6:
        """Affine (a, b, c, d, e, f) of a window of it."""
        x, y = self.phase
        return (self.res, 0.0, (x + window.col) * self.res, 0.0, -self.res, (y - window.row) * self.res)

    def pixels(self, x: float, y: float) -> tuple[float, float]:
        """(row, col) of a place, counted from the anchor; whole numbers are corners of pixels."""
        return self.phase[1] - y / self.res, x / self.res - self.phase[0]

    def blocks(self, window: Window) -> Iterator[Window]:
        """Anchored blocks that a window touches, whole, row by row."""
        for row in range(window.row // BLOCK, -(-window.bottom // BLOCK)):
            for col in range(window.col // BLOCK, -(-window.right // BLOCK)):
                yield Window(row * BLOCK, col * BLOCK, BLOCK, BLOCK)

    def ground_m(self, window: Window) -> tuple[float, float]:
        """Metres of a pixel in the middle of a window, (down, across)."""
        return self._ground_m(window.row + window.height / 2, window.col + window.width / 2)

    def shrunk(self, lon: float, lat: float) -> tuple[float, float]:
        """What of its nominal size a pixel has on the ground at a place, (down, across); 1 where it cannot be told."""
        x, y = transformer(LONLAT, self.crs).transform(lon, lat)
        if not (math.isfinite(x) and math.isfinite(y)):
            return 1.0, 1.0
        nominal = self.res * unit_m(self.crs)
        down, across = self._ground_m(*self.pixels(x, y))
        return down / nominal, across / nominal

    def _ground_m(self, row: float, col: float) -> tuple[float, float]:
        nominal = self.res * unit_m(self.crs)
        corners = [(row, col), (row + 1, col), (row, col + 1)]
        xy = np.array([((self.phase[0] + c) * self.res, (self.phase[1] - r) * self.res) for r, c in corners])
        lon, lat = transformer(self.crs, LONLAT).transform(xy[:, 0], xy[:, 1])
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return nominal, nominal
        _, _, sides = Geod(ellps="WGS84").inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])
        down, across = (nominal if abs(side / nominal - 1) < _NEARLY else float(side) for side in sides)
        return down, across


LONLAT = "OGC:CRS84"
_PSEUDO = "Popular Visualisation Pseudo Mercator"
_CYLINDERS = frozenset({
    _PSEUDO, "Mercator (variant A)", "Mercator (variant B)", "Mercator (Spherical)", "Equidistant Cylindrical",
    "Equidistant Cylindrical (Spherical)", "Lambert Cylindrical Equal Area",
    "Lambert Cylindrical Equal Area (Spherical)",
})  # fmt: skip
"""Methods by which x grows with longitude alone."""


def part_of_pixel(value: float) -> float:
    """What is left of a whole number of pixels, 0..1, rounded so that it does not depend on which pixel it was."""
    return round(value - math.floor(value), _DIGITS) % 1.0


@cache
def named(crs: str) -> str:
    """``EPSG:n`` where there is such a number, else WKT, so that equal CRS are equal strings. Raises GridError."""
    try:
        found = CRS.from_user_input(crs)
    except CRSError:
        raise GridError(f"{crs[:80]!r} is no CRS", code="grid.crs", hint="write EPSG:32633", field="--crs") from None
    authority = found.to_authority(min_confidence=100)
    return ":".join(authority) if authority else found.to_wkt()


@cache
def is_geographic(crs: str) -> bool:
    """Whether its units are degrees."""
    return CRS.from_user_input(crs).is_geographic


@cache
def unit_m(crs: str) -> float:
    """Metres of its unit; of a degree, along the equator."""
    found = CRS.from_user_input(crs)
    if found.is_geographic:
        return DEGREE_M
    return next((axis.unit_conversion_factor for axis in found.axis_info), 1.0) or 1.0


@cache
def transformer(source: str, target: str) -> Transformer:
    """Kept, because looking one up takes long; x before y, always."""
    return Transformer.from_crs(source, target, always_xy=True)


# --- round the world ------------------------------------------------------------------------------------------------


@cache
def period(crs: str) -> float:
    """What x gains once round the world, in units of the CRS, where places on both sides of its cut are neighbours.

    360 for degrees, 2 pi 6378137 m for web Mercator; 0 for a CRS that is not cut along a meridian (UTM, polar ones).
    """
    found = CRS.from_user_input(crs)
    if found.is_geographic:
        return 2 * math.pi / found.axis_info[0].unit_conversion_factor  # there are longitudes in grads
    way = found.coordinate_operation
    if way is None or way.method_name not in _CYLINDERS or found.geodetic_crs is None:
        return 0.0
    x, _ = Transformer.from_crs(found.geodetic_crs, found, always_xy=True).transform([-90.0, 0.0, 90.0], [0.0] * 3)
    return float(4 * max(x[1] - x[0], x[2] - x[1]))  # one of the two may hold the cut


def turns(crs: str) -> tuple[float, ...]:
    """What may have to be added to x of a file so that it lies beside a place that is counted in another turn."""
    whole = period(crs)
    return (0.0, -whole, whole) if whole else (0.0,)


def turned(x: NDArray[np.float64], middle: float, whole: float = 360.0) -> NDArray[np.float64]:
    """Longitudes (x of a CRS of this period), moved by whole turns to within half a turn of ``middle``."""
    return x - whole * np.round((x - middle) / whole)  # what need not be moved stays as it is, to the last bit


def beside(
    x: NDArray[np.float64], lon: NDArray[np.float64], whole: float, about: tuple[float, float]
) -> NDArray[np.float64]:
    """Eastings of a CRS of this period at longitudes that run on: moved by whole turns so that they run on likewise.

    ``about``: an easting that stays where it is, and its longitude. There are no ties, however wide it is.
    """
    return x - whole * np.round((x - about[0]) / whole - (lon - about[1]) / 360.0)


def unrolled(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places all over a window that the cut of a CRS may cross, side by side; those without a place there left out.

    Around a pole there are all meridians, whichever turn they are counted in, and the pole: few points show neither.
    """
    known, whole = np.isfinite(x) & np.isfinite(y), period(crs)
    x, y = x[known], y[known]
    if not whole or not len(x):
        return x, y
    middle = len(x) // 2
    beside = turned(x, float(x[middle]), whole)
    if np.ptp(beside) < whole / 2:
        return beside, y
    pole = np.copysign(90.0 if is_geographic(crs) else whole, y[middle])
    return np.append(x, [-whole, whole]), np.append(y, [pole, pole])


def overrun(x: NDArray[np.float64], crs: str) -> int:
    """Over which end of a projected CRS x runs, east (1) or west (-1) of its cut; 0: over none."""
    west, east = ends(crs)
    if west == east or not len(x):
        return 0
    return 1 if x.max() > east else -1 if x.min() < west else 0


@cache
def ends(crs: str) -> tuple[float, float]:
    """Eastings of the western and the eastern side of its cut; equal for a CRS without a ``period``."""
    half, middle = period(crs) / 2, _easting(crs)
    return middle - half, middle + half


def _easting(crs: str) -> float:
    way = CRS.from_user_input(crs).coordinate_operation
    return next((float(p.value) for p in way.params if p.name == "False easting"), 0.0) if way is not None else 0.0


@cache
def cut_behind(crs: str, end: int) -> str:
    """The same cylinder, cut on the other side of the world: x run on where the CRS ends, east (1) or west (-1).

    For GDAL, which knows longitudes that run on, and no other x that do. Of a projected CRS with a ``period``.
    """
    found = CRS.from_user_input(crs)
    half = end * period(crs) / 2
    said = found.to_json_dict()
    said.pop("id", None)
    if said["conversion"]["method"]["name"] == _PSEUDO:  # by that name GDAL knows one alone
        return f"+proj=webmerc +datum=WGS84 +lon_0=180 +x_0={half!r} +units=m +no_defs"
    for one in said["conversion"]["parameters"]:
        if one["name"] == "Longitude of natural origin":
            one["value"] += 180.0 if one["value"] <= 0 else -180.0
        elif one["name"] == "False easting":
            one["value"] += half
    return CRS.from_json_dict(said).to_wkt()
