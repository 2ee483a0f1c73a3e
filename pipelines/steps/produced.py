"""What a script wrote, from a hostile file to a raster of ours: looked at, held against the grid, written anew."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from pipelines.imagery.archive import check_image
from pipelines.imagery.gdal import FAILURES, Access, explain
from pipelines.imagery.header import read_headers
from pipelines.imagery.limits import Limits, check_block, check_shape
from pipelines.products.cog import assemble
from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.statistics import Statistics
from pipelines.products.style import labels_in
from swathe.errors import GridError, ImageryError
from swathe.masking import NODATA, CodeLabel
from swathe.plan import Plan
from swathe.window import Window

STEM = "processed"
Codes = tuple[CodeLabel, ...]
_TYPES = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float32", "float64")
"""What a script may write; all but the first two become float32, where no number is lost by that. Classes with codes of
masks stay int16."""
_ROWS = 512
_LIMITS = Limits(bands=64)
_NEAR = 1e-6
"""Pixels by which a corner may lie elsewhere."""


@dataclass(frozen=True, slots=True)
class Produced:
    """A raster as it was written."""

    path: Path
    """A regular file in a folder of its own."""
    dtype: str
    """Of all bands."""
    bands: tuple[str, ...]
    """Their descriptions."""
    nodata: float | None
    """Tag."""


def found_in(out: Path) -> Path:
    """The file that a script left: ``output.tif``, or the only ``.tif``.

    Raises ImageryError (``processor.nothing``, ``.several``, ``.file``): it is a link, a pipe, a device.
    """
    names = sorted(p for p in out.iterdir() if p.suffix.lower() in (".tif", ".tiff"))
    named = [p for p in names if p.name == "output.tif"] or names
    if not named:
        raise ImageryError("the script wrote no GeoTIFF", code="processor.nothing",
                           hint="write it to the path of its second argument")  # fmt: skip
    if len(named) > 1:
        raise ImageryError(f"the script wrote {len(named)} GeoTIFFs, none of them output.tif",
                           code="processor.several", hint="call the one that counts output.tif")  # fmt: skip
    if not stat.S_ISREG(named[0].lstat().st_mode):
        raise ImageryError(f"{named[0].name[:80]!r} is no regular file", code="processor.file", hint="write a file")
    return named[0]


def looked_at(path: Path, plan: Plan) -> Produced:
    """Whether it is a GeoTIFF on the grid of the input, of a type and size that can be meant.

    Raises ImageryError (``image.*``, ``imagery.*``, ``processor.type``), GridError (``processor.grid``, ``grid.*``).
    """
    check_image(path)
    (header,) = read_headers([str(path)], Access(), limits=_LIMITS)
    check_shape("the script's raster", header.shape, len(header.dtypes), _LIMITS)
    if len(set(header.dtypes)) > 1 or header.dtypes[0] not in _TYPES:
        raise ImageryError(f"the script wrote numbers of type {', '.join(sorted(set(header.dtypes)))}",
                           code="processor.type", hint=f"one of {', '.join(_TYPES)}")  # fmt: skip
    pixel = np.dtype(header.dtypes[0]).itemsize * (len(header.dtypes) if header.by_pixel else 1)
    check_block("the script's raster", header.block, pixel, _LIMITS)
    _check_grid(plan, header.shape, header.transform, header.crs)
    bands = tuple(text[:80] or f"b{i}" for i, text in enumerate(header.descriptions, 1))
    return Produced(path, header.dtypes[0], bands, header.nodata[0])


def _check_grid(plan: Plan, shape: tuple[int, int], transform: tuple[float, ...], crs: str) -> None:
    from rasterio.crs import CRS

    grid = plan.work.grid
    wanted = tuple(float(n) for n in grid.transform)[:6]
    corners = [(0, 0), (shape[1], shape[0])]
    off = max(abs(a - b) for c in corners for a, b in zip(_at(wanted, c), _at(transform, c), strict=True))
    same_crs = CRS.from_user_input(crs) == CRS.from_user_input(plan.work.imagery.crs)
    if tuple(grid.shape) == shape and off <= _NEAR * abs(wanted[0]) and same_crs:
        return
    raise GridError(
        f"the script wrote another grid: {_told(crs, shape, transform)}; its input has "
        f"{_told(str(plan.work.imagery.crs), (int(grid.shape[0]), int(grid.shape[1])), wanted)}",
        code="processor.grid", hint="copy CRS, transform, width and height from the input",
    )  # fmt: skip


def _at(transform: tuple[float, ...], place: tuple[int, int]) -> tuple[float, float]:
    a, b, c, d, e, f = transform[:6]
    return a * place[0] + b * place[1] + c, d * place[0] + e * place[1] + f


def _told(crs: str, shape: tuple[int, int], transform: tuple[float, ...]) -> str:
    corner = f"{transform[2]:.10g}, {transform[5]:.10g}"
    return f"{crs[:40]}, {shape[1]} x {shape[0]} px of {transform[0]:.6g} from {corner}"


def publish(
    produced: Produced, plan: Plan, layer: LayerSpec, out: Path, check: Callable[[], None], codes: Codes = ()
) -> dict[str, Any]:  # fmt: skip
    """Write ``processed.tif`` with its style; gives what it is. Raises ImageryError where numbers cannot be kept.

    ``codes``: of masks, in the raster that the script was given (``codes_beside``).
    """
    coded = _coded(produced, layer, codes, check)
    spec, put = _spec(produced, layer) if coded is None else (coded.result, _Codes(produced.nodata))
    part = produced.path.with_name("part.tif")
    values: set[int] = set()
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(part, "w", **_profile(plan, spec)) as target:
        for window, block in _blocks(produced):
            check()
            kept = put(block)
            if spec.dtype == "uint8" and spec.count == 1:
                values |= set(np.unique(kept).tolist())
            target.write(kept, window=window)
    classes = {c.value for c in layer.classes} | {CLASS_NODATA}
    same = layer.kind is Kind.CLASSES and bool(values) and values <= classes
    drawn = coded or (replace(layer, result=spec) if same else _plain(layer, spec, part))
    whole = Window(0, 0, int(plan.work.grid.shape[0]), int(plan.work.grid.shape[1]))
    assemble([(part, whole)], plan.work.grid, drawn, spec, out / f"{STEM}.tif")
    kept = same or coded is not None
    return {"type": spec.dtype, "bands": list(spec.bands), "classes": "unchanged" if kept else None}


def codes_beside(raster: Path, layer: LayerSpec) -> Codes:
    """Codes of masks in a raster of ours, with their names and colours, as the style beside it tells them.

    ``layer``: what the model made, whose classes are none.
    """
    style, classes = raster.with_suffix(".qml"), {label.value for label in layer.classes}
    found = labels_in(style.read_bytes()) if style.exists() else []
    return tuple(CodeLabel(value=v, name=name, colour=colour) for v, name, colour in found if v not in classes)


def _coded(produced: Produced, layer: LayerSpec, codes: Codes, check: Callable[[], None]) -> LayerSpec | None:
    """The layer where classes and codes of masks are all that was written; None: it is something else."""
    if not codes or layer.kind is not Kind.CLASSES or produced.dtype != "int16" or len(produced.bands) > 1:
        return None
    known = {label.value for label in (*layer.classes, *codes)} | {NODATA, produced.nodata}
    for _, block in _blocks(produced):
        check()
        if not set(np.unique(block).tolist()) <= known:
            return None
    values = tuple(float(code.value) for code in codes)
    spec = RasterSpec(STEM, "int16", NODATA, produced.bands, Resampling.MODE, codes=values)
    return replace(layer, classes=(*layer.classes, *codes), result=spec)


def _plain(layer: LayerSpec, spec: RasterSpec, part: Path) -> LayerSpec:
    """Numbers without names; the style spans what there is."""
    statistics = Statistics(spec)
    with rasterio.open(part) as file:
        for _, window in file.block_windows(1):
            statistics.add(file.read(window=window))
    return LayerSpec(Kind.VALUES, layer.title, (), spec, range=statistics.span(0))


def _blocks(produced: Produced) -> Iterator[tuple[Any, NDArray[Any]]]:
    """(bands, rows, cols) of a bounded number of pixels, whatever blocks the file claims."""
    try:
        with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(produced.path, driver="GTiff", sharing=False) as file:
            for row in range(0, file.height, _ROWS):
                for col in range(0, file.width, _ROWS * 8):
                    height, width = min(_ROWS, file.height - row), min(_ROWS * 8, file.width - col)
                    window = RasterioWindow(col, row, width, height)  # pyright: ignore[reportCallIssue]  attrs class
                    yield window, file.read(window=window)
    except FAILURES as error:
        raise ImageryError(f"what the script wrote cannot be read: {explain(error)}", code="imagery.unreadable",
                           hint="close the file before the script ends") from None  # fmt: skip


def _profile(plan: Plan, spec: RasterSpec) -> dict[str, Any]:
    grid = plan.work.grid
    return {
        "driver": "GTiff", "height": int(grid.shape[0]), "width": int(grid.shape[1]), "count": spec.count,
        "dtype": spec.dtype, "nodata": spec.nodata, "crs": plan.work.imagery.crs, "transform": grid.transform,
        "tiled": True, "blockxsize": spec.block, "blockysize": spec.block, "compress": "zstd", "BIGTIFF": "IF_SAFER",
    }  # fmt: skip


def _spec(produced: Produced, layer: LayerSpec) -> tuple[RasterSpec, Callable[[NDArray[Any]], NDArray[Any]]]:
    """What it becomes, and how a block of it does."""
    nodata = produced.nodata
    if produced.dtype == "uint8":
        return RasterSpec(STEM, "uint8", CLASS_NODATA, produced.bands, Resampling.MODE), _Bytes(nodata)
    if produced.dtype == "uint16" and nodata is not None:
        return RasterSpec(STEM, "uint16", int(nodata), produced.bands, Resampling.NEAREST), lambda block: block
    unit = layer.result.unit if layer.kind is Kind.VALUES else ""
    spec = RasterSpec(STEM, "float32", math.nan, produced.bands, Resampling.AVERAGE, unit=unit)
    return spec, _Floats(nodata)


@dataclass(frozen=True, slots=True)
class _Bytes:
    nodata: float | None

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        if self.nodata in (None, CLASS_NODATA):
            return block
        if (block == CLASS_NODATA).any():
            raise ImageryError(f"the script wrote 255 as a value, and {self.nodata:g} as nodata", code="processor.type",
                               hint="write uint16, or use 255 for nodata alone")  # fmt: skip
        return np.where(block == self.nodata, np.uint8(CLASS_NODATA), block)


@dataclass(frozen=True, slots=True)
class _Codes:
    nodata: float | None

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        return block if self.nodata in (None, NODATA) else np.where(block == self.nodata, np.int16(NODATA), block)


@dataclass(frozen=True, slots=True)
class _Floats:
    nodata: float | None

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        kept = block.astype(np.float32)
        if block.dtype.kind in "iu" and not np.array_equal(kept.astype(np.float64), block.astype(np.float64)):
            raise ImageryError(f"the script wrote {block.dtype} numbers that float32 does not hold",
                               code="processor.type", hint="write uint16 or float32")  # fmt: skip
        if self.nodata is not None and not math.isnan(self.nodata):
            kept[block == self.nodata] = np.nan
        return kept
