"""The polygons of a result as files: ``features.parquet``, ``features.geojson`` and, where asked for, a GeoPackage."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import local
from typing import Any, Protocol, Self

import numpy as np
from odc.geo.geobox import GeoBox

from pipelines.products.corners import Outlines
from pipelines.products.geoparquet import Batch, Drawing, Line, ParquetWriter, write_gpkg
from pipelines.products.layer import SCORE_STEPS
from pipelines.products.lonlat import Floats, Geometry, ToLonLat, geometries
from pipelines.products.parts import refusals
from pipelines.products.regions import Facts
from pipelines.products.shapes import Shapes
from pipelines.products.wkb import bounds, wkb

_POINTS = 1 << 16
"""Vertices that are encoded at a time, unless one polygon has more."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came out."""

    files: tuple[Path, ...]
    """In the order parquet, geojson, gpkg."""
    count: int
    """Polygons."""
    area_m2: dict[int, float]
    """Class value -> square metres in polygons."""


class Reshape(Protocol):
    """Makes other outlines of traced ones; called in several threads."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Of what it has to say of each polygon: name -> Arrow's type."""
        ...

    def __call__(self, points: Floats, outlines: Outlines) -> tuple[Floats, Outlines, Floats, dict[str, list[Any]]]:
        """(m, 2) vertices in the grid's CRS and their rings, the factor by which each area has changed, the columns.

        As many polygons as before, in the same order.
        """
        ...


def write_features(
    found: Iterable[Shapes], drawing: Drawing, folder: Path, *, gpkg: bool = False, stem: str = "features",
    reshape: Reshape | None = None,
) -> Written:  # fmt: skip
    """Write all polygons of a result, as a stream, to files that appear whole or not at all.

    Columns: ``id`` (the place of the first pixel in reading order: the same whatever the chunks), ``class``, ``name``,
    ``pixels``, ``area_m2`` (as ``Ground.method`` says), ``mean_score`` (0..1; where there are scores), ``datetime``
    (where known), ``geometry``. Parquet is in the grid's CRS with a bounding box per row (GeoParquet 1.1), GeoJSON in
    longitude and latitude (RFC 7946). The same polygons in the same order give the same bytes.
    ``reshape`` changes outlines on their way, and ``area_m2`` with them.
    Raises OutputError where the disk is full or locked.
    """
    parquet, geojson = folder / f"{stem}.parquet", folder / f"{stem}.geojson"
    files = [parquet, geojson]
    with refusals(folder), ExitStack() as stack:
        fresh = [stack.enter_context(_Fresh(path)) for path in files]
        table = stack.enter_context(ParquetWriter(fresh[0].path, drawing, reshape.columns if reshape else {}))
        text = stack.enter_context(_Collection(fresh[1].path))
        for batch in _encoded(found, drawing, reshape):
            table.add(batch)
            text.add(batch.lines)
    if gpkg:
        with refusals(folder):
            files.append(write_gpkg(parquet, folder / f"{stem}.gpkg", drawing))
    return Written(tuple(files), table.count, table.areas)


def _encoded(found: Iterable[Shapes], drawing: Drawing, reshape: Reshape | None) -> Iterator[Batch]:
    """Encode in threads, give out in order, and keep no more than two batches per thread under way."""
    encode = _Encoder(drawing, reshape)
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(drawing.threads, thread_name_prefix="features") as pool:
        for shapes in found:
            for batch in _cut(shapes):
                waiting.append(pool.submit(encode, batch))
                if len(waiting) > 2 * drawing.threads:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _cut(shapes: Shapes) -> Iterator[Shapes]:
    """Cut a list where it has too many vertices for one batch."""
    vertices = shapes.outlines.rings[shapes.outlines.polygons]
    low = 0
    while low < len(shapes):
        high = max(low + 1, int(np.searchsorted(vertices, vertices[low] + _POINTS, side="right")) - 1)
        yield Shapes(shapes.facts.take(np.arange(low, high)), shapes.outlines.part(low, high))
        low = high


class _Encoder:
    """Shapes to columns and lines; called in several threads."""

    def __init__(self, drawing: Drawing, reshape: Reshape | None) -> None:
        self._drawing, self._reshape = drawing, reshape
        self._names = {c.value: c.name for c in drawing.layer.classes}
        self._local = local()

    def __call__(self, shapes: Shapes) -> Batch:
        outlines = shapes.outlines
        points = _placed(outlines, self._drawing.grid)
        box = bounds(points, outlines)
        columns = self._columns(shapes.facts, box)
        if self._reshape is not None:
            points, outlines, factor, more = self._reshape(points, outlines)
            box = bounds(points, outlines)
            columns |= {"area_m2": np.round(columns["area_m2"] * factor, 2)} | more
        lines = _lines(columns, geometries(self._lonlat(points, outlines), outlines))
        return Batch(columns | {"geometry": wkb(points, outlines)}, box, lines)

    def _columns(self, facts: Facts, bounds: Floats) -> dict[str, Any]:
        centre = (bounds[:, :2] + bounds[:, 2:]) / 2
        columns = {
            "id": facts.first,
            "class": facts.value,
            "name": [self._names[v] for v in facts.value.tolist()],
            "pixels": facts.pixels,
            "area_m2": np.round(self._drawing.ground.square_metres(facts.ground, centre[:, 0], centre[:, 1]), 2),
        }
        if self._drawing.layer.score is not None:
            columns["mean_score"] = np.round(facts.score / (SCORE_STEPS * facts.pixels), 4)
        if self._drawing.when is not None:
            columns["datetime"] = [self._drawing.when] * len(facts)
        return columns

    def _lonlat(self, points: Floats, outlines: Outlines) -> Floats:
        if not hasattr(self._local, "to"):  # pyproj's transformers are not to be shared between threads
            self._local.to = ToLonLat(self._drawing.grid)
        return self._local.to(points, outlines)


def _placed(outlines: Outlines, grid: GeoBox) -> Floats:
    """(n, 2) vertices in the grid's CRS."""
    affine = grid.transform
    return outlines.points.astype(np.float64) * (affine.a, affine.e) + (affine.c, affine.f)


def _lines(columns: dict[str, Any], geometry: list[Geometry]) -> list[Line]:
    """GeoJSON features, in pieces."""
    names = [n for n in columns if n != "id"]
    lists = [_texts(columns[n]) for n in names]
    template = ",".join(f'"{n}":%s' for n in names)
    heads = zip(columns["id"].tolist(), zip(*lists, strict=True), geometry, strict=True)
    return [
        (
            f'{{"type":"Feature","id":{i},"properties":{{{template % row}}},"geometry":{{"type":"'.encode(),
            kind,
            b'","coordinates":',
            text,
            b"}}",
        )
        for i, row, (kind, text) in heads
    ]


def _texts(column: Any) -> list[str]:
    """JSON of each value."""
    if isinstance(column, np.ndarray):
        return list(map(repr, column.tolist()))
    texts = {v: v.isoformat().replace("+00:00", "Z") if isinstance(v, datetime) else v for v in set(column)}
    quoted = {v: json.dumps(text, ensure_ascii=False) for v, text in texts.items()}
    return [quoted[v] for v in column]


class _Fresh:
    """A file under a temporary name, which takes its own name when all went well."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f".{target.name}.fresh")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.path.replace(self._target)
        self.path.unlink(missing_ok=True)


class _Collection:
    """A GeoJSON file that grows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1 << 20)
        self._between = b"\n"

    def __enter__(self) -> Self:
        self._file.write(b'{"type":"FeatureCollection","features":[')
        return self

    def add(self, lines: list[Line]) -> None:
        """More features."""
        for line in lines:
            self._file.write(self._between)
            self._file.writelines(line)
            self._between = b",\n"

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.write(b"\n]}\n")
