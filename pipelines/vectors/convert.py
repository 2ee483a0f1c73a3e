"""The program in the sandbox: each layer of a vector file becomes a raster of where its shapes are, and of its numbers.

``main(["/in/file.gpkg", BOUNDS])`` with the bounds as JSON writes ``1.tif``, ``2.tif``, … and ``told.json`` into the
folder in which it starts (``pipelines/sandbox/told.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from pipelines.sandbox.told import Fault, asked, named, tell
from pipelines.vectors.raster import Extent, Grid, drawn, extent_of, grid_of
from pipelines.vectors.source import Layer, batches, layers_of, numbers_of

_BLOCK = 512
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Most:
    """How much is too much."""

    layers: int
    """Of a file."""
    columns: int
    """Of a layer, that become images: the first ones."""
    side: int
    """Pixels along the longer edge."""
    vertices: int
    """Corners of all shapes of a layer."""


@dataclass(frozen=True, slots=True)
class Made:
    """An image, as it is told."""

    file: str
    """Its name."""
    layer: str
    """As people are told it."""
    column: str
    """Whose numbers it holds; empty: 1 where shapes are, and 0, which is nodata, where none is."""
    alone: bool
    """Whether the file has no other layer."""


def main(arguments: Sequence[str]) -> None:
    """Convert, and tell what came of it."""
    tell(lambda: converted(Path(arguments[0]), asked(Most, arguments[1])))


def converted(path: Path, most: Most) -> list[Made]:
    """Images in the folder of now. Raises Fault, and what the libraries raise over a damaged file."""
    found = layers_of(path)
    if len(found) > most.layers:
        raise Fault("size", f"the file has {len(found):,} layers of shapes, {most.layers:,} are taken")
    made: list[Made] = []
    for layer, extent in _drawable(found, most):
        grid = grid_of(layer, extent, most.side)
        records = drawn(partial(batches, layer), grid, extent.dimensions)
        for column in ("", *layer.columns[: most.columns]):
            name = f"{len(made) + 1}.tif"
            image = _numbers(layer, column, records) if column else (records > 0).astype(np.uint8)
            _write(Path(name), grid, image, column or layer.said)
            made.append(Made(name, layer.said, column, len(found) == 1))
    return made


def _drawable(layers: Sequence[Layer], most: Most) -> list[tuple[Layer, Extent]]:
    """Those that hold shapes with a place; the fault of the first one where there are none."""
    found: list[tuple[Layer, Extent]] = []
    faults: list[Fault] = []
    for layer in layers:
        try:
            extent = extent_of(layer, batches(layer), most.vertices)
        except Fault as fault:
            faults.append(fault)
        else:
            if extent is None:
                faults.append(Fault("layers", f"the layer {named(layer.said)} holds no shapes"))
            else:
                found.append((layer, extent))
    if not found:
        raise faults[0]
    return found


def _numbers(layer: Layer, column: str, records: NDArray[np.int32]) -> NDArray[np.float32]:
    """Of the record that is there; NaN where there is none, or where it says nothing."""
    return np.concatenate([np.full(1, np.nan, np.float32), numbers_of(layer, column)])[records]


def _write(path: Path, grid: Grid, image: NDArray[Any], name: str) -> None:
    numbers = image.dtype.kind == "f"
    with rasterio.open(
        path, "w", driver="GTiff", width=grid.shape[1], height=grid.shape[0], count=1, dtype=image.dtype.name,
        crs=grid.crs, transform=grid.transform, nodata=float("nan") if numbers else 0, tiled=True, blockxsize=_BLOCK,
        blockysize=_BLOCK, compress="deflate", predictor=3 if numbers else 1, photometric="minisblack",
    ) as file:  # fmt: skip
        file.write(image, 1)
        file.set_band_description(1, name[:_LONGEST])
