"""A scene of any size for benchmarks: mirrored copies of a painted one, written strip by strip."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.files import IMAGES, TILE, TRUTHS, DemoScene, create, found, fresh
from pipelines.demo.scene import Progress
from swathe.errors import InputError


def write_large(folder: Path, size: int, tile_scene: DemoScene, progress: Progress | None = None) -> DemoScene:
    """Cover size x size pixels with mirrored copies of a scene, or find that in the folder.

    Mirroring keeps rivers, fields and clouds whole across seams. Memory grows with the width, not the area.
    Raises InputError (size), OutputError (the folder cannot be written).
    """
    if size < tile_scene.size:
        raise InputError(
            f"{size} pixels are fewer than the {tile_scene.size} of the scene to repeat",
            hint="write a scene of that size itself",
            field="size",
            code="demo.size",
        )
    kind = f"mirrored {tile_scene.size}"
    scene = DemoScene(Path(folder), size, tile_scene.seed)
    if not found(scene, kind):
        with fresh(scene, kind) as place:
            _repeat(place, size, tile_scene, progress or (lambda _: None))
    return scene


def _repeat(place: Path, size: int, tile: DemoScene, progress: Progress) -> None:
    import rasterio
    from rasterio.windows import Window

    cols = folded(np.arange(size), tile.size)
    with ExitStack() as stack:
        files = create(place, size, stack)
        sources = {n: stack.enter_context(rasterio.open(tile.folder / f"{n}.tif")) for n in (*IMAGES, *TRUTHS)}
        for top in range(0, size, TILE):
            rows = folded(np.arange(top, min(top + TILE, size)), tile.size)
            first = int(rows.min())
            source = Window(0, first, tile.size, int(rows.max()) + 1 - first)  # pyright: ignore[reportCallIssue]
            target = Window(0, top, size, len(rows))  # pyright: ignore[reportCallIssue]
            for name, file in files.items():
                strip = sources[name].read(window=source)
                file.write(strip[:, rows - first][..., cols], window=target)
            progress(min(1.0, (top + TILE) / size))


def folded(at: NDArray[np.integer], n: int) -> NDArray[np.integer]:
    """Indices into 0..n-1 that run forwards and backwards in turn."""
    lap, rest = at // n, at % n
    return np.where(lap % 2 == 0, rest, n - 1 - rest)
