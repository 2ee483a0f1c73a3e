"""How much of the area each scene shows, and how much of that is clear: measured in its mask, seen from afar."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from pipelines.imagery.area import inside
from pipelines.mosaic import masks
from pipelines.mosaic.frame import LONLAT, Frame, transformer, unit_m
from pipelines.mosaic.grid import OutputGrid
from pipelines.mosaic.observe import Observer
from pipelines.mosaic.omnicloudmask import RANGE_M, REFUSALS
from swathe.errors import ImageryError, ReadError
from swathe.scene import Scene
from swathe.source import MaskRule, SourceMask
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener

ACROSS = 512
"""Pixels along the longer side of the area in which it is measured."""
THREADS = 8
"""Masks read side by side."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One scene over the area."""

    clear: float
    """Share of the area that is clear, 0..1."""
    valid: float
    """Share of the area that has data, 0..1."""
    where: NDArray[np.uint8]
    """The clear pixels, packed: of the same pixels for all scenes."""
    cloudy: float
    """Share of the area under what the mask drops as cloud, cirrus or shadow, 0..1."""
    shown: NDArray[np.uint8]
    """The pixels that have data, packed likewise."""
    under: NDArray[np.uint8]
    """Those under cloud, cirrus or shadow."""

    @property
    def cloud(self) -> float:
        """The same in percent of where the scene has data at all."""
        return 100.0 * self.cloudy / self.valid if self.valid else 0.0


@dataclass(frozen=True)
class Measured:
    """All scenes over the area."""

    scenes: tuple[Scene, ...]
    """As given, with ``clear`` filled in where it could be measured."""
    seen: Mapping[tuple[str, str, str], Seen]
    """By ``Scene.key``; a scene whose mask could not be read is missing."""
    pixels: int
    """Pixels of the area in which was measured."""
    lost: tuple[tuple[str, str], ...] = ()
    """(scene, reason) of masks that could not be read."""

    def together(self, scenes: Iterable[Scene]) -> float:
        """Share of the area that is clear in any of these scenes, 0..1."""
        found = [self.seen[s.key].where for s in scenes if s.key in self.seen]
        if not found:
            return 0.0
        return _count(np.bitwise_or.reduce(found)) / self.pixels

    def cloud(self, scenes: Iterable[Scene]) -> float | None:
        """Percent of what these scenes show of the area that is under cloud in one of them and clear in none.

        None where none of them has a mask that could be read.
        """
        found = [self.seen[s.key] for s in scenes if s.masked and s.key in self.seen]
        if not found:
            return None
        each = zip(*((s.shown, s.where, s.under) for s in found), strict=True)
        shown, clear, under = map(np.bitwise_or.reduce, each)
        return 100.0 * _count(under & ~clear) / max(1, _count(shown))


def measure(
    scenes: Sequence[Scene], grid: OutputGrid, mask: SourceMask | None, opener: Opener, across: int = ACROSS
) -> Measured:
    """Look at the mask of every scene on a coarse grid over the area. Buffers around clouds are left out.

    A scene without a mask counts as clear where its footprint lies. What cannot be read is told, and not measured.
    """
    frame, window = _from_afar(grid, across, _coarsest(grid.frame, mask))
    area = inside(grid.area, Affine(*frame.transform(Window(0, 0, 1, 1))), window)
    wanted = np.ones((window.height, window.width), bool) if area is None or not area.any() else area
    observer = Observer(opener, frame, mask)

    def look(scene: Scene) -> Seen | str:
        try:
            return _seen(_states(scene, observer, frame, window), wanted)
        except (ReadError, ImageryError) as error:
            if error.refined in REFUSALS:
                raise
            return error.detail

    with ThreadPoolExecutor(THREADS, thread_name_prefix="measure") as pool:
        found = dict(zip((s.key for s in scenes), pool.map(look, scenes), strict=True))
    seen = {key: value for key, value in found.items() if isinstance(value, Seen)}
    lost = tuple((s.id, reason) for s in scenes if isinstance(reason := found[s.key], str))
    filled = tuple(replace(s, clear=round(seen[s.key].clear, 6)) if s.key in seen else s for s in scenes)
    return Measured(filled, seen, int(wanted.sum()), lost)


def _coarsest(frame: Frame, mask: SourceMask | None) -> float:
    """How many times coarser than the grid a mask may be seen: a network only as far as it was made for."""
    if mask is None or mask.rule is not MaskRule.OMNICLOUDMASK:
        return math.inf
    return RANGE_M[1] // (frame.res * unit_m(frame.crs))


def _from_afar(grid: OutputGrid, across: int, coarsest: float) -> tuple[Frame, Window]:
    """The area in few pixels: of the grid itself where it is small."""
    coarser = max(1, int(min(coarsest, math.ceil(max(grid.shape) / across))))
    frame = Frame(grid.frame.crs, grid.frame.res * coarser)
    x, y = grid.frame.phase
    top, left = (grid.window.row - y) / coarser, (grid.window.col + x) / coarser
    bottom, right = (grid.window.bottom - y) / coarser, (grid.window.right + x) / coarser
    row, col = math.floor(top), math.floor(left)
    return frame, Window(row, col, math.ceil(bottom) - row, math.ceil(right) - col)


def _states(scene: Scene, observer: Observer, frame: Frame, window: Window) -> NDArray[np.uint8]:
    if not scene.masked or observer.mask is None:
        return _footprint(scene, frame, window)
    return observer.states(scene, window)


def _footprint(scene: Scene, frame: Frame, window: Window) -> NDArray[np.uint8]:
    """Clear inside the footprint."""
    found = np.zeros((window.height, window.width), np.uint8)
    turn = transformer(frame.crs, LONLAT)
    a, _, c, _, e, f = frame.transform(window)
    cols, rows = np.meshgrid(np.arange(window.width) + 0.5, np.arange(window.height) + 0.5)
    lon, lat = turn.transform(c + a * cols, f + e * rows)
    lon = np.asarray((np.asarray(lon) + 180.0) % 360.0 - 180.0)
    found[shapely.contains_xy(shapely.from_wkb(scene.footprint), lon, np.asarray(lat))] = masks.CLEAR
    return found


def _seen(states: NDArray[np.uint8], wanted: NDArray[np.bool_]) -> Seen:
    total = int(wanted.sum())
    clear = (states == masks.CLEAR) & wanted
    data = (states != masks.NOTHING) & wanted
    cloudy = (states == masks.CLOUDY) & wanted
    return Seen(int(clear.sum()) / total, int(data.sum()) / total, np.packbits(clear), int(cloudy.sum()) / total,
                np.packbits(data), np.packbits(cloudy))  # fmt: skip


def _count(packed: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(packed).sum())
