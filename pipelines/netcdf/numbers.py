"""What numbers of a variable mean: what is missing, what is packed, and the type in which all of them can be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sandbox.told import Fault, named

if TYPE_CHECKING:
    from pipelines.netcdf.variables import Variable

_WRITTEN = {
    "int8": "int16", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32", "uint32": "uint32",
    "int64": "float64", "uint64": "float64", "float16": "float32", "float32": "float32", "float64": "float64",
}  # fmt: skip
"""Type of the file -> type of the GeoTIFF, which holds all of its numbers."""
_EXACT = 1 << 53
"""Whole numbers up to here are floating-point numbers as well."""
_FILLED = {
    "int16": -32767, "uint16": 65535, "int32": -2147483647, "uint32": 4294967295, "int64": -9223372036854775806,
    "uint64": 18446744073709551614, "float32": 9.969209968386869e36, "float64": 9.969209968386869e36,
}  # fmt: skip
"""What NetCDF writes where nobody has written anything, and nothing else is said; of bytes there is no such number."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How those of a variable become those of a GeoTIFF."""

    raw: np.dtype[Any]
    """As they are to be seen: unsigned where an attribute says so."""
    dtype: str
    """As they are written."""
    nodata: float | None
    """Number that is written where there is none; None: there is one everywhere."""
    missing: tuple[Any, ...]
    """Stored numbers that stand for none."""
    valid: tuple[float | None, float | None]
    """Stored numbers beyond these are none, either."""
    scale: float
    """physical = stored * scale + offset."""
    offset: float
    """See ``scale``."""
    name: str
    """Of the variable, for messages."""

    def written(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The numbers of the GeoTIFF. Raises Fault (``type``) for what it cannot hold."""
        seen = stored.view(self.raw) if stored.dtype != self.raw else stored
        gone = np.zeros(seen.shape, bool)
        for value in self.missing:
            gone |= seen == value
        for bound, beyond in zip(self.valid, (np.less, np.greater), strict=True):
            if bound is not None:
                gone |= beyond(seen, bound)
        if self.raw.itemsize == np.dtype("int64").itemsize and self.raw.kind in "iu":
            self._expect_exact(seen[~gone])
        found = seen.astype(self.dtype)
        if self.nodata is not None:
            found[gone] = self.nodata
        return found

    def _expect_exact(self, values: NDArray[Any]) -> None:
        if values.size and (int(values.max()) > _EXACT or int(values.min()) < -_EXACT):
            raise Fault("type", f"the variable {named(self.name)} holds whole numbers beyond 2^53, which no type of "
                        "a GeoTIFF keeps that is read here")  # fmt: skip


def numbers_of(variable: Variable) -> Numbers:
    """Raises Fault (``type``, ``unreadable``)."""
    raw = _raw(variable)
    if raw.name not in _WRITTEN:
        raise Fault("type", f"the variable {named(variable.name)} holds numbers of the type {raw.name}")
    scale, offset = (_one(variable, name, other) for name, other in (("scale_factor", 1.0), ("add_offset", 0.0)))
    missing = _missing(variable, raw)
    valid = _valid(variable, raw, packed=(scale, offset) != (1.0, 0.0))
    dtype = _WRITTEN[raw.name]
    nodata = _nodata(raw, dtype, missing, valid)
    return Numbers(raw, dtype, nodata, missing, valid, scale, offset, variable.name)


def _raw(variable: Variable) -> np.dtype[Any]:
    """Classic files have no unsigned integers: an attribute says that they are meant."""
    unsigned = str(variable.attributes.get("_Unsigned", "")).lower()
    if variable.dtype.kind in "iu" and unsigned in ("true", "false"):
        return np.dtype(f"{'u' if unsigned == 'true' else 'i'}{variable.dtype.itemsize}")
    return variable.dtype


def _missing(variable: Variable, raw: np.dtype[Any]) -> tuple[Any, ...]:
    said = [variable.attributes[name] for name in ("_FillValue", "missing_value") if name in variable.attributes]
    found = [_stored(value, raw) for one in said for value in np.atleast_1d(np.asarray(one)).ravel()[:16]]
    kept = [value for value in found if value is not None]
    if not said and raw.name in _FILLED:
        kept = [raw.type(_FILLED[raw.name])]
    return tuple(dict.fromkeys(kept))


def _stored(value: Any, raw: np.dtype[Any]) -> Any:
    """A number as one of the variable's own; None: no number of it can be that one, or is told by being none (NaN)."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        return None
    if raw.kind == "f":
        found = array.astype(raw)
        return None if np.isnan(found) else found[()]
    if array.dtype.kind in "iu" and array.dtype.itemsize == raw.itemsize:
        return array.view(raw)[()]  # -1 of an unsigned byte is 255
    number = float(array)
    limits = np.iinfo(raw)
    whole = number.is_integer() and limits.min <= number <= limits.max
    return raw.type(int(number)) if whole else None


def _valid(variable: Variable, raw: np.dtype[Any], *, packed: bool) -> tuple[float | None, float | None]:
    """Bounds of stored numbers. Of packed ones they count where they have the type of these, as the conventions say."""
    low, high = (variable.attributes.get(name) for name in ("valid_min", "valid_max"))
    both = variable.attributes.get("valid_range")
    if isinstance(both, np.ndarray) and both.shape == (2,):
        low, high = both
    kept = [None if one is None or (packed and np.asarray(one).dtype.kind != raw.kind) else _stored(one, raw)
            for one in (low, high)]  # fmt: skip
    return kept[0], kept[1]


def _nodata(
    raw: np.dtype[Any], dtype: str, missing: tuple[Any, ...], valid: tuple[float | None, float | None]
) -> float | None:
    if raw.kind in "iu" and raw.itemsize == np.dtype("int64").itemsize:
        return float("nan")
    if missing:
        return missing[0].item()
    if raw.kind == "f":
        return float("nan")
    if valid == (None, None):
        return None
    limits = np.iinfo(dtype)  # a number beyond the bounds is free
    if valid[0] is not None and valid[0] > limits.min:
        return float(limits.min)
    return float(limits.max) if valid[1] is not None and valid[1] < limits.max else None


def _one(variable: Variable, name: str, otherwise: float) -> float:
    value = variable.attributes.get(name, otherwise)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not np.isfinite(found) or (name == "scale_factor" and found == 0):
        raise Fault("unreadable", f"{name} of the variable {named(variable.name)} is no number to reckon with")
    return found
