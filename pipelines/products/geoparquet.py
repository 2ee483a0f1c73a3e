"""Features as a table: GeoParquet 1.1, written row group by row group, and a GeoPackage made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS

from pipelines.products.ground import Ground
from pipelines.products.layer import LayerSpec
from pipelines.products.lonlat import Floats

if TYPE_CHECKING:
    import pyarrow as pa

Line = tuple[bytes | memoryview, ...]
"""A GeoJSON feature, in pieces."""

_ROWS, _BYTES = 1 << 15, 32 << 20
"""A row group is closed at so many rows, or when it holds so much."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What turns polygons into features."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some polygons, encoded."""

    columns: dict[str, Any]
    """Of the table."""
    bounds: Floats
    """(n, 4) in the grid's CRS."""
    lines: list[Line]
    """GeoJSON features."""


def crs_of(grid: GeoBox) -> CRS:
    """The grid's CRS. Raises ValueError where it has none."""
    if grid.crs is None:
        msg = "features need a CRS"
        raise ValueError(msg)
    return grid.crs.proj


class ParquetWriter:
    """A GeoParquet 1.1 file that grows, row group by row group."""

    def __init__(self, path: Path, drawing: Drawing, more: Mapping[str, str] | None = None) -> None:
        """Create the file; ``more``: further columns, name -> Arrow's type."""
        import pyarrow.parquet as pq

        self._schema = _schema(drawing, more or {})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)
        self._crs = crs_of(drawing.grid)
        self._held: list[pa.Table] = []
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self.count = 0
        self.areas: dict[int, float] = {}

    def __enter__(self) -> Self:
        return self

    def add(self, batch: Batch) -> None:
        """More rows."""
        import pyarrow as pa

        box = {k: batch.bounds[:, i] for i, k in enumerate(_BOX)}
        bbox = pa.StructArray.from_arrays([pa.array(v) for v in box.values()], names=list(_BOX))
        self._held.append(pa.table(batch.columns | {"bbox": bbox}, schema=self._schema))
        self._note(batch)
        if sum(t.num_rows for t in self._held) >= _ROWS or sum(t.nbytes for t in self._held) >= _BYTES:
            self._flush()

    def _note(self, batch: Batch) -> None:
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


def _schema(drawing: Drawing, more: Mapping[str, str]) -> pa.Schema:
    import pyarrow as pa

    fields = {
        "id": pa.int64(), "class": pa.uint8(), "name": pa.string(), "pixels": pa.int64(), "area_m2": pa.float64()
    }  # fmt: skip
    if drawing.layer.score is not None:
        fields["mean_score"] = pa.float64()
    if drawing.when is not None:
        fields["datetime"] = pa.timestamp("ms", tz="UTC")
    fields |= {name: pa.type_for_alias(kind) for name, kind in more.items()}
    fields |= {"geometry": pa.binary(), "bbox": pa.struct(dict.fromkeys(_BOX, pa.float64()))}
    return pa.schema(fields)


def write_gpkg(parquet: Path, target: Path, drawing: Drawing) -> Path:
    """The same features as a GeoPackage, row group by row group. Raises OSError where it cannot be written."""
    import pyarrow.parquet as pq
    import pyogrio
    from pyogrio.errors import DataSourceError

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
                geometry_type="Polygon", crs=crs_of(drawing.grid).to_wkt(),
            )  # fmt: skip
        fresh.replace(target)
    except DataSourceError as error:
        raise OSError(str(error)) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
        fresh.unlink(missing_ok=True)
    return target
