"""From a GeoPackage or Shapefiles to GeoTIFFs: they are opened in the sandbox alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.imagery.archive import ENDINGS as OF_IMAGERY
from pipelines.imagery.archive import LIMITS, Limits, is_archive, names_in
from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.conversion import (
    BOUNDS,
    LONGEST_NAME,
    Conversion,
    Errors,
    Job,
    Nonsense,
    converted,
    plain,
    program_of,
    safe,
)
from pipelines.vectors.convert import Most
from pipelines.vectors.source import ENDINGS, PACKAGE, SHAPEFILE
from swathe.errors import GridError, ImageryError, LimitError

MOST = Most(layers=20, columns=16, side=4096, vertices=5_000_000)
"""Of one file."""
_SQLITE, _AT, _MARKS = b"SQLite format 3\0", 68, (b"GPKG", b"GP10", b"GP11")
"""How a GeoPackage begins, and what it says of itself there (OGC 12-128, requirement 2)."""
_HEAD = 100
_WITH = ".shp, .shx, .dbf and .prj of one Shapefile"
_SIMPLIFY = "simplify it, or cut it into parts: ogr2ogr -simplify 10 OUT.gpkg IN"
_ANEW = "write it anew: ogr2ogr -nlt PROMOTE_TO_MULTI OUT.gpkg IN"
_FAULTS: dict[str, tuple[Errors, str]] = {
    "unreadable": (ImageryError, f"check it with ogrinfo -al -so; a zip holds {_WITH}"),
    "alone": (ImageryError, f"send a zip of {_WITH}"),
    "layers": (ImageryError, "give points, lines or polygons"),
    "kinds": (ImageryError, _ANEW),
    "coordinates": (GridError, _ANEW),
    "no_crs": (GridError, "say it: ogr2ogr -a_srs EPSG:… OUT.gpkg IN; of a Shapefile the .prj belongs into the zip"),
    "crs": (GridError, "convert it: ogr2ogr -t_srs EPSG:4326 OUT.gpkg IN"),
    "size": (LimitError, _SIMPLIFY),
    "memory": (LimitError, _SIMPLIFY),
    "time": (LimitError, _SIMPLIFY),
    "output": (LimitError, _SIMPLIFY),
}


@dataclass(frozen=True, slots=True)
class Image:
    """A GeoTIFF drawn from a layer of shapes."""

    path: Path
    """Where it lies."""
    layer: str
    """As the file calls it."""
    column: str
    """Whose numbers it holds; empty: 1 where shapes are, and nothing elsewhere."""


def is_vectors(path: Path, limits: Limits = LIMITS) -> bool:
    """Whether this is a vector file, or a zip of some and of no imagery.

    Raises ImageryError (``archive.*``) for a zip that holds what none may.
    """
    if not is_archive(path):
        return path.suffix.lower() in ENDINGS or _begins_as_package(path)
    endings = {PurePosixPath(name).suffix.lower() for name in names_in(path, limits)}
    return bool(endings & set(ENDINGS)) and not endings & set(OF_IMAGERY)


def images_of(
    path: Path, folder: Path, *, bounds: Bounds = BOUNDS, limits: Limits = LIMITS, most: Most = MOST,
    check: Callable[[], None] = lambda: None,
) -> list[Image]:  # fmt: skip
    """Each layer, and each of its columns of numbers, as a GeoTIFF in ``folder``, a new one.

    Grids are the layers' own: ``most.side`` pixels along the longer edge, in their coordinate system.

    Raises ImageryError (``vectors.isolation``, ``.unreadable``, ``.alone``, ``.layers``, ``.kinds``), GridError
    (``vectors.no_crs``, ``.crs``, ``.coordinates``), LimitError (``vectors.size``, ``.time``, …), OSError; then nothing
    is left behind.
    """
    packed = is_archive(path)
    if not packed and path.suffix.lower() == SHAPEFILE:
        raise VECTORS.problem("alone", f"{path.name} is only a part of a Shapefile")
    if not packed and not _begins_as_package(path):
        raise VECTORS.problem("unreadable", f"{path.name} is no GeoPackage")
    given = "file.zip" if packed else f"file{PACKAGE}"
    found = converted(Job(VECTORS, path, given, folder, most, bounds, limits, check))
    return [Image(image, layer, column) for image, (layer, column) in found]


def _begins_as_package(path: Path) -> bool:
    """By its first bytes; False of a file that cannot be read: whoever opens it for good says so."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head.startswith(_SQLITE) and head[_AT : _AT + 4] in _MARKS


def _read(said: Mapping[str, Any], stem: str) -> tuple[str, tuple[str, str]]:
    """Name of an image, its layer and its column."""
    layer, column, alone = (said.get(key) for key in ("layer", "column", "alone"))
    if not isinstance(layer, str) or not isinstance(column, str) or not isinstance(alone, bool):
        raise Nonsense
    names = [stem, *([] if alone else [layer]), *([column] if column else [])]
    return "_".join(safe(name) for name in names), (plain(layer, LONGEST_NAME), plain(column, LONGEST_NAME))


VECTORS = Conversion(
    code="vectors", format="a vector file", package="vectors", modules=("__init__", "convert", "raster", "source"),
    run=program_of("vectors"), images=MOST.layers * (1 + MOST.columns), read=_read, faults=_FAULTS,
    otherwise="draw it yourself: gdal_rasterize -at -burn 1 -ts 4096 4096 -ot Byte IN.gpkg OUT.tif",
)  # fmt: skip
