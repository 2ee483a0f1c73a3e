"""The demo scene: two dates of six-band Sentinel-2-like imagery of an invented coast, and the truth about them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.demo import ground, msi, sky
from pipelines.demo.files import TILE, UNSCORED, DemoScene, create, found, fresh
from pipelines.demo.spectra import BANDS
from pipelines.demo.world import World, imagine
from swathe.errors import InputError

__all__ = ["DemoScene", "write"]

SMALLEST = 256
"""Pixels along a side that hold a coast, a river and a fire."""
Progress = Callable[[float], None]


def write(folder: Path, size: int = 4096, seed: int = 2024, progress: Progress | None = None) -> DemoScene:
    """Write the scene into a folder, or find it there.

    The files are int16, reflectance * 10000, nodata -9999, tiled, with common band names; they appear whole or not at
    all. ``progress`` hears shares 0..1. Raises InputError (size), OutputError (the folder cannot be written).
    """
    if size < SMALLEST or size % 2:
        raise InputError(
            f"a demo scene of {size} pixels cannot be made",
            hint=f"choose an even size of at least {SMALLEST}",
            field="size",
            code="demo.size",
        )
    scene = DemoScene(Path(folder), size, seed)
    if not found(scene, "painted"):
        with fresh(scene, "painted") as place:
            _paint(place, imagine(size, seed), progress or (lambda _: None))
    return scene


def _paint(folder: Path, world: World, progress: Progress) -> None:
    """Paint all blocks in threads and write them in order."""
    from rasterio.windows import Window

    corners = [(r, c) for r in range(0, world.size, TILE) for c in range(0, world.size, TILE)]
    with ExitStack() as stack:
        files = create(folder, world.size, stack)
        for done, ((row, col), arrays) in enumerate(_ahead(world, corners), 1):
            for name, array in arrays.items():
                window = Window(col, row, array.shape[-1], array.shape[-2])  # pyright: ignore[reportCallIssue]
                files[name].write(array, window=window)
            progress(done / len(corners))


def _ahead(world: World, corners: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], dict[str, NDArray[Any]]]]:
    """Blocks in order, a few of them in the making while one is written."""
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting = iter(corners)
        queue: list[tuple[tuple[int, int], Future[dict[str, NDArray[Any]]]]] = []
        queue += [(c, pool.submit(paint, world, c)) for c in islice(waiting, workers + 2)]
        while queue:
            corner, block = queue.pop(0)
            yield corner, block.result()
            queue += [(c, pool.submit(paint, world, c)) for c in islice(waiting, 1)]


def paint(world: World, corner: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """One block: pre and post (6, rows, cols) int16; water, burn and clear (1, rows, cols) uint8."""
    spans = [np.arange(c - msi.HALO, min(c + TILE, world.size) + msi.HALO) for c in corner]
    rows, cols = spans
    block = ground.survey(world, rows, cols)
    inner = (slice(msi.HALO, -msi.HALO),) * 2
    images, seen, gone = [], [], []
    for day, (surface, above) in enumerate(((block.before, world.before), (block.after, world.after))):
        clouds = sky.weather(above, rows, cols)
        rng = np.random.default_rng([world.seed, day, *corner])
        images.append(_image(surface, block, above, clouds, rng))
        gone.append(_beyond_swath(rows[inner[0]], cols[inner[1]], world.size, day))
        images[day][:, gone[day]] = msi.NODATA
        seen.append(clouds.clear[inner] & ~gone[day])
    water = np.where(gone[1], UNSCORED, block.water[inner]).astype(np.uint8)
    burn = np.where(seen[0] & ~gone[1], block.burn[inner], UNSCORED).astype(np.uint8)
    clear = seen[1].astype(np.uint8)
    return {"pre": images[0], "post": images[1], "water": water[None], "burn": burn[None], "clear": clear[None]}


def _image(
    surface: ground.Ground, block: ground.Block, above: sky.Sky, clouds: sky.Weather, rng: np.random.Generator
) -> NDArray[np.int16]:
    light = sky.sunlight(above.sun, block.lie.slope, clouds.shade)
    bands = (sky.lit(ground.painted(surface, b), b, light, clouds) for b in range(len(BANDS)))
    return np.stack([msi.expose(seen, b, rng) for b, seen in enumerate(bands)])


def _beyond_swath(rows: NDArray[np.integer], cols: NDArray[np.integer], size: int, day: int) -> NDArray[np.bool_]:
    """Pixels east of the swath's edge, which runs 14 degrees off north and never twice at the same place."""
    edge = size * (1.125 + 0.008 * day) - 0.25 * rows
    return cols[None, :] > edge[:, None]
