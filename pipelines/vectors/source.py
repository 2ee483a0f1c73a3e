"""Shapes of a vector file, batch by batch, in the file's own coordinate system; no more of it is held at a time."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from pipelines.sandbox.told import Fault, named

PACKAGE, SHAPEFILE = ENDINGS = (".gpkg", ".shp")
_ZIP = "/vsizip/"
BATCH = 20_000
"""Shapes that are held at a time."""
_BEGINS = {PACKAGE: b"SQLite format 3\0", SHAPEFILE: b"\0\0\x27\x0a"}
"""Of vector files, whatever else GDAL could read."""
_UNDEFINED = "Undefined "
"""How GDAL calls the coordinate system of a layer that says it has none (OGC 12-128: srs_id 0 and -1)."""
_NUMBERS = "iufb"
"""Kinds of numpy's types that a raster keeps."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One table of shapes."""

    path: str
    """As GDAL opens it."""
    name: str
    """As GDAL calls it."""
    said: str
    """As people are told it; no two of a file are called the same."""
    crs: str
    """``EPSG:…`` or WKT; empty: it does not say it."""
    columns: tuple[str, ...]
    """Those of numbers, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some shapes of a layer."""

    shapes: NDArray[np.object_]
    """(n,) points, lines and polygons, none of them empty and none a collection."""
    of: NDArray[np.int64]
    """(n,) number of the record that each is a part of, from 0."""

    @property
    def dimensions(self) -> NDArray[np.int64]:
        """(n,) 0 of points, 1 of lines, 2 of polygons."""
        return np.asarray(shapely.get_dimensions(self.shapes), np.int64)


def layers_of(path: Path) -> list[Layer]:
    """All layers of shapes. Raises Fault (``layers``), and what the libraries raise over a damaged file."""
    found = [layer for place in _places(path) for layer in _layers(place)]
    if not found:
        raise Fault("layers", "the file has no layer of shapes")
    names = Counter(layer.name for layer in found)
    return [replace(layer, said=_inside(layer, path)) if names[layer.name] > 1 else layer for layer in found]


def batches(layer: Layer) -> Iterator[Batch]:
    """All shapes of a layer.

    Raises Fault (``kinds``, ``coordinates``), and what the libraries raise over a damaged file.
    """
    first = 0
    while True:
        _, _, geometries, _ = pyogrio.raw.read(
            layer.path, layer=layer.name, columns=[], skip_features=first, max_features=BATCH, force_2d=True
        )
        if geometries is None or not len(geometries):
            return
        shapes, of = _parts(layer, geometries)
        yield Batch(shapes, of + first)
        if len(geometries) < BATCH:
            return
        first += BATCH


def numbers_of(layer: Layer, column: str) -> NDArray[np.float32]:
    """(records,) of a column in single precision; NaN: it says nothing, or more than that can hold."""
    _, _, _, (found,) = pyogrio.raw.read(layer.path, layer=layer.name, columns=[column], read_geometry=False)
    with np.errstate(over="ignore"):
        numbers = np.asarray(found).astype(np.float32)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


# --- pieces -----------------------------------------------------------------------------------------------------------


def _places(path: Path) -> list[str]:
    """What GDAL opens: the file itself, or the vector files of a zip. Raises Fault (``unreadable``)."""
    if path.suffix != ".zip":
        return [str(path)]
    with zipfile.ZipFile(path) as archive:
        found = [info for info in archive.infolist() if not info.is_dir() and _is_vectors(PurePosixPath(info.filename))]
        for info in found:
            with archive.open(info) as file:
                if not file.read(16).startswith(_BEGINS[PurePosixPath(info.filename).suffix.lower()]):
                    raise Fault("unreadable", f"{named(info.filename)} is not what its ending says")
    return [f"{_ZIP}{path}/{info.filename}" for info in sorted(found, key=lambda info: info.filename)]


def _is_vectors(name: PurePosixPath) -> bool:
    return name.suffix.lower() in ENDINGS and not name.name.startswith(".")


def _inside(layer: Layer, path: Path) -> str:
    """Where in a zip a layer lies, whose name another one has, too."""
    return str(PurePosixPath(layer.path.removeprefix(f"{_ZIP}{path}/")).with_suffix(""))


def _layers(place: str) -> Iterator[Layer]:
    for name, kind in pyogrio.list_layers(place):
        if kind is None:  # a table without shapes
            continue
        said = pyogrio.read_info(place, layer=name)
        columns = zip(said["fields"], said["dtypes"], strict=True)
        numbers = tuple(column for column, dtype in columns if np.dtype(dtype).kind in _NUMBERS)
        yield Layer(place, str(name), str(name), _crs(said["crs"]), numbers)


def _crs(said: str | None) -> str:
    return "" if said is None or _UNDEFINED in said[:40] else said


def _parts(layer: Layer, geometries: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Single shapes, and whose each is. Raises Fault."""
    try:
        shapes: Any = shapely.from_wkb(geometries)  # curves were followed by straight pieces
    except shapely.errors.GEOSException:
        raise Fault("kinds", f"the layer {named(layer.said)} holds other things than points, lines and "
                    "polygons") from None  # fmt: skip
    of = np.arange(len(shapes))
    while len(shapes) and (shapely.get_type_id(shapes) >= shapely.GeometryType.MULTIPOINT).any():
        shapes, place = shapely.get_parts(shapes, return_index=True)
        of = of[place]
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    shapes, of = shapes[there], of[there]
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise Fault("coordinates", f"the layer {named(layer.said)} has coordinates that are no numbers")
    return shapes, of
