"""From coordinates to a grid: regular, north-up, in a coordinate reference system (CRS) that can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.netcdf.axes import Axes, bends, curvilinear, is_lonlat, numbers_of
from pipelines.sandbox.told import Fault, named

if TYPE_CHECKING:
    from pyproj import CRS

    from pipelines.netcdf.variables import NetCDF, Variable

LONLAT = "EPSG:4326"
"""Longitudes and latitudes of which nobody says more."""
_UNEVEN = 1e-3
"""Pixels by which a coordinate may lie elsewhere, beside the rounding of its type."""
_TURN, _HALF = 360.0, 180.0
_METRES = {
    "m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "km": 1e3, "kilometre": 1e3,
    "kilometer": 1e3, "kilometres": 1e3, "kilometers": 1e3,
}  # fmt: skip
_ANGLES = {"rad": 1.0, "radian": 1.0, "radians": 1.0, "microradian": 1e-6, "microradians": 1e-6}
_WGS84 = (6378137.0, 298.257223563)
_SHAPE = ("semi_major_axis", "semi_minor_axis", "inverse_flattening", "earth_radius", "crs_wkt", "spatial_ref",
          "horizontal_datum_name", "reference_ellipsoid_name", "longitude_of_prime_meridian")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a variable lie, and how they are turned to lie so."""

    crs: str
    """``EPSG:n`` where that says it exactly, else WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine, north-up."""
    upside_down: bool
    """The first row of the file is in the south."""
    mirrored: bool
    """The first column of the file is in the east."""
    roll: int
    """Columns that go from the west to the east, after that: longitudes beyond 180."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Evenly spaced centres of pixels."""

    first: float
    last: float
    step: float
    """Below 0 where they fall."""


def grid_of(file: NetCDF, axes: Axes) -> Grid:
    """Raises Fault (``spacing``, ``no_crs``, ``crs``)."""
    x, y = _line(file, axes.x), _line(file, axes.y)
    lonlat = is_lonlat(axes.x, axes.y)
    crs, factor = _reference(file, axes, lonlat=lonlat)
    west, north, roll = min(x.first, x.last), max(y.first, y.last), 0
    dx, dy = abs(x.step), abs(y.step)
    if lonlat:
        west, roll = _wrapped(west, dx, axes.shape[1])
    left, top = (west - dx / 2) * factor, (north + dy / 2) * factor
    transform = (_short(dx * factor), 0.0, _short(left), 0.0, -_short(dy * factor), _short(top))
    return Grid(crs, transform, y.step > 0, x.step < 0, roll)


# --- coordinates ------------------------------------------------------------------------------------------------------


def _line(file: NetCDF, variable: Variable) -> _Line:
    """Of a coordinate. Raises Fault (``spacing``) where there is no such line."""
    values = numbers_of(variable)
    name = named(variable.name)
    if not values.size or not np.isfinite(values).all():
        raise Fault("spacing", f"the coordinates {name} are not all numbers")
    if values.size == 1:
        at = float(values[0])
        return _Line(at, at, _width(file, variable, at))  # which way it would go does not matter
    first, last = float(values[0]), float(values[-1])
    step = (last - first) / (values.size - 1)
    off = np.abs(values - np.linspace(first, last, values.size)).max()
    if step == 0 or off > min(abs(step) / 10, _UNEVEN * abs(step) + _rounding(variable, values)):
        raise Fault("spacing", f"the coordinates {name} are not evenly spaced: the grid is no raster")
    return _Line(first, last, step)


def _rounding(variable: Variable, values: NDArray[np.float64]) -> float:
    """By how much the stored type may have moved a coordinate."""
    if variable.dtype.kind != "f":
        scale = variable.attributes.get("scale_factor")
        return abs(float(scale)) if scale is not None else 0.0
    return 2 * float(np.finfo(variable.dtype).eps) * float(np.abs(values).max())


def _width(file: NetCDF, variable: Variable, at: float) -> float:
    """Of the only pixel there is, from its bounds; it is not guessed. Raises Fault (``spacing``)."""
    bounds = file.near(variable, variable.text("bounds")) if variable.text("bounds") else None
    if bounds is not None and bounds.is_numbers and bounds.shape == (1, 2):
        low, high = sorted(float(value) for value in numbers_of(bounds).ravel())
        if high > low and abs((low + high) / 2 - at) <= _UNEVEN * (high - low):
            return high - low
    raise Fault("spacing", f"there is one coordinate {named(variable.name)} alone, without bounds: the size of its "
                "pixel is not known")  # fmt: skip


def _wrapped(west: float, step: float, count: int) -> tuple[float, int]:
    """The first centre, with longitudes brought to -180 to 180, and the columns to be moved for that.

    A part of the world that crosses 180 stays in one piece, and goes on beyond it.
    """
    left, near = west - step / 2, step * _UNEVEN
    around = abs(count * step - _TURN) <= near
    turns = math.floor((left + near + _HALF) / _TURN)
    west, left = west - turns * _TURN, left - turns * _TURN
    if not around or left <= -_HALF + near:
        return west, 0
    moved = math.ceil((_HALF - west - near) / step)  # the first column whose centre is not west of 180
    return (west, 0) if moved >= count else (west + moved * step - _TURN, moved)


def _short(value: float) -> float:
    """Without the noise of the last digits: 0.1, not 0.10000000000000379."""
    return float(f"{value:.13g}")


# --- where on Earth ---------------------------------------------------------------------------------------------------


def _reference(file: NetCDF, axes: Axes, *, lonlat: bool) -> tuple[str, float]:
    """The CRS, and what coordinates are multiplied by to be in its units. Raises Fault (``no_crs``, ``crs``)."""
    said = axes.variable.text("grid_mapping").split()
    mapping = file.near(axes.variable, said[0].rstrip(":")) if said else None
    if mapping is None:
        if lonlat:
            return LONLAT, 1.0
        if bends(file, axes.variable):
            raise curvilinear(axes.variable)
        raise Fault("no_crs", f"nothing says in which coordinate reference system {named(axes.x.name)} and "
                    f"{named(axes.y.name)} are: there is no grid mapping")  # fmt: skip
    if lonlat and _is_wgs84(mapping.attributes):
        return LONLAT, 1.0
    crs = _crs(mapping)
    if crs.is_geographic != lonlat:
        raise Fault("crs", f"the grid mapping {named(mapping.name)} says {crs.name}, which is not what the coordinates "
                    f"{named(axes.x.name)} and {named(axes.y.name)} are in")  # fmt: skip
    return _told(crs), _factor(axes, mapping, crs)


def _is_wgs84(said: Any) -> bool:
    """Of longitudes and latitudes: what is said of the Earth is WGS 84, or nothing is."""
    if said.get("grid_mapping_name") != "latitude_longitude" or {"crs_wkt", "spatial_ref"} & set(said):
        return False
    if not set(_SHAPE) & set(said):
        return True
    shape = said.get("semi_major_axis"), said.get("inverse_flattening")
    return shape == _WGS84 and not said.get("longitude_of_prime_meridian") and "horizontal_datum_name" not in said


def _crs(mapping: Variable) -> CRS:
    """Raises Fault (``crs``) for what is not known, or has no GeoTIFF."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    said = {name: _of_cf(value) for name, value in mapping.attributes.items()}
    try:
        crs = CRS.from_cf(said)
    except (CRSError, KeyError, ValueError, TypeError):
        kind = str(said.get("grid_mapping_name", "none"))
        raise Fault("crs", f"the grid mapping {named(mapping.name)} ({named(kind)}) is not understood") from None
    if crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if crs.is_derived and not crs.is_projected:
        raise Fault("crs", f"the grid mapping {named(mapping.name)} has a pole of its own ({crs.name})")
    if not (crs.is_projected or crs.is_geographic):
        raise Fault("crs", f"the grid mapping {named(mapping.name)} is a local one without a place on Earth")
    return crs


def _of_cf(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _told(crs: CRS) -> str:
    """Raises Fault (``crs``) where GDAL does not know it."""
    import rasterio.crs
    from rasterio.errors import CRSError

    code = crs.to_epsg(min_confidence=100)
    text = f"EPSG:{code}" if code else crs.to_wkt()
    try:
        known = rasterio.crs.CRS.from_user_input(text)
    except CRSError as error:
        raise Fault("crs", f"the coordinate reference system {crs.name} is not known: {str(error)[:100]}") from None
    return text if code else known.to_wkt()


def _factor(axes: Axes, mapping: Variable, crs: CRS) -> float:
    """From the units of projected coordinates to those of the CRS. Raises Fault (``crs``)."""
    if crs.is_geographic:
        return 1.0
    units = {axes.x.text("units").lower(), axes.y.text("units").lower()} - {""}
    own = crs.axis_info[0].unit_conversion_factor or 1.0
    if not units or units == {crs.axis_info[0].unit_name.lower()}:
        return 1.0
    unit = units.pop()
    if not units and unit in _METRES:
        return _METRES[unit] / own
    height = mapping.attributes.get("perspective_point_height")
    if not units and unit in _ANGLES and height is not None:  # of a geostationary satellite: angles of its view
        return _ANGLES[unit] * float(height) / own
    raise Fault("crs", f"coordinates are in {named(unit)}, and the grid mapping {named(mapping.name)} is not")
