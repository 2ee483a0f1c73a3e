"""What is in a file that a user brought: the images that it is, or becomes, and what their headers say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines.imagery.archive import ENDINGS, Limits, check_image, is_archive, unpack
from pipelines.imagery.peek import begins_as_netcdf, driver_of

if TYPE_CHECKING:
    from pipelines.imagery.header import Header
    from pipelines.imagery.limits import Limits as ImageLimits
    from pipelines.masking.geojson import ShapeLimits
    from pipelines.netcdf.isolated import Image
    from pipelines.sandbox.bounds import Bounds
    from pipelines.vectors.isolated import Image as Drawing

_SUFFIXES = {"GTiff": ".tif", "JP2OpenJPEG": ".jp2"}
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100
_NETCDF, _VECTORS = "netcdf", "vectors"


@dataclass(frozen=True, slots=True)
class Moment:
    """One image of a NetCDF file: a variable, at one moment if it has any."""

    input: str
    """As an input of a job: ``upload://ID/NAME``."""
    variable: str
    """What the file calls it."""
    when: str
    """RFC 3339 in UTC; empty: the file does not say it."""
    scale: float
    """physical = stored * scale + offset."""
    offset: float
    """See ``scale``."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One image that was drawn from a file of shapes: of a layer, or of numbers of its shapes."""

    input: str
    """As an input of a job: ``upload://ID/NAME``."""
    layer: str
    """What the file calls it."""
    column: str
    """Whose numbers it holds; empty: it is where shapes are."""


@dataclass(frozen=True, slots=True)
class _Fact:
    name: str
    crs: str
    shape: tuple[int, int]
    bands: int
    dtype: str
    bounds: tuple[float, ...]


def safe_name(name: str) -> str:
    """What is left of a name: band names that a file is told by, but nothing that a path is made of."""
    plain = _STRANGE.sub("_", PurePosixPath(name.replace("\\", "/")).name).lstrip(".")
    path = PurePosixPath(plain or "image")
    return f"{path.stem[:_LONGEST]}{path.suffix[:8].lower()}"


def looked_at(
    path: Path, limits: Limits, image_limits: ImageLimits, bounds: Bounds
) -> tuple[list[Path], dict[str, Any]]:
    """The images that came, under names of their own in one folder, and what is to be known of them.

    ``limits``: of archives; ``image_limits``: of what is decoded; ``bounds``: of the program that reads NetCDF and
    vectors. Raises ImageryError, GridError, LimitError: what a job would refuse is refused here.
    """
    from pipelines.netcdf.isolated import ENDINGS as OF_NETCDF
    from pipelines.vectors.isolated import is_vectors

    suffix = path.suffix.lower()
    if suffix in OF_NETCDF or (suffix not in ENDINGS and not is_archive(path) and begins_as_netcdf(path)):
        return _of_netcdf(path, limits, image_limits, bounds)
    if suffix not in ENDINGS and is_vectors(path, limits):
        return _of_vectors(path, limits, image_limits, bounds)
    images = _images(path, limits)
    return images, _facts(images, image_limits)


def shapes_in(path: Path, limits: ShapeLimits) -> int:
    """How many shapes a GeoJSON holds. Raises ImageryError, LimitError (``mask.shapes.*``): as a job would."""
    from pipelines.masking.geojson import expect_size, read_geojson

    expect_size(path.stat().st_size, limits, path.name)
    return read_geojson(path.read_bytes(), limits, path.name).features


def came_as_netcdf(facts: Mapping[str, Any]) -> bool:
    """Whether the images of an upload were made from NetCDF; ``facts``: of the upload."""
    return facts.get("format") == _NETCDF


def moments_of(facts: Mapping[str, Any], place: str) -> tuple[Moment, ...]:
    """Of an upload that came as NetCDF; ``place``: what its images' names are put behind. Empty: it was none."""
    if not came_as_netcdf(facts):
        return ()
    return tuple(Moment(f"{place}{one['name']}", one["variable"], one["datetime"], one["scale"], one["offset"])
                 for one in facts["images"])  # fmt: skip


def as_kept(name: str) -> str:
    """What is kept of a name that a stranger's file gives a layer or a column."""
    from pipelines.sandbox.conversion import LONGEST_NAME, plain

    return plain(name, LONGEST_NAME)


def was_converted(facts: Mapping[str, Any]) -> bool:
    """Whether what is kept is not what came."""
    return "format" in facts


def drawn_of(facts: Mapping[str, Any], place: str) -> tuple[Drawn, ...]:
    """Of an upload that came as vectors; ``place``: what its images' names are put behind. Empty: it was none."""
    if facts.get("format") != _VECTORS:
        return ()
    return tuple(Drawn(f"{place}{one['name']}", one["layer"], one["column"]) for one in facts["images"])


# --- pieces -----------------------------------------------------------------------------------------------------------


def _of_netcdf(
    path: Path, limits: Limits, image_limits: ImageLimits, bounds: Bounds
) -> tuple[list[Path], dict[str, Any]]:
    from pipelines.netcdf.isolated import images_of

    made = images_of(path, path.parent / "converted", bounds=_allowed(bounds), limits=limits)
    headers = _headers([image.path for image in made], image_limits)
    told = [_of_variable(image, header) for image, header in zip(made, headers, strict=True)]
    return _converted([image.path for image in made], headers, told, _NETCDF)


def _of_vectors(
    path: Path, limits: Limits, image_limits: ImageLimits, bounds: Bounds
) -> tuple[list[Path], dict[str, Any]]:
    from pipelines.vectors.isolated import images_of

    made = images_of(path, path.parent / "converted", bounds=_allowed(bounds), limits=limits)
    headers = _headers([image.path for image in made], image_limits)
    return _converted([image.path for image in made], headers, [_of_layer(image) for image in made], _VECTORS)


def _allowed(bounds: Bounds) -> Bounds:
    """A request waits for it, so its time is short; how much memory strangers' programs have, the service says."""
    from pipelines.sandbox.conversion import BOUNDS

    return replace(BOUNDS, memory_mb=bounds.memory_mb, output_mb=min(BOUNDS.output_mb, bounds.output_mb))


def _converted(
    images: list[Path], headers: list[Header], told: Sequence[Mapping[str, Any]], kind: str
) -> tuple[list[Path], dict[str, Any]]:
    facts = [asdict(_fact(image.name, header)) | dict(said)
             for image, header, said in zip(images, headers, told, strict=True)]  # fmt: skip
    return images, {"files": [image.name for image in images], "images": facts, "format": kind}


def _of_layer(image: Drawing) -> dict[str, Any]:
    return {"layer": image.layer, "column": image.column}


def _of_variable(image: Image, header: Header) -> dict[str, Any]:
    return {
        "variable": image.variable, "datetime": image.when, "scale": header.scales[0], "offset": header.offsets[0],
    }  # fmt: skip


def _images(path: Path, limits: Limits) -> list[Path]:
    """Out of an archive, or the one that came. Raises ImageryError."""
    if is_archive(path):
        folder = unpack(path, path.parent / "unpacked", limits)
        return _flat(sorted(p for p in folder.rglob("*") if p.is_file()), folder)
    with path.open("rb") as file:
        suffix = _SUFFIXES.get(driver_of(file.read(16)) or "")
    if suffix is not None and path.suffix.lower() not in ENDINGS:
        path = path.rename(path.with_name(path.name + suffix))
    check_image(path, limits)
    return [path]


def _flat(images: list[Path], folder: Path) -> list[Path]:
    """Out of their folders; those of one name are told apart by a number."""
    taken: set[str] = set()
    found = []
    for image in images:
        name, n = safe_name(image.name), 0
        while name.casefold() in taken:
            name, n = f"{n}_{safe_name(image.name)}", n + 1
        taken.add(name.casefold())
        found.append(image.rename(folder.parent / name))
    return found


def _facts(images: list[Path], limits: ImageLimits) -> dict[str, Any]:
    """What their headers say. Raises ImageryError, GridError."""
    return {
        "files": [image.name for image in images],
        "images": [asdict(_fact(image.name, header)) for image, header in
                   zip(images, _headers(images, limits), strict=True)],
    }  # fmt: skip


def _headers(images: list[Path], limits: ImageLimits) -> list[Header]:
    from pipelines.imagery.gdal import Access
    from pipelines.imagery.header import read_headers

    return read_headers([str(image) for image in images], Access(), limits=limits)


def _fact(name: str, header: Header) -> _Fact:
    a, _, c, _, e, f = header.transform
    rows, cols = header.shape
    return _Fact(name, header.crs, header.shape, len(header.dtypes), header.dtypes[0],
                 (c, f + e * rows, c + a * cols, f))  # fmt: skip
