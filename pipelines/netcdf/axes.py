"""Which dimensions of a variable are rows, columns and time, as the Climate and Forecast conventions (CF) say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.netcdf.variables import NetCDF, Variable
from pipelines.sandbox.told import Fault, named

_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}
_NORTH = {"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"}
_NAMES = {"lon": "X", "longitude": "X", "lat": "Y", "latitude": "Y", "x": "X", "y": "Y", "time": "T"}
_STANDARD = {
    "longitude": "X", "projection_x_coordinate": "X", "grid_longitude": "X", "projection_x_angular_coordinate": "X",
    "latitude": "Y", "projection_y_coordinate": "Y", "grid_latitude": "Y", "projection_y_angular_coordinate": "Y",
    "time": "T",
}  # fmt: skip
_AUXILIARY = 2
"""Dimensions of coordinates that bend."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Of one variable."""

    variable: Variable
    """The variable."""
    rows: int
    """Place of the dimension that runs north or south."""
    cols: int
    """The same of east and west."""
    y: Variable
    """Its coordinates."""
    x: Variable
    """Its coordinates."""
    time: int | None
    """Place of the dimension of time; None: it has none."""
    moments: Variable | None
    """Times: along that dimension, or a single one for all."""

    @property
    def others(self) -> tuple[int, ...]:
        """Places of all further dimensions: heights, wavelengths, members."""
        return tuple(n for n in range(len(self.variable.dims)) if n not in (self.rows, self.cols, self.time))

    @property
    def steps(self) -> int:
        """Along time; 1 without."""
        return 1 if self.time is None else self.variable.shape[self.time]

    @property
    def bands(self) -> int:
        """Along all further dimensions."""
        return int(np.prod([self.variable.shape[n] for n in self.others], dtype=object))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.variable.shape[self.rows], self.variable.shape[self.cols]


def gridded(file: NetCDF) -> list[Axes]:
    """All variables on a grid of rows and columns, in the order of the file.

    Raises Fault (``curvilinear``, ``variables``) where there is none, with the reason.
    """
    aside = _aside(file)
    found, bent = [], []
    for variable in file.variables.values():
        if variable.name in aside or not variable.is_numbers or len(variable.dims) < _AUXILIARY:
            continue
        axes = _axes(file, variable)
        if axes is not None:
            found.append(axes)
        elif bends(file, variable):
            bent.append(variable)
    if found:
        return found
    if bent:
        raise curvilinear(bent[0])
    raise Fault("variables", "no variable of the file lies on a grid: none has two dimensions with coordinates along "
                "x and y, or longitude and latitude")  # fmt: skip


def letter_of(variable: Variable) -> str:
    """``X``, ``Y``, ``T`` of a coordinate; empty: another one. What it says counts before how it is called."""
    units = variable.text("units").lower().replace(" ", "")
    if units in _EAST or units in _NORTH:
        return "X" if units in _EAST else "Y"
    if "since" in variable.text("units").lower().split():
        return "T"
    standard = _STANDARD.get(variable.text("standard_name"))
    if standard:
        return standard
    axis = variable.text("axis").upper()
    return axis or _NAMES.get(_bare(variable.name).lower(), "")


def bends(file: NetCDF, variable: Variable) -> bool:
    """Whether some longitudes lie along two dimensions of it, named by it or not."""
    there = [one for one in file.variables.values() if len(one.dims) == _AUXILIARY and one is not variable]
    return any(letter_of(one) in ("X", "Y") and set(one.dims) <= set(variable.dims) for one in there)


def curvilinear(variable: Variable) -> Fault:
    """That a variable lies on such a grid; to be raised."""
    return Fault("curvilinear", f"the variable {named(variable.name)} lies on a curvilinear grid: its longitudes and "
                 "latitudes have two dimensions")  # fmt: skip


def is_lonlat(x: Variable, y: Variable) -> bool:
    """Whether these are longitudes and latitudes, and not those of a rotated pole."""
    if "grid_" in x.text("standard_name") + y.text("standard_name"):
        return False
    return _is_degrees(x, _EAST, "lon") and _is_degrees(y, _NORTH, "lat")


def numbers_of(variable: Variable) -> NDArray[np.float64]:
    """Coordinates, unpacked. Those in single precision are the decimals that they stand for: 40.1, not 40.09999847."""
    raw = variable.read((slice(None),) * len(variable.dims))
    scale, offset = (variable.attributes.get(name) for name in ("scale_factor", "add_offset"))
    if scale is not None or offset is not None:
        return raw.astype(np.float64) * _number(scale, 1.0) + _number(offset, 0.0)
    if raw.dtype == np.float32:
        return np.array([float(str(value)) for value in raw.ravel()]).reshape(raw.shape)
    return raw.astype(np.float64)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _axes(file: NetCDF, variable: Variable) -> Axes | None:
    along = [_coordinate(file, variable, dim) for dim in variable.dims]
    letters = [letter_of(one) if one is not None else "" for one in along]
    if letters.count("X") != 1 or letters.count("Y") != 1:
        return None
    rows, cols = letters.index("Y"), letters.index("X")
    y, x = along[rows], along[cols]
    assert y is not None
    assert x is not None
    time = letters.index("T") if "T" in letters else None
    moments = along[time] if time is not None else _scalar_time(file, variable)
    return Axes(variable, rows, cols, y, x, time, moments)


def _coordinate(file: NetCDF, variable: Variable, dim: str) -> Variable | None:
    """Of a dimension: the variable of its name, else one that the variable names and that has no other dimension."""
    own = file.variables.get(dim)
    if own is not None and own.dims == (dim,) and own.is_numbers:
        return own
    named_ones = (file.near(variable, name) for name in variable.text("coordinates").split())
    return next((one for one in named_ones if one is not None and one.dims == (dim,) and one.is_numbers), None)


def _scalar_time(file: NetCDF, variable: Variable) -> Variable | None:
    for name in variable.text("coordinates").split():
        one = file.near(variable, name)
        if one is not None and one.is_numbers and letter_of(one) == "T" and set(one.shape) <= {1}:
            return one
    return None


def _aside(file: NetCDF) -> set[str]:
    """Names of what other variables are described by: coordinates, bounds, grid mappings."""
    found = set()
    for variable in file.variables.values():
        words = [variable.text(key) for key in ("bounds", "climatology", "coordinates", "grid_mapping")]
        for word in " ".join(words).replace(":", " ").split():
            one = file.near(variable, word)
            found |= {one.name} if one is not None else set()
        if variable.dims == (variable.name,) or letter_of(variable) in ("X", "Y"):
            found.add(variable.name)
    return found


def _is_degrees(variable: Variable, units: set[str], name: str) -> bool:
    said = variable.text("units").lower().replace(" ", "")
    if said:
        plain = said in ("degrees", "degree", "deg")
        return said in units or (plain and _bare(variable.name).lower().startswith(name))
    standard = variable.text("standard_name")
    return standard.startswith(name) if standard else _bare(variable.name).lower().startswith(name)


def _bare(name: str) -> str:
    return name.rpartition("/")[2]


def _number(value: Any, otherwise: float) -> float:
    """An attribute that is a number. Raises Fault (``unreadable``)."""
    if value is None:
        return otherwise
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Fault("unreadable", "a scale_factor or add_offset of the file is no number") from None
