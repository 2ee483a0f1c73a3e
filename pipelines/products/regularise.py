"""Regular polygons of a finished raster: ``regularised.parquet`` and ``regularised.geojson``.

The raster is traced again, square by square, so that whatever step came before is in it. Memory: one square.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as FileWindow

from pipelines.products.corners import Outlines
from pipelines.products.features import Floats, write_features
from pipelines.products.geoparquet import Drawing
from pipelines.products.layer import CLASS_NODATA, Kind
from pipelines.products.merge import merge, save
from pipelines.products.orthogonal import Limits, Regular, orthogonal
from pipelines.products.parts import refusals
from pipelines.products.shapes import BAND, ShapeRules, Tracer
from swathe.errors import InputError
from swathe.regularity import Manner, Regularity
from swathe.window import Window

STEM = "regularised"
SIDE = 4096
"""Pixels along a square that is traced at a time."""


def _nothing() -> None:
    """Nobody wants to stop it."""


def regularise(
    raster: Path, drawing: Drawing, regularity: Regularity, min_px: int, check: Callable[[], None] = _nothing
) -> dict[str, Any]:
    """Write the regular polygons of a raster of classes beside it; how many there are, and how they changed.

    ``raster`` may carry codes of masks: they become no polygons. ``score.tif`` beside it is used where there is one.
    Raises InputError (``regularise.classes``) where there are no classes; OutputError; whatever ``check`` raises.
    """
    if drawing.layer.kind is not Kind.CLASSES:
        raise InputError(
            "only polygons can be regular, and a result of numbers has none", code="regularise.classes",
            field="--regularise", hint="choose a model that gives classes",
        )  # fmt: skip
    smooth = regularity.manner is Manner.SMOOTH
    rules = ShapeRules(min_px, regularity.tolerance_px if smooth else 0.0)
    reshape = None if smooth else Orthogonal(drawing.grid, Limits(shortest_px=regularity.tolerance_px))
    with _scratch(raster.parent) as scratch:
        parts = list(_traced(raster, drawing, rules, scratch, check))
        written = write_features(merge(parts, rules), drawing, raster.parent, stem=STEM, reshape=reshape)
    facts = {"manner": regularity.manner.value, "tolerance_px": regularity.tolerance_px, "count": written.count}
    return facts | {"area_m2": written.area_m2} | (reshape.told() if reshape else {})


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the products; gone at the end."""
    path = folder / f".{STEM}.parts"
    shutil.rmtree(path, ignore_errors=True)
    with refusals(folder):
        path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _traced(
    raster: Path, drawing: Drawing, rules: ShapeRules, scratch: Path, check: Callable[[], None]
) -> Iterator[Path]:
    score = raster.with_name("score.tif") if drawing.layer.score is not None else None
    with refusals(raster.parent), rasterio.open(raster) as file:
        for number, window in enumerate(Window(0, 0, file.height, file.width).split(SIDE)):
            tracer = Tracer(window, drawing.ground.frame, drawing.layer, rules)
            classes = [label.value for label in drawing.layer.classes]
            for rows in _bands(window):
                check()
                tracer.add(_classes(file, rows, classes), None if score is None else _scores(score, rows))
            path = scratch / f"{number}.npz"
            save(tracer.finish(), path)
            yield path


def _bands(window: Window) -> Iterator[Window]:
    for row in range(window.row, window.bottom, BAND):
        yield Window(row, window.col, min(BAND, window.bottom - row), window.width)


def _where(window: Window) -> FileWindow:
    return FileWindow(window.col, window.row, window.width, window.height)  # pyright: ignore[reportCallIssue]  attrs class


def _classes(file: rasterio.DatasetReader, window: Window, classes: Sequence[int]) -> NDArray[np.uint8]:
    """Classes; what is none (nodata, a mask's code, a number with a fraction) is nodata."""
    found = file.read(1, window=_where(window))
    known = np.isin(found, classes)
    if file.nodata is not None:
        known &= found != file.nodata
    return np.where(known, found, CLASS_NODATA).astype(np.uint8)


def _scores(path: Path, window: Window) -> NDArray[np.uint8]:
    with rasterio.open(path) as file:
        return file.read(1, window=_where(window))


@dataclass(slots=True)
class _Count:
    regular: int = 0
    kept: int = 0
    iou: float = 0.0
    largest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Orthogonal:
    """Traced outlines become outlines with right angles, on the ground, where they fit."""

    columns: Mapping[str, str] = {"regular": "bool", "iou": "double"}

    def __init__(self, grid: GeoBox, limits: Limits) -> None:
        """``grid``: of the raster."""
        self._pixel = abs(float(grid.transform.e))
        self._geographic = grid.crs is not None and bool(grid.crs.geographic)
        self._limits = limits
        self._count = _Count()

    def __call__(self, points: Floats, outlines: Outlines) -> tuple[Floats, Outlines, Floats, dict[str, list[Any]]]:
        """See ``features.Reshape``."""
        before = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (outlines.rings, outlines.polygons))
        found = [orthogonal(p, self._pixel, self._squeeze(p), self._limits) for p in before]
        after = np.array([regular.polygon for regular in found], dtype=object)
        factor = shapely.area(after) / shapely.area(before)
        self._note(found, factor)
        usual = shapely.orient_polygons(after)
        _, placed, (rings, polygons) = shapely.to_ragged_array(usual)
        drawn = Outlines(np.zeros((len(placed), 2), np.int32), rings.astype(np.int64), polygons.astype(np.int64))
        told = {"regular": [r.regular for r in found], "iou": [round(r.iou, 4) for r in found]}
        return placed, drawn, factor, told

    def _squeeze(self, polygon: shapely.Polygon) -> float:
        return float(np.cos(np.radians(polygon.centroid.y))) if self._geographic else 1.0

    def _note(self, found: list[Regular], factor: Floats) -> None:
        with self._count.lock:
            self._count.regular += sum(r.regular for r in found)
            self._count.kept += sum(not r.regular for r in found)
            self._count.iou += sum(r.iou for r in found if r.regular)
            self._count.largest = max(self._count.largest, float(np.abs(factor - 1).max(initial=0)))

    def told(self) -> dict[str, Any]:
        """How it went: polygons with right angles, those left as they were, mean fit, largest change of an area."""
        count = self._count
        mean = round(count.iou / count.regular, 4) if count.regular else None
        return {"regular": count.regular, "kept": count.kept, "mean_iou": mean,
                "largest_area_change": round(count.largest, 4)}  # fmt: skip
