"""The polygons of a result as files: ``features.parquet``, ``features.geojson`` and, where asked for, a GeoPackage."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from odc.geo.geobox import GeoBox

from pipelines.products.corners import Outlines
from pipelines.products.ground import Ground
from pipelines.products.layer import SCORE_STEPS, LayerSpec
from pipelines.products.lonlat import Floats, Geometry, ToLonLat, geometries
from pipelines.products.parts import refusals
from pipelines.products.regions import Facts
from pipelines.products.shapes import Shapes
from pipelines.products.wkb import bounds, wkb

if TYPE_CHECKING:
    import pyarrow as pa

Line = tuple[bytes | memoryview, ...]
"""A GeoJSON feature, in pieces."""

_POINTS = 1 << 16
"""Vertices that are encoded at a time, unless one polygon has more."""
_ROWS, _BYTES = 1 << 15, 32 << 20
"""A row group is closed at so many rows, or when it holds so much."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came out."""

    files: tuple[Path, ...]
    """In the order parquet, geojson, gpkg."""
    count: int
    """Polygons."""
    area_m2: dict[int, float]
    """Class value -> square metres in polygons."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What turns shapes into features."""

    layer: LayerSpec
    """Names and whether there are scores."""
    grid: GeoBox
    """Pixels to coordinates."""
    ground: Ground
    """Pixels to square metres."""
    when: datetime | None = None
    """Of the imagery, with a time zone; None: not known."""
    threads: int = 2
    """That encode while the next polygons are joined."""


def write_features(found: Iterable[Shapes], drawing: Drawing, folder: Path, *, gpkg: bool = False) -> Written:
    """Write all polygons of a result, as a stream, to files that appear whole or not at all.

    Columns: ``id`` (the place of the first pixel in reading order: the same whatever the chunks), ``class``, ``name``,
    ``pixels``, ``area_m2`` (as ``Ground.method`` says), ``mean_score`` (0..1; where there are scores), ``datetime``
    (where known), ``geometry``. Parquet is in the grid's CRS with a bounding box per row (GeoParquet 1.1), GeoJSON in
    longitude and latitude (RFC 7946). The same polygons in the same order give the same bytes.
    Raises OutputError where the disk is full or locked.
    """
    parquet, geojson = folder / "features.parquet", folder / "features.geojson"
    files = [parquet, geojson]
    with refusals(folder), ExitStack() as stack:
        fresh = [stack.enter_context(_Fresh(path)) for path in files]
        table = stack.enter_context(_Parquet(fresh[0].path, drawing))
        text = stack.enter_context(_Collection(fresh[1].path))
        for batch in _encoded(found, drawing):
            table.add(batch)
            text.add(batch.lines)
        areas, count = table.areas, table.count
        stack.pop_all().close()
    if gpkg:
        files.append(write_gpkg(parquet, folder / "features.gpkg", drawing))
    return Written(tuple(files), count, areas)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Some polygons, encoded."""

    columns: dict[str, Any]
    """Of the table."""
    bounds: Floats
    """(n, 4) in the grid's CRS."""
    lines: list[Line]
    """GeoJSON features."""


def _encoded(found: Iterable[Shapes], drawing: Drawing) -> Iterator[_Batch]:
    """Encode in threads, give out in order, and keep no more than two batches per thread under way."""
    encode = _Encoder(drawing)
    waiting: deque[Future[_Batch]] = deque()
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

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._names = {c.value: c.name for c in drawing.layer.classes}
        self._local = local()

    def __call__(self, shapes: Shapes) -> _Batch:
        outlines = shapes.outlines
        points = _placed(outlines, self._drawing.grid)
        box = bounds(points, outlines)
        columns = self._columns(shapes.facts, box)
        geometry = wkb(points, outlines)
        return _Batch(
            columns | {"geometry": geometry}, box, _lines(columns, geometries(self._lonlat(points), outlines))
        )

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

    def _lonlat(self, points: Floats) -> Floats:
        if not hasattr(self._local, "to"):  # pyproj's transformers are not to be shared between threads
            self._local.to = ToLonLat(_crs(self._drawing.grid))
        return self._local.to(points)


def _placed(outlines: Outlines, grid: GeoBox) -> Floats:
    """(n, 2) vertices in the grid's CRS."""
    affine = grid.transform
    return outlines.points.astype(np.float64) * (affine.a, affine.e) + (affine.c, affine.f)


def _crs(grid: GeoBox) -> Any:
    if grid.crs is None:
        msg = "features need a CRS"
        raise ValueError(msg)
    return grid.crs.proj


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


class _Parquet:
    """A GeoParquet 1.1 file that grows, row group by row group."""

    def __init__(self, path: Path, drawing: Drawing) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema(drawing)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)
        self._crs = _crs(drawing.grid)
        self._held: list[pa.Table] = []
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self.count = 0
        self.areas: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def add(self, batch: _Batch) -> None:
        """More rows."""
        import pyarrow as pa

        box = {k: batch.bounds[:, i] for i, k in enumerate(_BOX)}
        bbox = pa.StructArray.from_arrays([pa.array(v) for v in box.values()], names=list(_BOX))
        self._held.append(pa.table(batch.columns | {"bbox": bbox}, schema=self._schema))
        self._note(batch)
        if sum(t.num_rows for t in self._held) >= _ROWS or sum(t.nbytes for t in self._held) >= _BYTES:
            self._flush()

    def _note(self, batch: _Batch) -> None:
        value, area = batch.columns["class"], batch.columns["area_m2"]
        self.count += len(value)
        for v in np.unique(value).tolist():
            self.areas[v] = round(self.areas.get(v, 0.0) + float(area[value == v].sum()), 2)
        low, high = self._bounds[:2], self._bounds[2:]
        np.minimum(low, batch.bounds[:, :2].min(axis=0), out=low)
        np.maximum(high, batch.bounds[:, 2:].max(axis=0), out=high)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            table = pa.concat_tables(self._held).combine_chunks()
            self._writer.write_table(table, row_group_size=table.num_rows)
            self._held = []

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None:
                self._flush()
                self._writer.add_key_value_metadata({"geo": json.dumps(self._geo())})

    def _geo(self) -> dict[str, Any]:
        column = {
            "encoding": "WKB",
            "geometry_types": ["Polygon"],
            "crs": self._crs.to_json_dict(),
            "orientation": "counterclockwise",
            "edges": "planar",
            "covering": {"bbox": {k: ["bbox", k] for k in _BOX}},
        }
        if self.count:
            column["bbox"] = self._bounds.tolist()
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


_BOX = ("xmin", "ymin", "xmax", "ymax")


def _schema(drawing: Drawing) -> pa.Schema:
    import pyarrow as pa

    fields = {
        "id": pa.int64(), "class": pa.uint8(), "name": pa.string(), "pixels": pa.int64(), "area_m2": pa.float64()
    }  # fmt: skip
    if drawing.layer.score is not None:
        fields["mean_score"] = pa.float64()
    if drawing.when is not None:
        fields["datetime"] = pa.timestamp("ms", tz="UTC")
    fields |= {"geometry": pa.binary(), "bbox": pa.struct(dict.fromkeys(_BOX, pa.float64()))}
    return pa.schema(fields)


def write_gpkg(parquet: Path, target: Path, drawing: Drawing) -> Path:
    """The same features as a GeoPackage, row group by row group."""
    import pyarrow.parquet as pq
    import pyogrio

    fresh = target.with_name(f".fresh.{target.name}")
    fresh.unlink(missing_ok=True)
    file = pq.ParquetFile(parquet)
    columns = [n for n in file.schema_arrow.names if n != "bbox"]
    # The one time stamp in the file, so that the same features give the same bytes.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    try:
        for index in range(max(1, file.num_row_groups)):
            table = file.read_row_group(index, columns) if file.num_row_groups else file.read(columns)
            pyogrio.write_arrow(
                table, fresh, driver="GPKG", layer="features", append=index > 0, geometry_name="geometry",
                geometry_type="Polygon", crs=_crs(drawing.grid).to_wkt(),
            )  # fmt: skip
        fresh.replace(target)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        fresh.unlink(missing_ok=True)
    return target
