"""Tiles of a run's own imagery, on which an export is compared with its original, beside random ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from models.prepare import to_model_units
from pipelines.imagery.gdal import Access
from pipelines.imagery.readers import WindowReader, reader_of
from pipelines.remote.network import Network
from swathe.errors import SwatheError
from swathe.plan import Work
from swathe.window import Window

COUNT = 8
"""As many are taken, at most."""
_TRIED = 4
"""Places along either side."""
NAME = "tiles.npz"


@contextmanager
def real_tiles(work: Callable[[], Work], network: Network | None) -> Iterator[Callable[[], Path | None]]:
    """What gives a file of them (array ``tiles``, (M, T, C, h, w) in model units) as long as the context lasts.

    Nothing is read before it is asked: a model that is registered needs none. It gives None where no tile can be had:
    then random tiles have to do, and what is wrong with the imagery is told by the run itself.
    """
    with tempfile.TemporaryDirectory(prefix="tiles-") as folder:
        yield lambda: _written(work, network, Path(folder) / NAME)


def _written(work: Callable[[], Work], network: Network | None, path: Path) -> Path | None:
    try:
        tiles = _taken(work(), network)
    except SwatheError:
        return None
    if not tiles:
        return None
    np.savez(path, tiles=np.stack(tiles))
    return path


def _taken(work: Work, network: Network | None) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    with closing(reader_of(work, Access(), network, work.card.input.chip)) as reader:
        for window in _spread(work):
            tile = _tile(reader, work, window)
            if tile is not None:
                found.append(tile)
            if len(found) == COUNT:
                break
    return found


def _tile(reader: WindowReader, work: Work, window: Window) -> np.ndarray | None:
    """None: nothing in it is valid."""
    stack = reader.read(work.pixels_of(window))
    return to_model_units(stack, work.card.input) if stack.mask.any() else None


def _spread(work: Work) -> Iterator[Window]:
    """Places all over the grid; those that would lie beyond its edge overhang it."""
    side = work.card.input.chip // work.stride
    rows, cols = ({int(at) for at in np.linspace(0, max(0, n - side), _TRIED)} for n in work.shape)
    for row in sorted(rows):
        for col in sorted(cols):
            yield Window(row, col, side, side)
