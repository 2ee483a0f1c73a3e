"""Part files: what one chunk leaves on disk. Rows come in, whole files stay behind, or nothing at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.windows
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError  # pyright: ignore[reportMissingModuleSource]  what rasterio.shutil lets through
from rasterio.errors import RasterioError

from pipelines.products.ground import ground_of
from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec, RasterSpec
from pipelines.products.merge import save
from pipelines.products.quantise import Stored, quantise
from pipelines.products.shapes import ShapeRules, Tracer
from swathe.errors import OutputError
from swathe.lattice import Chunk
from swathe.raster import Raster
from swathe.window import Window

SHAPES = "shapes.npz"
"""Ending of a chunk's file of shapes."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a chunk has written."""

    key: str
    """Of the chunk."""
    files: dict[str, int]
    """Name -> bytes."""
    valid: int
    """Pixels with a result."""
    counts: dict[int, int]
    """Of classes: class value -> pixels."""


class PartWriter:
    """Takes a chunk's rows from top to bottom; a context manager.

    On leaving it without an error the files stand under their names, all of them; after an error none does, and
    nothing temporary is left. Memory: 512 rows of the chunk (64 of a long embedding), and what the tracer keeps.
    """

    def __init__(
        self,
        folder: Path,
        chunk: Chunk,
        spec: LayerSpec,
        *,
        grid: GeoBox,
        rules: ShapeRules | None = None,
        attempt: str = "0",
    ) -> None:
        """``grid`` is the whole output grid; with ``rules`` the chunk's shapes are traced; ``attempt`` tells apart."""
        self._folder, self._chunk, self._spec, self._attempt = folder, chunk, spec, attempt
        window = chunk.window
        self._band = min(max(r.block for r in spec.rasters), window.height)
        self._rasters = [_Writer(self._temporary(f"{r.name}.tif"), r, window, grid, self._band) for r in spec.rasters]
        traced = spec.kind is Kind.CLASSES and rules is not None
        self._tracer = Tracer(window, ground_of(grid).frame, spec, rules) if traced and rules is not None else None
        self._row = window.row
        self._counts = np.zeros(256, np.int64)
        self._valid = 0
        self.part: Part | None = None

    def __enter__(self) -> Self:
        with refusals(self._folder):
            for raster in self._rasters:
                raster.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with refusals(self._folder):
                    self.part = self._commit()
        finally:
            for raster in self._rasters:
                raster.discard()
            for name in self._names():
                self._temporary(name).unlink(missing_ok=True)

    def write(self, raster: Raster, beside: Mapping[str, Stored] | None = None) -> None:
        """The next rows, over the full width of the chunk. Raises OutputError where the disk is full.

        ``beside``: rows of files that the model did not make, name -> (bands, H, W).
        """
        window = self._chunk.window
        if (raster.row, raster.col, raster.data.shape[2]) != (self._row, window.col, window.width):
            msg = (
                f"rows at {raster.row}, {raster.col} x {raster.data.shape[2]} do not follow row {self._row} of {window}"
            )
            raise ValueError(msg)
        self._row += raster.data.shape[1]
        stored = quantise(raster.data, raster.mask, self._spec) | dict(beside or {})
        with refusals(self._folder):
            for rows in _cuts(raster.row - window.row, raster.data.shape[1], self._band):
                self._append({name: array[:, rows] for name, array in stored.items()})

    def _append(self, stored: dict[str, Stored]) -> None:
        """Rows that do not cross from one band into the next."""
        for raster in self._rasters:
            raster.fill(stored[raster.spec.name])
        if self._rasters[0].full:
            self._flush()

    def _flush(self) -> None:
        blocks = {raster.spec.name: raster.flush() for raster in self._rasters}
        result = blocks["result"]
        if self._spec.kind is not Kind.CLASSES:
            valid = result[0] != CLASS_NODATA if self._spec.kind is Kind.PICTURE else ~np.isnan(result[0])
            self._valid += int(np.count_nonzero(valid))
            return
        self._counts += np.bincount(result[0].ravel(), minlength=256)
        if self._tracer is not None:
            self._tracer.add(result[0], blocks["score"][0] if "score" in blocks else None)

    def _commit(self) -> Part:
        if self._row != self._chunk.window.bottom:
            msg = f"rows end at {self._row} of {self._chunk.window}"
            raise ValueError(msg)
        for raster in self._rasters:
            raster.close()
        if self._tracer is not None:
            save(self._tracer.finish(), self._temporary(SHAPES))
        files = {}
        for name in self._names():
            target = self._folder / f"{self._chunk.key}.{name}"
            self._temporary(name).replace(target)
            files[target.name] = target.stat().st_size
        counts = {c.value: int(self._counts[c.value]) for c in self._spec.classes}
        return Part(self._chunk.key, files, self._valid + sum(counts.values()), counts)

    def _names(self) -> list[str]:
        names = [f"{r.spec.name}.tif" for r in self._rasters]
        return [*names, SHAPES] if self._tracer is not None else names

    def _temporary(self, name: str) -> Path:
        return self._folder / f".{self._chunk.key}.{name}.{self._attempt}"


class _Writer:
    """One growing file: collects a band of rows, a row of its blocks, then writes them."""

    def __init__(self, path: Path, spec: RasterSpec, window: Window, grid: GeoBox, band: int) -> None:
        self.spec = spec
        self._path, self._window, self._grid = path, window, grid
        self._file: Any = None
        self._buffer: Stored = np.empty((spec.count, band, window.width), spec.dtype)
        self._held = 0
        self._done = 0

    @property
    def full(self) -> bool:
        """Whether a band, or what is left of the chunk, is together."""
        return self._held == min(self._buffer.shape[1], self._window.height - self._done)

    def open(self) -> None:
        """Create the file."""
        self._file = rasterio.open(self._path, "w", **_profile(self.spec, self._window, self._grid))

    def fill(self, rows: Stored) -> None:
        """Append rows to what is held."""
        self._buffer[:, self._held : self._held + rows.shape[1]] = rows
        self._held += rows.shape[1]

    def flush(self) -> Stored:
        """Write what is held, and give it out until the next ``fill``."""
        rows = self._buffer[:, : self._held]
        place = rasterio.windows.Window(0, self._done, self._window.width, self._held)  # pyright: ignore[reportCallIssue]  attrs class
        self._file.write(rows, window=place)
        self._done, self._held = self._done + self._held, 0
        return rows

    def close(self) -> None:
        """Finish the file. Raises OSError where it is not whole: GDAL does not tell when closing fails."""
        self._file.close()
        self._file = None
        with rasterio.open(self._path) as file:
            size = self._path.stat().st_size
            if any(end is None or end > size for end in block_ends(file)):
                raise OSError(errno.ENOSPC, "the file was cut short", self._path.name)

    def discard(self) -> None:
        """Let go of a file that will not be finished."""
        if self._file is not None:
            with rasterio.Env(CPL_LOG_ERRORS="OFF"):
                self._file.close()
            self._file = None


def block_ends(file: rasterio.DatasetReader) -> Iterator[int | None]:
    """Where each block of the first band ends in the file; None: it was never written."""
    for (row, col), _ in file.block_windows(1):
        start = file.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", 1)
        length = file.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", 1)
        yield int(start) + int(length) if start and length else None


def _profile(spec: RasterSpec, window: Window, grid: GeoBox) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": window.height,
        "width": window.width,
        "count": spec.count,
        "dtype": spec.dtype,
        "nodata": spec.nodata,
        "crs": None if grid.crs is None else grid.crs.to_wkt(),
        "transform": grid[window.row : window.bottom, window.col : window.right].transform,
        "tiled": True,
        "blockxsize": spec.block,
        "blockysize": spec.block,
        "compress": "ZSTD",
        "zstd_level": 1,
        "interleave": "pixel",
        "bigtiff": "IF_SAFER",
    }


def _cuts(row: int, height: int, band: int) -> Iterator[slice]:
    """Cut ``height`` rows that start at ``row`` where multiples of ``band`` lie."""
    top = 0
    while top < height:
        bottom = min(height, top + band - (row + top) % band)
        yield slice(top, bottom)
        top = bottom


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Turn what GDAL and the system say about a full or locked disk into an OutputError."""
    try:
        yield
    except (OSError, RasterioError, CPLE_BaseError) as error:
        raise refusal(error, folder) from error


def refusal(error: BaseException, folder: Path) -> OutputError:
    """The OutputError for a failed write."""
    text, link = "", error
    while link is not None:
        text, link = f"{text} {link}", link.__cause__ or link.__context__
    number = error.errno if isinstance(error, OSError) else None  # GDAL's errors have numbers of their own
    if number in _LOCKED or "Permission denied" in text or "Read-only file system" in text:
        return OutputError(
            f"{folder} cannot be written to", hint="choose another folder", field="out", code="output.readonly"
        )
    # GDAL hides the system's error number; a write that fails half-way is nearly always a full disk.
    code = "output.full" if number is None or number in _FULL else "output.failed"
    return OutputError(
        f"writing to {folder} failed: {' '.join(text.split())[:200]}",
        hint="free some space, then run the same command again: it continues where it stopped",
        field="out",
        code=code,
    )


def disk_full(error: BaseException) -> bool:
    """Whether the system says that there is no room: a full disk, or a quota that is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


_LOCKED = (errno.EACCES, errno.EROFS, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
