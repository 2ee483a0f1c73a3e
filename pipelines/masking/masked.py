"""``masked.tif``: a result in which clouds, snow, water, ocean and shapes of one's own carry codes.

Result, observations and masks are read window by window; memory does not depend on the area.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as FileWindow

from pipelines.blocks.open import Opener
from pipelines.imagery.area import inside
from pipelines.masking.choose import Answers, Openers, Site, answers, sources
from pipelines.masking.source import Bools, MaskSource
from pipelines.products.cog import assemble
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.parts import refusals
from pipelines.products.statistics import span_told
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from swathe.card import ClassLabel
from swathe.errors import InputError
from swathe.masking import CODES, NODATA, Mask, Masking, code_labels
from swathe.mosaic import Mosaic
from swathe.source import Auth
from swathe.window import Window

NAME, STEP = "masked", "mask"
"""Of the file, and of the step that makes it."""
SIDE = 1024
"""Pixels along a window; a multiple of a tile of the files."""
CACHE_MB = 128
"""Decoded blocks of masks and layers."""
_UNMASKED = {Kind.EMBEDDING: "an embedding", Kind.PICTURE: "a picture"}


def expect_room(layer: LayerSpec) -> None:
    """Raises InputError (``mask.embedding``): neither a vector nor a colour has room for a code."""
    if layer.kind in (Kind.EMBEDDING, Kind.PICTURE):
        raise InputError(
            f"{_UNMASKED[layer.kind]} cannot be masked: its numbers mean nothing one by one",
            code="mask.embedding", field="--mask", hint="mask the result of a model that gives classes or numbers",
        )  # fmt: skip


def expect_free(code: int, classes: Sequence[ClassLabel]) -> None:
    """Raises InputError (``mask.code``) where a class of the model has it: nobody could tell the two apart."""
    taken = next((label.name for label in classes if label.value == code), None)
    if taken is not None:
        raise InputError(f"{code} cannot be the code of shapes: it is the model's class {taken!r}", code="mask.code",
                         field="--shapes-code", hint="choose another number, up to 996")  # fmt: skip


def masked_layer(layer: LayerSpec, wanted: Sequence[Mask], numbers: Mapping[Mask, int] = CODES) -> LayerSpec:
    """What ``masked.tif`` is: the layer with the codes of its masks (``numbers``) among the classes.

    Raises InputError (``mask.code``).
    """
    if Mask.SHAPES in wanted:
        expect_free(numbers[Mask.SHAPES], layer.classes)
    labels = code_labels(wanted, numbers)
    codes = tuple(float(label.value) for label in labels)
    whole = layer.kind is Kind.CLASSES
    result = RasterSpec(
        NAME, "int16" if whole else "float32", NODATA, layer.result.bands,
        Resampling.MODE if whole else Resampling.NEAREST,  # a mean of a height and a cloud is nothing
        unit=layer.result.unit, codes=codes,
    )  # fmt: skip
    return LayerSpec(layer.kind, f"{layer.title}, masked", (*layer.classes, *labels), result, range=layer.range)


@dataclass(slots=True)
class _Count:
    """Pixels."""

    codes: Mapping[Mask, int] = field(default_factory=lambda: CODES)
    total: int = 0
    valid: int = 0
    nodata: int = 0
    ambiguous: int = 0
    found: dict[Mask, int] = field(default_factory=dict)
    stands: dict[Mask, int] = field(default_factory=dict)


def write_masked(
    site: Site, masking: Masking, layer: LayerSpec, network: Network | None = None, found: Answers | None = None
) -> dict[str, Any]:
    """Write ``masked.tif`` with its names and style beside ``result.tif``; what was masked, and who said so.

    ``found``: of ``answers``; of masks that nobody tells, the file has nothing. It appears whole or not at all. Raises
    InputError (``mask.unanswered``, ``mask.layer``, ``mask.embedding``, ``mask.code``), ReadError for a mask or layer
    that cannot be read, OutputError.
    """
    expect_room(layer)
    found = found or answers(masking, site.work, site.layers)
    with refusals(site.folder), rasterio.open(site.folder / site.raster) as file:
        spec = masked_layer(_as_it_is(layer, file), found.masks, masking.codes)
    count = _Count(masking.codes, found=dict.fromkeys(found.masks, 0), stands=dict.fromkeys(found.masks, 0))
    with _openers(site, network or Network()) as openers, _part(site.folder) as part:
        told = sources(found.found, masking, site, openers)
        _paint(part, site, spec, told, count)
        shown = replace(spec, range=spec.range or _span(site.folder / site.raster))
        target = site.folder / f"{NAME}.tif"
        assemble([(part, Window(0, 0, *site.work.shape))], site.work.grid, shown, spec.result, target)
    return _facts(count, {mask: source.told(mask) for masks, source in told for mask in masks}, masking.buffer_px)


@contextmanager
def _openers(site: Site, network: Network) -> Iterator[Openers]:
    imagery = site.work.imagery
    auth, tiles = (imagery.auth, imagery.tiles) if isinstance(imagery, Mosaic) else (Auth(), None)
    with (
        Fetcher(network) as fetcher,
        Opener(fetcher, auth, tiles, CACHE_MB) as scenes,
        Fetcher(replace(network, local_root=None)) as trusted,
        Opener(trusted, Auth(), None, CACHE_MB) as layers,
    ):
        yield Openers(scenes, layers)


@contextmanager
def _part(folder: Path) -> Iterator[Path]:
    """A hidden folder for the raster before it is a COG."""
    scratch = folder / f".{NAME}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    with refusals(folder):
        scratch.mkdir()
    try:
        yield scratch / "part.tif"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


Told = Sequence[tuple[tuple[Mask, ...], MaskSource]]


def _paint(part: Path, site: Site, spec: LayerSpec, told: Told, count: _Count) -> None:
    work = site.work
    with (
        refusals(site.folder),
        rasterio.open(site.folder / site.raster) as file,
        rasterio.open(part, "w", **_profile(spec.result, file)) as out,
    ):
        for window in Window(0, 0, *work.shape).split(SIDE):
            site.check()
            where = FileWindow(window.col, window.row, window.width, window.height)  # pyright: ignore[reportCallIssue]  attrs class
            data = file.read(window=where)
            valid = _valid(data, file.nodata)
            hits = _hits(window, told, valid, inside(work.area, work.transform, window))
            out.write(painted(data, valid, hits, spec.result, count, count.codes), window=where)


def _valid(data: NDArray[Any], nodata: float | None) -> Bools:
    valid = np.isfinite(data) if data.dtype.kind == "f" else np.ones(data.shape, bool)
    if nodata is not None and not np.isnan(nodata):
        valid &= data != nodata
    return np.logical_and.reduce(valid, axis=0)


def _as_it_is(layer: LayerSpec, file: rasterio.DatasetReader) -> LayerSpec:
    """Of a raster that a step has made of the result: numbers, unless it still is one of classes."""
    if layer.kind is not Kind.CLASSES or (file.dtypes[0] == "uint8" and file.count == 1):
        return layer
    bands = tuple(name or f"b{n}" for n, name in enumerate(file.descriptions, 1))
    result = replace(layer.result, dtype="float32", bands=bands, unit="")
    return replace(layer, kind=Kind.VALUES, classes=(), result=result)


def _hits(window: Window, told: Told, valid: Bools, area: Bools | None) -> dict[Mask, Bools]:
    """Where each mask holds: where there is a value, or where it tells why there is none."""
    hits: dict[Mask, Bools] = {}
    here = valid if area is None else valid & area
    whole = np.ones_like(valid) if area is None else area
    for masks, source in told:
        said = source.at(window) if (whole if source.gaps else here).any() else {}
        for mask in masks:
            found = said.get(mask)
            hits[mask] = np.zeros_like(valid) if found is None else found & (whole if source.gaps else here)
    return hits


def painted(
    data: NDArray[Any], valid: Bools, hits: Mapping[Mask, Bools], spec: RasterSpec, count: _Count | None = None,
    codes: Mapping[Mask, int] = CODES,
) -> NDArray[Any]:  # fmt: skip
    """(bands, h, w) with codes where masks hold, in the type of ``spec``: a later one of ``Mask`` over an earlier."""
    out = np.where(valid, data, data.dtype.type(0)).astype(spec.dtype)
    out[:, ~valid] = NODATA
    stands = np.full(valid.shape, -1, np.int8)
    for place, mask in enumerate(Mask):
        if mask in hits:
            out[:, hits[mask]] = codes[mask]
            stands[hits[mask]] = place
    if count is not None:
        _note(count, data, valid, hits, stands)
    return out


def _note(
    count: _Count, data: NDArray[Any], valid: Bools, hits: Mapping[Mask, Bools], stands: NDArray[np.int8]
) -> None:
    count.total += valid.size
    count.valid += int(valid.sum())
    count.nodata += int((~valid & (stands < 0)).sum())
    if data.dtype.kind == "f":
        count.ambiguous += int((np.isin(data, (*count.codes.values(), NODATA)).any(axis=0) & valid).sum())
    for place, mask in enumerate(Mask):
        if mask in hits:
            count.found[mask] += int(hits[mask].sum())
            count.stands[mask] += int((stands == place).sum())


def _profile(spec: RasterSpec, file: rasterio.DatasetReader) -> dict[str, Any]:
    return {
        "driver": "GTiff", "height": file.height, "width": file.width, "count": spec.count, "dtype": spec.dtype,
        "nodata": spec.nodata, "crs": file.crs, "transform": file.transform, "tiled": True, "blockxsize": spec.block,
        "blockysize": spec.block, "compress": "ZSTD", "zstd_level": 1, "interleave": "pixel", "bigtiff": "IF_SAFER",
    }  # fmt: skip


def _span(result: Path) -> tuple[float, float] | None:
    """What a picture of the unmasked numbers shows, so that both have the same colours."""
    with rasterio.open(result) as file:
        return span_told(file.tags(1))


def _facts(count: _Count, origins: Mapping[Mask, dict[str, Any]], buffer_px: int) -> dict[str, Any]:
    def share(pixels: int) -> float:
        return round(pixels / count.total, 6) if count.total else 0.0

    masks = [
        {"mask": mask.value, "code": count.codes[mask], "pixels": count.stands[mask],
         "share": share(count.stands[mask]), "found": count.found[mask], "from": origins[mask]}
        for mask in count.found
    ]  # fmt: skip
    facts = {
        "file": f"{NAME}.tif",
        "nodata": NODATA,
        "buffer_px": buffer_px,
        "pixels": {"total": count.total, "valid": count.valid, "nodata": count.nodata},
        "masks": masks,
    }
    if count.ambiguous:
        facts["warning"] = f"{count.ambiguous} pixels have a value that is also a code or nodata"
    return facts
