"""Variables of a NetCDF file, whichever of its formats it has: classic (CDF-1, CDF-2) or netCDF-4, which is HDF5.

Part of the program in the sandbox: nothing else may open such a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sandbox.told import Fault, named

Index = tuple[int | slice, ...]
MOST = 10_000
"""Variables of a file."""
_CACHE = 128 << 20
"""Bytes of decoded chunks that are kept: a strip of rows seldom ends where a chunk does."""
_CLASSIC, _HDF5, _WIDE = (b"CDF\1", b"CDF\2"), b"\x89HDF\r\n\x1a\n", b"CDF\5"
_OF_FORMAT = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates"}
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True, slots=True)
class Variable:
    """One of them; no number of it was read yet."""

    name: str
    """With the groups that it lies in: ``group/name``."""
    dims: tuple[str, ...]
    """Names of its dimensions, in the order of its numbers, also with groups."""
    shape: tuple[int, ...]
    """Along these."""
    dtype: np.dtype[Any]
    """As stored, in this machine's order of bytes."""
    attributes: Mapping[str, Any]
    """Texts, numbers, and arrays of numbers."""
    read: Callable[[Index], NDArray[Any]] = field(repr=False)
    """Numbers as stored, at an index of integers and slices. Raises OSError and its kin for a damaged file."""

    def text(self, name: str) -> str:
        """An attribute that is one; empty: there is none."""
        found = self.attributes.get(name)
        return found.strip() if isinstance(found, str) else ""

    @property
    def is_numbers(self) -> bool:
        """Whether it holds integers or floating-point numbers."""
        return self.dtype.kind in "iuf"


@dataclass(frozen=True, slots=True)
class NetCDF:
    """An open file."""

    variables: Mapping[str, Variable]
    """By name, in the order of the file."""

    def near(self, variable: Variable, name: str) -> Variable | None:
        """What an attribute of a variable names: in its group, else in those above."""
        group = variable.name.rpartition("/")[0]
        while True:
            found = self.variables.get(f"{group}/{name}" if group else name)
            if found is not None or not group:
                return found
            group = group.rpartition("/")[0]


@contextmanager
def opened(path: Path) -> Iterator[NetCDF]:
    """The file, as long as it is needed. Raises Fault (``unreadable``, ``format``, ``external``, ``variables``)."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_WIDE):
        raise Fault("format", "the file is NetCDF in the 64-bit data format (CDF-5)")
    if not head.startswith((*_CLASSIC, _HDF5)):
        raise Fault("unreadable", "the file is no NetCDF")
    with _classic(path) if head.startswith(_CLASSIC) else _hdf5(path) as found:
        yield found


# --- classic ----------------------------------------------------------------------------------------------------------


@contextmanager
def _classic(path: Path) -> Iterator[NetCDF]:
    from scipy.io import netcdf_file

    # The map is not closed: arrays that look into it may outlive the block, and the process ends soon.
    file: Any = netcdf_file(str(path), "r", mmap=True, maskandscale=False)
    if len(file.variables) > MOST:
        raise _too_many(len(file.variables))
    yield NetCDF({name: _of_classic(name, found) for name, found in file.variables.items()})


def _of_classic(name: str, found: Any) -> Variable:
    attributes = {key: _plain(value) for key, value in found._attributes.items()}  # noqa: SLF001  scipy has no other way
    dtype = found.data.dtype.newbyteorder("=")
    return Variable(name, tuple(found.dimensions), tuple(found.shape), dtype, attributes,
                    lambda index: np.array(found.data[index], dtype))  # fmt: skip


# --- netCDF-4 ---------------------------------------------------------------------------------------------------------


@contextmanager
def _hdf5(path: Path) -> Iterator[NetCDF]:
    import h5py

    with h5py.File(path, "r", rdcc_nbytes=_CACHE) as file:
        sets: list[Any] = []

        def visit(_: str, one: Any) -> None:  # links are not followed by this
            if isinstance(one, h5py.Dataset):
                sets.append(one)
            if len(sets) > MOST:
                raise _too_many(len(sets))

        file.visititems(visit)
        found = [_of_hdf5(one) for one in sets if not _is_bare(one)]
        yield NetCDF({one.name: one for one in found})


def _is_bare(one: Any) -> bool:
    """Whether it only stands for a dimension."""
    label = one.attrs.get("NAME", b"")
    return (label if isinstance(label, bytes) else str(label).encode()).startswith(_NO_VARIABLE.encode())


def _of_hdf5(one: Any) -> Variable:
    if one.shape is None or one.is_virtual or one.external:
        raise Fault("external", f"the variable {named(one.name)} has its numbers in other places than this file")
    dtype = one.dtype.newbyteorder("=") if one.dtype.kind in "iuf" else one.dtype
    return Variable(one.name.strip("/"), _dims(one), tuple(one.shape), dtype, _attributes(one),
                    lambda index: np.asarray(one[index], dtype))  # fmt: skip


def _dims(one: Any) -> tuple[str, ...]:
    """By the scales that are attached; a scale is its own dimension, and one without any is of this variable alone."""
    import h5py

    if one.ndim == 1 and h5py.h5ds.is_scale(one.id):
        return (one.name.strip("/"),)
    return tuple(dim[0].name.strip("/") if len(dim) else f"{one.name.strip('/')}#{n}"
                 for n, dim in enumerate(one.dims))  # fmt: skip


def _attributes(one: Any) -> dict[str, Any]:
    found = {}
    for key in one.attrs:
        if key not in _OF_FORMAT:
            try:
                found[key] = _plain(one.attrs[key])
            except TypeError:  # of a type that means nothing to numpy, and nothing here
                continue
    return found


# --- both -------------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A text, a number, or an array of several."""
    if isinstance(value, bytes):
        return value.decode(errors="replace").rstrip("\0")
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return _plain(value.reshape(-1)[0])
        return value.astype(value.dtype.newbyteorder("=")) if value.dtype.kind in "iuf" else value
    return str(value) if isinstance(value, str) else value


def _too_many(count: int) -> Fault:
    return Fault("images", f"the file has {count:,} variables or more")
